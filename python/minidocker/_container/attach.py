"""`attach`: a container that another program started, as an object."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Self

from minidocker._container.joinable import Joinable, send_signal
from minidocker._errors import SpecError

__all__ = ["AttachedContainer", "attach"]


class AttachedContainer(Joinable):
    """A container that another program started; the result of `attach`.

    It can be entered, inspected, paused and killed. Only its starter can wait for its status.
    """

    def __init__(self, pid: int) -> None:
        self._open(pid)

    def _is_alive(self) -> bool:
        if self._pidfd < 0:
            return False  # closed
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def stop(self, timeout: float = 10) -> None:
        """Send SIGTERM to every process inside, and after the timeout SIGKILL to the others.

        Args:
            timeout: seconds to wait.

        Raises:
            ProcessLookupError: the container has ended.
            PermissionError: the caller may not signal a process inside.
        """
        deadline = time.monotonic() + timeout
        for process in self.processes():
            send_signal(process.pid, signal.SIGTERM)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; the container continues to run."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
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
