#!/usr/bin/env python3
"""UTS namespace: a container has a host name of its own, invisible to the host."""

import os
import subprocess
import sys

from both_sides import BothSides

import minidocker

HOSTNAME = "mycontainer"
ASK = ["uname", "-n"]


def output(process) -> str:
    return process.stdout.strip()


def main() -> int:
    sides = BothSides(__doc__)
    before = os.uname().nodename

    with minidocker.Container(hostname=HOSTNAME) as box:
        inside = output(box.run(ASK, capture_output=True, text=True, check=True))
        outside = output(subprocess.run(ASK, capture_output=True, text=True, check=True))
        sides.row("uname -n", outside, inside)

        # Root inside may rename the container at any time.
        rename = "import socket; socket.sethostname('renamed')"
        box.run([sys.executable, "-c", rename], check=True)
        renamed = output(box.run(ASK, capture_output=True, text=True, check=True))
        sides.row("after a rename inside", os.uname().nodename, renamed)

        own, theirs = minidocker.namespaces(), box.namespaces()
        sides.row("UTS namespace", own["uts"], theirs["uts"])

    sides.shows("the container has the given name", inside == HOSTNAME)
    sides.shows("the host has another name", outside == before != HOSTNAME)
    sides.shows("a rename inside is visible only inside", renamed == "renamed")
    sides.shows("the host still has its name", os.uname().nodename == before)
    sides.shows("they are in different UTS namespaces", own["uts"] != theirs["uts"])
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
