#!/usr/bin/env python3
"""PID namespace: the command is PID 1 inside, and an ordinary process on the host."""

import os
import subprocess
import sys
from pathlib import Path

from both_sides import BothSides

import minidocker

# Print the ids, then wait for the end of standard input, so that the host can look meanwhile.
LOOK = """
echo $$
set -- /proc/[0-9]*; echo $#
sleep 1000 & echo $!
read -r _
"""


def pids_of(pid: int) -> list[int]:
    """Return the pids of a process: the host's first, that of its own PID namespace last."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    raise LookupError(pid)


def main() -> int:
    sides = BothSides(__doc__)
    with minidocker.Popen(
        ["sh", "-c", LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        own, seen, sleeper = (int(process.stdout.readline()) for _ in range(3))
        on_the_host = sum(name.isdigit() for name in os.listdir("/proc"))

        # A process is also in all PID namespaces above its own, under other ids.
        with minidocker.attach(process.pid) as box:
            processes = box.processes()
        for found in processes:
            sides.row(found.command.splitlines()[0][:24], found.pid, found.container_pid)
        sides.row("processes that it sees", on_the_host, seen)
        both = pids_of(process.pid)
        sleeper_outside = next(row.pid for row in processes if row.container_pid == sleeper)
        process.stdin.close()

    sides.shows("the command is PID 1 inside", own == 1)
    sides.shows("the host has another pid for it", process.pid != 1)
    sides.shows("both pids are in /proc/PID/status", both[0] == process.pid and both[-1] == 1)
    sides.shows("inside there is no other process", seen == 1)
    gone = not Path(f"/proc/{sleeper_outside}").exists()
    sides.shows("when PID 1 ended, the kernel killed its child too", gone)
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
