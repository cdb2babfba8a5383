"""The spare of a template: a container that it makes before the next request, and keeps waiting."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from minidocker._functions import descriptors, fork, worker

if TYPE_CHECKING:
    from minidocker._functions.fork import ForkedContainer
    from minidocker._spec.spec import Spec

__all__ = ["SpareKeeper"]

LIFE = 5.0
"""Seconds that a spare waits at most."""


class _Spare(NamedTuple):
    container: ForkedContainer
    feed: socket.socket
    """Takes the descriptors of a request."""
    spec: Spec
    made: float


class SpareKeeper:
    """Keeps at most one spare, for requests that follow one another with the same `Spec`.

    Args:
        poll: learns when the spare ends.
    """

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._spare: _Spare | None = None
        self._last: tuple[Spec, float] | None = None
        self._wanted: Spec | None = None
        # A spare has the mounts that the host had when it was made.
        self._mounts = select.poll()
        mountinfo = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        descriptors.hold(mountinfo)
        self._mounts.register(mountinfo, select.POLLPRI)

    def expect_another(self, spec: Spec) -> None:
        """Want a spare if the previous request was recent, and had this `Spec` too."""
        now = time.monotonic()
        last, self._last = self._last, (spec, now)
        often = last is not None and last[0] == spec and now - last[1] < LIFE
        self._wanted = spec if often and self._spare is None else None

    def idle(self) -> float | None:
        """Return the milliseconds until `act` has something to do; None if it has nothing."""
        if self._wanted is not None:
            return 0
        if self._spare is None:
            return None
        return max(0.0, self._spare.made + LIFE - time.monotonic()) * 1000

    def act(self) -> None:
        """Make the spare that is wanted, or drop the one that is too old."""
        if self._wanted is not None:
            spec, self._wanted = self._wanted, None
            self._make(spec)
        else:
            self.drop()

    def owns(self, fd: int) -> bool:
        """Return whether a descriptor is the one that tells the spare's end."""
        return self._spare is not None and fd == self._spare.container.ends()

    def take(self, spec: Spec, fds: list[int]) -> ForkedContainer | None:
        """Have the spare serve a request; return None if there is none that fits.

        Args:
            spec: the container of the request.
            fds: its channel, and its outputs if captured.
        """
        spare = self._spare
        if spare is None:
            return None
        if spare.spec != spec or self._mounts.poll(0):
            self.drop()
            return None
        try:
            socket.send_fds(spare.feed, [b"G"], fds)
        except (BrokenPipeError, ConnectionResetError):
            self.drop()
            return None
        self._spare = None
        self._poll.unregister(spare.container.ends())
        descriptors.release(spare.feed.detach())
        return spare.container

    def drop(self) -> None:
        """End the spare, if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None:
            self._poll.unregister(spare.container.ends())
            descriptors.release(spare.feed.detach())
            spare.container.kill()
            spare.container.wait()

    def _make(self, spec: Spec) -> None:
        feed, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def work(unused: int) -> None:
            os.close(unused)
            feed.close()
            worker.warm_up()
            data, fds, _, _ = socket.recv_fds(inner, 1, 3)
            inner.close()
            if data:
                channel, *outputs = fds
                worker.serve_request(channel, outputs)

        # Forget earlier changes of the mounts.
        self._mounts.poll(0)
        try:
            container = fork.run_in_copy(work, spec)
        except Exception:  # noqa: BLE001 - the next request meets, and reports, the same problem
            feed.close()
        else:
            container.close()
            descriptors.hold(feed.fileno())
            self._poll.register(container.ends(), select.POLLIN)
            self._spare = _Spare(container, feed, spec, time.monotonic())
        finally:
            inner.close()
