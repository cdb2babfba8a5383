"""Host names in the UTS namespaces of other processes, which ``/proc`` does not show."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from minidocker._flags import CloneFlags
from minidocker._inspect import proc

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECONDS = 30.0

# A second interpreter reads the names, and forks for each process. This process cannot: it may have
# threads, so it may not enter a user namespace, and a fork of it would be unsafe. A child that
# enters runs no code from inside, is not in the container's PID namespace, and is made untraceable
# first, so no process inside can read its memory.
# Each argument is a pid, the flags to enter with, and flags to try after them (0 for none).
_READ_NAMES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
PR_SET_DUMPABLE = 4

def enter(pid, *ways):
    target = os.pidfd_open(pid)
    return libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and any(
        flags and libc.setns(target, flags) == 0 for flags in ways
    )

for request in sys.argv[1:]:
    pid, *ways = map(int, request.split(":"))
    child = os.fork()
    if child == 0:
        try:
            if enter(pid, *ways):
                name = os.fsencode(os.uname().nodename)
                os.write(1, b"%d %s\\0" % (pid, name))
        except OSError:
            pass  # the process has ended: print no name
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def hostname_of(pid: int) -> str | None:
    """Return the host name in the UTS namespace of ``pid``, None if it is unknown."""
    return hostnames_of([pid])[pid]


def hostnames_of(pids: Iterable[int]) -> dict[int, str | None]:
    """Return pid → host name in its UTS namespace, None if it is unknown.

    Args:
        pids: process ids in the caller's PID namespace.
    """
    names: dict[int, str | None] = {}
    requests = []
    ours = proc.namespace_inodes()
    for pid in pids:
        names[pid] = None
        try:
            theirs = proc.namespace_inodes(pid)
        except OSError:
            continue
        if theirs["uts"] == ours["uts"]:
            names[pid] = os.uname().nodename
        else:
            requests.append(_request(pid, own_user=theirs["user"] == ours["user"]))
    if requests:
        # Isolated and without site: the caller's environment has no effect on it.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _READ_NAMES, *requests],
            # Not DEVNULL, which needs a /dev without nodev.
            input=b"",
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
        for answer in done.stdout.split(b"\0")[:-1]:
            number, _, name = answer.partition(b" ")
            names[int(number)] = os.fsdecode(name) or None
    return names


def _request(pid: int, *, own_user: bool) -> str:
    # Without privileges here, the child gets them in the container's own user namespace.
    with_user = 0 if own_user else CloneFlags.NEWUSER | CloneFlags.NEWUTS
    return f"{pid}:{int(CloneFlags.NEWUTS)}:{int(with_user)}"
