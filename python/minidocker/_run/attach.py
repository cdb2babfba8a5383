"""`attach`: a container that somebody else started, as an object."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Self

from minidocker._errors import SpecError
from minidocker._run.joinable import Joinable, send_signal

__all__ = ["AttachedContainer", "attach"]


class AttachedContainer(Joinable):
    """A container that somebody else started: what `attach` returns.

    It can be entered, looked at, paused and killed; its end is its starter's to wait for.
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
        """Ask every process inside to end (SIGTERM), and kill what is left when the time is up."""
        deadline = time.monotonic() + timeout
        for process in self.processes():
            send_signal(process.pid, signal.SIGTERM)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            self.kill()

    def kill(self) -> None:
        """End every process inside, at once."""
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
        """Give back the descriptor; the container runs on."""
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
    """Return the container that a process is in, whoever started it: docker, unshare, bwrap.

    Args:
        pid: a process inside, as this process sees it.

    Raises:
        ProcessLookupError: there is no such process.
        SpecError: it shares every namespace with this process.
    """
    if type(pid) is not int or pid <= 0:
        raise SpecError("give the pid of a process", option="pid", value=pid)
    container = AttachedContainer(pid)
    try:
        kinds = container._own_kinds()
    except BaseException:
        container.close()
        raise
    if not kinds:
        container.close()
        reason = "it is in no namespace but this process's own: give a process of a container"
        raise SpecError(reason, option="pid", value=pid)
    return container
