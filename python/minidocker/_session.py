"""Ending a session: what a container without a PID namespace of its own is."""

from __future__ import annotations

import os
import signal

_ROUNDS = 100


def kill_session(session: int, *, reaped: bool) -> None:
    """Send SIGKILL to every process of a session, until none is left that has not ended.

    Args:
        session: its id: the pid of the process that called setsid(2).
        reaped: whether that process has been waited for. Its pid is not given to another process
            as long as the session has members; once it has none, it may be.
    """
    beyond_reach: set[int] = set()
    for _ in range(_ROUNDS):
        if reaped and os.path.exists(f"/proc/{session}"):
            return
        members = _members(session) - beyond_reach
        if not members:
            return
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except PermissionError:
                # It has become somebody whom the caller may not signal.
                beyond_reach.add(pid)


def _members(session: int) -> set[int]:
    members = set()
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
            members.add(int(name))
    return members
