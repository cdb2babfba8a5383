"""Kill a session: the processes of a container without a PID namespace of its own."""

from __future__ import annotations

import os
import select
import signal
import time

from minidocker._fd import pidfd_open

_ROUNDS = 100
_DEATH = 1.0
"""Seconds in which all killed processes together must end."""


def kill_session(session: int, *, reaped: bool) -> None:
    """Send SIGKILL to every process of a session, and wait briefly for their end.

    Args:
        session: the session id, which is the pid of the process that called setsid(2).
        reaped: whether that process has been reaped. The kernel reuses its pid only when the
            session has no members left.
    """
    seen: set[int] = set()
    dying: list[int] = []
    try:
        for _ in range(_ROUNDS):
            if reaped and os.path.exists(f"/proc/{session}"):
                return
            # A killed process forks no more; the next round finds its earlier children.
            fresh = _members(session) - seen
            if not fresh:
                break
            seen |= fresh
            dying += [pidfd for pid in fresh if (pidfd := _kill(pid, session)) is not None]
        _await(dying)
    finally:
        for pidfd in dying:
            os.close(pidfd)


def _kill(pid: int, session: int) -> int | None:
    """Kill a member of a session; return a pidfd to wait for its end, or None."""
    try:
        pidfd = pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError:
        # No descriptor is available: kill it without one.
        _send_kill(pid, pidfd=None)
        return None
    # The pid may have been reused before pidfd_open(2): check the process behind the descriptor.
    if _session_of(pid) == session and _send_kill(pid, pidfd=pidfd):
        return pidfd
    os.close(pidfd)
    return None


def _send_kill(pid: int, *, pidfd: int | None) -> bool:
    try:
        if pidfd is None:
            os.kill(pid, signal.SIGKILL)
        else:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It has ended, or it has changed to a user whom the caller may not signal.
        return False
    return True


def _await(pidfds: list[int]) -> None:
    deadline = time.monotonic() + _DEATH
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(max(0.0, deadline - time.monotonic()) * 1000)


def _members(session: int) -> set[int]:
    """Return the processes of a session that have not ended."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return {pid for pid in pids if _session_of(pid) == session}


def _session_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # proc(5): the command's name, in parentheses, may contain spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[3]) if fields[0] not in (b"Z", b"X") else None
