"""Ending a session: what a container without a PID namespace of its own is."""

from __future__ import annotations

import contextlib
import os
import signal

_ROUNDS = 100


def kill_session(session: int) -> None:
    """Send SIGKILL to every process of a session, until none is left that has not ended.

    Args:
        session: its id: the pid of the process that called setsid(2), which has not been reaped.
    """
    for _ in range(_ROUNDS):
        members = _members(session)
        if not members:
            return
        for pid in members:
            # It may have ended meanwhile, or have become somebody the caller may not signal.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _members(session: int) -> list[int]:
    members = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name, in parentheses, may hold anything.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        state, member_of = fields[0], int(fields[3])
        if member_of == session and state not in (b"Z", b"X"):
            members.append(int(name))
    return members
