"""Host names in the UTS namespaces of other processes, which ``/proc`` does not tell."""

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

# A small interpreter asks, and forks for each process that it asks about: this process may have
# threads, of which none may enter a user namespace, and after a fork of which nothing is sure.
# Those that enter run nothing from inside, are not in the container's PID namespace, and make
# themselves untraceable first, so that nobody inside can read them.
# Each of its arguments is a pid, the flags to enter with, and flags to try then (0 for none).
_ASK = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
PR_SET_DUMPABLE = 4

def enter(pid, *ways):
    target = os.pidfd_open(pid)
    return libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and any(
        flags and libc.setns(target, flags) == 0 for flags in ways
    )

for question in sys.argv[1:]:
    pid, *ways = map(int, question.split(":"))
    child = os.fork()
    if child == 0:
        try:
            if enter(pid, *ways):
                name = os.fsencode(os.uname().nodename)
                os.write(1, b"%d %s\\0" % (pid, name))
        except OSError:
            pass  # it has ended: no name is an answer too
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def hostname_of(pid: int) -> str | None:
    """Return the host name in the UTS namespace of ``pid``, None where it cannot be told."""
    return hostnames_of([pid])[pid]


def hostnames_of(pids: Iterable[int]) -> dict[int, str | None]:
    """Return pid → host name in its UTS namespace, None where it cannot be told.

    Args:
        pids: processes, as the caller's PID namespace has them.
    """
    names: dict[int, str | None] = {}
    questions = []
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
            questions.append(_question(pid, own_user=theirs["user"] == ours["user"]))
    if questions:
        # Isolated and without site: nothing of the caller's environment has a say in it.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _ASK, *questions],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        for answer in done.stdout.split(b"\0")[:-1]:
            number, _, name = answer.partition(b" ")
            names[int(number)] = os.fsdecode(name) or None
    return names


def _question(pid: int, *, own_user: bool) -> str:
    # Without privileges here, they have to come from the container's own user namespace.
    with_user = 0 if own_user else CloneFlags.NEWUSER | CloneFlags.NEWUTS
    return f"{pid}:{int(CloneFlags.NEWUTS)}:{int(with_user)}"
