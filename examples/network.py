#!/usr/bin/env python3
"""Network namespace (exercise): a network stack with loopback up, so that ping works."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

from both_sides import BothSides

import minidocker

INTERFACES = ["sh", "-c", "cd /sys/class/net && echo *"]

# The container has no other process, so the command is server and client in one.
ECHO = """
import socket
server = socket.create_server(("127.0.0.1", {port}))
client = socket.create_connection(("127.0.0.1", {port}), timeout=5)
print(server.getsockname()[1])
"""

# The part of ping(8) that matters, for machines without it: one echo request and its reply.
PING = """
import socket
icmp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
icmp.settimeout(5)
icmp.sendto(b"\\x08\\0\\0\\0\\0\\0\\0\\1minidocker", ("127.0.0.1", 0))
reply = icmp.recv(100)
assert reply[0] == 0 and reply.endswith(b"minidocker"), reply
print("1 packet transmitted, 1 received")
"""


def ping() -> list[str]:
    """Return a command that sends one echo request to the loopback interface."""
    if shutil.which("ping"):
        return ["ping", "-c", "1", "-W", "5", "127.0.0.1"]
    if shutil.which("busybox"):
        return ["busybox", "ping", "-c", "1", "-W", "5", "127.0.0.1"]
    return [sys.executable, "-c", PING]


def main() -> int:
    sides = BothSides(__doc__)
    with minidocker.Container() as box, socket.create_server(("127.0.0.1", 0)) as server:

        def inside(*command: str) -> str:
            return box.run(command, capture_output=True, text=True, check=True).stdout.strip()

        here = subprocess.run(INTERFACES, capture_output=True, text=True, check=True).stdout.strip()
        there = inside(*INTERFACES)
        sides.row("interfaces", here, there)

        up = bool(int(inside("cat", "/sys/class/net/lo/flags"), 16) & 1)
        sides.row("lo is up", bool(int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1), up)

        # The host's port is taken; the container has ports of its own.
        port = server.getsockname()[1]
        served = inside(sys.executable, "-c", ECHO.format(port=port))
        sides.row(f"port {port}", "taken by this script", "free, and now served there")

        pinged = box.run(ping(), capture_output=True, text=True)
        sides.row("ping 127.0.0.1", "", next(filter(counts, pinged.stdout.splitlines()), "failed"))

        own, theirs = minidocker.namespaces()["net"], box.namespaces()["net"]
        sides.row("network namespace", own, theirs)

    sides.shows("loopback is the container's only interface", there == "lo")
    sides.shows("it is up", up)
    sides.shows("ping works, as a plain user too", pinged.returncode == 0)
    sides.shows("a port that the host uses is free inside", served == str(port))
    sides.shows("they are in different network namespaces", own != theirs)
    return sides.print()


def counts(line: str) -> bool:
    return "received" in line


if __name__ == "__main__":
    sys.exit(main())
