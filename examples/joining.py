#!/usr/bin/env python3
"""Joining namespaces (exercise): a second command in a running container, like `docker exec`.

joining.py                   start a container, enter it, and compare
joining.py PID COMMAND ...   run a command in the container that process PID is in
"""

import subprocess
import sys

from both_sides import BothSides

import minidocker

FIRST = "mkdir -p /dev/shm/left-by-the-first; echo $$; read -r _"
SECOND = "echo $$; uname -n; ls /dev/shm; for pid in /proc/[0-9]*; do echo ${pid#/proc/}; done"


def enter(pid: int, command: list[str]) -> int:
    """Run a command as docker exec does, and return its exit status."""
    with minidocker.attach(pid) as container:
        returncode = container.run(command).returncode
    return 128 - returncode if returncode < 0 else returncode


def compare() -> int:
    sides = BothSides(
        "Joining namespaces: a second command enters the container of the first",
        ("first command", "second command"),
    )
    with minidocker.Popen(
        ["sh", "-c", FIRST],
        hostname="db",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        first_pid = int(first.stdout.readline())

        # attach() takes the pid of any process that the caller may trace.
        with minidocker.attach(first.pid) as container:
            done = container.run(["sh", "-c", SECOND], capture_output=True, text=True, check=True)
            second_pid, hostname, left, *pids = done.stdout.split()
            with container.popen(["sleep", "1000"]) as second:
                theirs, ours = minidocker.namespaces(first), minidocker.namespaces(second)
                shared = theirs.shared_with(ours)
                second.kill()
        first.stdin.close()

    sides.row("pid inside", first_pid, second_pid)
    sides.row("hostname", "db", hostname)
    sides.row("/dev/shm", "left-by-the-first", left)
    for kind, inode in theirs.items():
        sides.row(f"{kind} namespace", inode, ours[kind])

    sides.shows("the first command is PID 1", first_pid == 1)
    sides.shows("the second one is not, and sees the first", int(second_pid) > 1 and "1" in pids)
    sides.shows("it has the container's hostname", hostname == "db")
    sides.shows("it finds the directory that the first one made", left == "left-by-the-first")
    sides.shows("all their namespaces are the same", shared == set(theirs))
    return sides.print()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(compare())
    if len(sys.argv) == 2 or not sys.argv[1].isdigit():
        sys.exit("usage: joining.py [PID COMMAND [ARG ...]]")
    sys.exit(enter(int(sys.argv[1]), sys.argv[2:]))
