"""The host name in another process's UTS namespace, which ``/proc`` does not tell."""

from __future__ import annotations

import os
import subprocess
import sys

from minidocker import _proc
from minidocker._flags import CloneFlags

_SECONDS = 10.0

# A process of its own asks, since a thread may not enter a user namespace. It is made by exec, not
# by fork: the caller may have threads. It runs nothing from inside, is not in the container's PID
# namespace, and makes itself untraceable first, so that nobody inside can read it.
# Its arguments: the pid, the flags to try, and a second set of flags (0 for none).
_ASK = """
import ctypes, os, sys
pid, first, second = map(int, sys.argv[1:])
libc = ctypes.CDLL(None)
PR_SET_DUMPABLE = 4
target = os.pidfd_open(pid)
if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 and (
    libc.setns(target, first) == 0 or second and libc.setns(target, second) == 0
):
    sys.stdout.buffer.write(os.fsencode(os.uname().nodename))
"""


def hostname_of(pid: int) -> str | None:
    """Return the host name in the UTS namespace of ``pid``, None where it cannot be told.

    Args:
        pid: a process, as the caller's PID namespace has it.
    """
    try:
        theirs = _proc.namespace_inodes(pid)
    except OSError:
        return None
    ours = _proc.namespace_inodes()
    if theirs["uts"] == ours["uts"]:
        return os.uname().nodename
    first, second = int(CloneFlags.NEWUTS), 0
    if theirs["user"] != ours["user"]:
        # Without privileges here, they have to come from the container's own user namespace.
        second = int(CloneFlags.NEWUSER | CloneFlags.NEWUTS)
    # Isolated and without site: nothing of the caller's environment has a say in it.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ASK, str(pid), str(first), str(second)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=False,
    )
    return os.fsdecode(done.stdout) or None
