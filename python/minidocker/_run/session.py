"""Kill or stop a session: the processes of a container, found without its PID namespace."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from minidocker._fd import close, pidfd_open
from minidocker._run.stopped import is_stopped
from minidocker._unpatched import Poll

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minidocker._spec.namespaces import NamespaceOptions

__all__ = ["StoppedSession", "kill_session"]

_ROUNDS = 100
_DEATH = 1.0
"""Seconds in which all killed processes together must end."""
_STOP, _STOP_PAUSE = 2.0, 0.001
"""Seconds in which all stopped processes together must have stopped, and between two checks."""

_FILES = {"mount": "mnt", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}
"""The kinds of namespace that no other container joins by itself: names in /proc/PID/ns."""


def kill_session(session: int, *, reaped: bool, new: NamespaceOptions | None = None) -> None:
    """Send SIGKILL to every process of a session and to their descendants, and wait briefly.

    All of them are stopped before one is killed: a stopped process cannot fork, and its children
    keep it as their parent, by which they are found.

    Args:
        session: the session id, which is the pid of the process that called setsid(2).
        reaped: whether that process has been reaped. The kernel reuses its pid only when the
            session has no members left.
        new: the kinds of namespace that only this container has. Every process in one of them is
            killed, even if it is a daemon.
    """
    search = _Search(session, _inodes(session, new))
    try:
        for _ in range(_ROUNDS):
            if reaped and os.path.exists(f"/proc/{session}"):
                break
            if not search.stop_new_members():
                break
        search.kill()
    finally:
        search.close()


class StoppedSession:
    """Every process of a session, and their descendants, stopped until `resume`.

    Args:
        session: the session id, whose leader has not been reaped.
    """

    def __init__(self, session: int) -> None:
        self._search = _Search(session, frozenset())
        for _ in range(_ROUNDS):
            if not self._search.stop_new_members():
                break
        self._search.wait_until_stopped()

    def resume(self) -> None:
        """Continue the processes."""
        self._search.resume()
        self._search.close()


class _Process:
    """A process, as /proc/PID/stat shows it."""

    def __init__(self, parent: int, session: int) -> None:
        self.parent = parent
        self.session = session


class _Search:
    """The members of a session found so far.

    Args:
        session: the session id.
        namespaces: the inodes of namespaces whose processes are members too.
    """

    def __init__(self, session: int, namespaces: frozenset[int]) -> None:
        self._sessions = {session}
        self._namespaces = namespaces
        self._pidfds: dict[int, int | None] = {}

    def stop_new_members(self) -> bool:
        """Stop the members that /proc shows now, and return whether any of them is new."""
        found = False
        for pid in _pids():
            if pid in self._pidfds or not self._is_member(pid):
                continue
            try:
                pidfd = pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:
                # No descriptor is available: signal it without one.
                pidfd = None
            # The pid may have been reused before pidfd_open(2).
            if pidfd is not None and not self._is_member(pid):
                close(pidfd)
                continue
            found = True
            self._pidfds[pid] = pidfd
            if (process := _read(pid)) is not None and process.session == pid:
                self._sessions.add(pid)
            _send(pid, pidfd, signal.SIGSTOP)
        return found

    def _is_member(self, pid: int) -> bool:
        process = _read(pid)
        return process is not None and (
            process.session in self._sessions
            or process.parent in self._pidfds
            or (
                bool(self._namespaces)
                and not self._namespaces.isdisjoint(_inodes_of(pid, _FILES.values()))
            )
        )

    def wait_until_stopped(self) -> None:
        """Wait briefly until no member executes anything."""
        deadline = time.monotonic() + _STOP
        while not all(map(is_stopped, self._pidfds)) and time.monotonic() < deadline:
            time.sleep(_STOP_PAUSE)

    def resume(self) -> None:
        """Continue the members."""
        for pid, pidfd in self._pidfds.items():
            _send(pid, pidfd, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the members, and wait briefly for their end."""
        for pid, pidfd in self._pidfds.items():
            _send(pid, pidfd, signal.SIGKILL)
        deadline = time.monotonic() + _DEATH
        for pidfd in self._pidfds.values():
            if pidfd is not None:
                poll = Poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def close(self) -> None:
        """Close the descriptors."""
        for pidfd in self._pidfds.values():
            if pidfd is not None:
                close(pidfd)
        self._pidfds.clear()


def _inodes(leader: int, new: NamespaceOptions | None) -> frozenset[int]:
    """Return the inodes of a process's namespaces of these kinds, except the caller's own."""
    files = [file for kind, file in _FILES.items() if new is not None and getattr(new, kind)]
    return frozenset(_inodes_of(leader, files)) - frozenset(_inodes_of("self", files))


def _inodes_of(pid: int | str, files: Iterable[str]) -> Iterator[int]:
    for file in files:
        # The process has ended, or belongs to another user.
        with contextlib.suppress(OSError):
            yield os.stat(f"/proc/{pid}/ns/{file}").st_ino


def _send(pid: int, pidfd: int | None, number: int) -> None:
    # It has ended, or it has changed to a user whom the caller may not signal.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if pidfd is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(pidfd, number)


def _pids() -> Iterator[int]:
    own = os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return (pid for pid in pids if pid != own)


def _read(pid: int) -> _Process | None:
    """Return the process; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # proc(5): the command's name, in parentheses, may contain spaces and parentheses.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Process(int(fields[1]), int(fields[3])) if fields[0] not in (b"Z", b"X") else None
