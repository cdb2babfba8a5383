"""`attach`: a container that another program started, as an object."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Self

from minidocker._container.joinable import Joinable, send_signal
from minidocker._errors import SpecError
from minidocker._fd import close
from minidocker._run import timeouts

__all__ = ["AttachedContainer", "attach"]


class AttachedContainer(Joinable):
    """A container that another program started; the result of `attach`.

    It can be entered, inspected, paused, stopped and waited for, as a `Container` can. Only its
    starter gets its exit status.
    """

    def __init__(self, pid: int) -> None:
        self._open(pid)

    def _is_alive(self) -> bool:
        return self._pidfd >= 0 and not self._ends_by(time.monotonic())

    def _ends_by(self, deadline: float | None) -> bool:
        return timeouts.is_ready(self._pidfd, deadline)

    def _check_open(self) -> None:
        if self._pidfd < 0:
            raise SpecError(f"{self!r} has no descriptor: attach to the container again")

    @property
    def status(self) -> str:
        """The state: ``"running"``, ``"paused"`` or ``"exited"``; ``"closed"`` after `close`."""
        if self._pidfd < 0:
            return "closed"
        return self._status()

    def stop(self, timeout: float = 10) -> None:
        """Send SIGTERM to every process inside, and after the timeout SIGKILL to the others.

        A paused container is resumed first. A container that has ended is left alone. `wait` waits
        for the end of one that got SIGKILL.

        Args:
            timeout: seconds to wait.

        Raises:
            PermissionError: the caller may not signal a process inside.
            SpecError: this object is closed.
        """
        self._check_open()
        deadline = timeouts.deadline_after(timeouts.seconds(timeout))
        # The container may end between two steps.
        with contextlib.suppress(ProcessLookupError):
            if self.status == "paused":
                self.unpause()
            for process in self.processes():
                send_signal(process.pid, signal.SIGTERM)
            if not self._ends_by(deadline):
                self.kill()

    def kill(self) -> None:
        """Send SIGKILL to every process inside; do nothing if the container has ended.

        Raises:
            PermissionError: the caller may not signal a process inside.
        """
        if self._is_alive():
            if "pid" in self._own_kinds():
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                self._kill_all()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the attached process has ended.

        Args:
            timeout: seconds to wait; None: no limit.

        Raises:
            TimeoutError: the process still runs after the timeout.
            SpecError: this object is closed.
        """
        self._check_open()
        if not self._ends_by(timeouts.deadline_after(timeouts.seconds(timeout))):
            raise TimeoutError(f"{self!r} still runs after {timeout} seconds")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; the container continues to run."""
        if self._pidfd >= 0:
            close(self._pidfd)
            self._pidfd = -1

    def __del__(self) -> None:
        if getattr(self, "_pidfd", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._pidfd < 0 else "running" if self._is_alive() else "exited"
        return f"<AttachedContainer {state} pid {self._pid}>"


def attach(pid: int) -> AttachedContainer:
    """Return the container of a process that docker, unshare, bwrap or another program started.

    Args:
        pid: the pid of a process inside, in this process's PID namespace.

    Raises:
        ProcessLookupError: there is no such process.
        PermissionError: the caller may not read the process's namespaces; namespaces(7).
        SpecError: the process shares every namespace with this process.
    """
    if type(pid) is not int or pid <= 0:
        raise SpecError("it is not a pid: give a positive int", option="pid", value=pid)
    container = AttachedContainer(pid)
    try:
        kinds = container._own_kinds()
    except BaseException:
        container.close()
        raise
    if not kinds:
        container.close()
        reason = "it shares every namespace with this process: give a process of a container"
        raise SpecError(reason, option="pid", value=pid)
    return container
