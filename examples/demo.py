#!/usr/bin/env python3
"""Run one command in a container, and look at it from both sides.

The same shell script describes what it sees, once on the host and once in a container with its
own host name, processes, network and users. Then the host looks at the container's process.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import minidocker

HOSTNAME = "mycontainer"

# Print what a process sees of itself and its machine, one `name: value` a line.
LOOK = r"""
echo "host name: $(uname -n)"
echo "own PID: $$"
set -- /proc/[0-9]*; echo "processes: $#"
echo "network: $(cd /sys/class/net && echo *)"
echo "user: $(id -u) ($(id -un))"
while read -r inside outside count; do
    echo "user map: $inside -> $outside, $count in all"; break
done </proc/self/uid_map
for kind in uts pid net mnt ipc user cgroup; do
    echo "namespace $kind: $(readlink /proc/self/ns/$kind | tr -dc 0-9)"
done
"""

# Print the same, then wait for the end of standard input, so that the host can inspect the process.
LOOK_AND_STAY = LOOK + "echo end; read -r _"


def seen(lines: list[str]) -> dict[str, str]:
    """Return the values that LOOK printed, by name."""
    pairs = (line.rstrip("\n").partition(": ") for line in lines)
    return {name: value for name, separator, value in pairs if separator}


def table(title: str, host: Mapping[str, str], container: Mapping[str, str]) -> None:
    """Print the values of both sides next to each other."""
    rows = [(name, host[name], container[name]) for name in host]
    cells = [(title, "host", "container"), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]

    def line(row: tuple[str, str, str], mark: str) -> str:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"  {' │ '.join(padded)} │ {mark}".rstrip()

    print(line(cells[0], ""))
    print("  " + "─┼─".join("─" * width for width in widths) + "─┤")
    for row in rows:
        print(line(row, "own" if row[1] != row[2] else "shared"))


def from_outside(pid: int) -> dict[str, str]:
    """Return what the host's /proc says about a process, by its host PID."""
    rows = dict(row.split(":\t", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines())
    host_pid, *inner = rows["NSpid"].split()
    return {
        "PID on the host": host_pid,
        "PID in the container": inner[-1] if inner else host_pid,
        "user on the host": rows["Uid"].split()[0],
        "parent on the host": rows["PPid"],
    }


def milliseconds(start: float) -> float:
    """Return the time since `start`."""
    return (time.perf_counter() - start) * 1000


def median_time(run: Callable[..., object], **options: object) -> float:
    """Return the median time of 50 runs of a command that does nothing, in milliseconds."""
    command = [shutil.which("true") or "/bin/true"]
    times = []
    for _ in range(50):
        start = time.perf_counter()
        run(command, check=True, **options)
        times.append(milliseconds(start))
    return statistics.median(times)


def main() -> int:
    """Run the demonstration, and return 0 if every check holds."""
    print(f"Linux {platform.release()}, Python {platform.python_version()}, user {os.geteuid()}\n")

    print(f'minidocker.run(["uname", "-n"], hostname="{HOSTNAME}")')
    done = minidocker.run(
        ["uname", "-n"], hostname=HOSTNAME, capture_output=True, text=True, check=True
    )
    print(f"  {done.stdout!r} in {done.usage.wall * 1000:.2f} ms, exit status {done.returncode}\n")

    name_before = platform.node()
    host = seen(
        subprocess.run(
            ["sh", "-c", LOOK], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )
    with minidocker.Popen(
        ["sh", "-c", LOOK_AND_STAY],
        hostname=HOSTNAME,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        container = seen(list(iter(process.stdout.readline, "end\n")))
        outside = from_outside(process.pid)
        process.stdin.close()

    table("the same script", host, container)
    print("\nThe container's process, seen from the host:")
    for name, value in outside.items():
        print(f"  {name.ljust(22)}{value}")

    bare = median_time(subprocess.run)
    contained = median_time(minidocker.run, hostname=HOSTNAME)
    print("\nThe median of 50 runs of a command that does nothing:")
    print(f"  subprocess.run        {bare:5.2f} ms")
    print(f"  minidocker.run        {contained:5.2f} ms, in seven new namespaces")

    checks = {
        "the command saw its own host name": done.stdout == f"{HOSTNAME}\n",
        "the host's name is unchanged": platform.node() == name_before != HOSTNAME,
        "the command was PID 1 inside and had another PID outside": (
            container["own PID"] == "1" == outside["PID in the container"]
            and outside["PID on the host"] == str(process.pid) != "1"
        ),
        "it saw its own processes only": int(container["processes"]) < int(host["processes"]),
        "its only network interface was loopback": container["network"] == "lo",
        "it was root inside, and the caller outside": (
            container["user"].startswith("0 ") and outside["user on the host"] == str(os.geteuid())
        ),
        "all seven namespaces were its own": all(
            container[name] != host[name] for name in host if name.startswith("namespace ")
        ),
        "its process is gone": process.returncode is not None
        and not Path(f"/proc/{process.pid}").exists(),
    }
    print()
    for what, held in checks.items():
        print(f"  {'ok' if held else 'NO'}  {what}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
