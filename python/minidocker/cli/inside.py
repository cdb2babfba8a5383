"""Facts that ``/proc`` does not tell and that only a process inside can ask for."""

from __future__ import annotations

import os

_PR_SET_DUMPABLE = 4
_CLONE_NEWUTS = 0x0400_0000
_CLONE_NEWUSER = 0x1000_0000


def hostname_of(pid: int) -> str | None:
    """Return the host name in the UTS namespace of ``pid``, None where it cannot be told.

    A child process enters the namespace and asks. It runs nothing from inside, is not in the
    container's PID namespace, and makes itself untraceable first, so that nobody inside can read
    this process's memory through it.
    """
    from minidocker import _proc

    try:
        theirs = _proc.namespace_inodes(pid)
    except OSError:
        return None
    own = _proc.namespace_inodes()
    if theirs["uts"] == own["uts"]:
        return os.uname().nodename
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _send_hostname(pid, sender, enter_user=theirs["user"] != own["user"])
        except OSError:
            pass  # not permitted, or the process has ended: no name is an answer too
        finally:
            # Whatever happened, the child must not go on as a second command line.
            os._exit(0)
    os.close(sender)
    with open(receiver, "rb") as file:
        name = file.read()
    os.waitpid(child, 0)
    return os.fsdecode(name) or None


def _send_hostname(pid: int, fd: int, *, enter_user: bool) -> None:
    """Enter the namespaces of ``pid`` and write its host name to ``fd``: the child's part."""
    import ctypes

    from minidocker import _core

    # Not traceable, and not by root inside either: joining a user namespace does not undo this.
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        return
    target = os.pidfd_open(pid)
    try:
        _core.setns(target, _CLONE_NEWUTS)
    except OSError:
        if not enter_user:
            return
        # Without privileges here, they have to come from the container's user namespace.
        _core.setns(target, _CLONE_NEWUSER | _CLONE_NEWUTS)
    os.write(fd, os.fsencode(os.uname().nodename))
