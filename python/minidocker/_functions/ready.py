"""A template's ready container, made before the request that it serves."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from minidocker._fd import above_stdio, receive, socket_pair
from minidocker._functions import descriptors, fork, worker
from minidocker._unpatched import Poll

if TYPE_CHECKING:
    from minidocker._functions.fork import ForkedContainer
    from minidocker._spec.spec import Spec

__all__ = ["ReadyContainerSlot"]

LIFE = 5.0
"""The longest time that a ready container waits, in seconds."""


class _ReadyContainer(NamedTuple):
    container: ForkedContainer
    feed: socket.socket
    """The socket through which it receives the descriptors of a request."""
    spec: Spec
    made: float


class ReadyContainerSlot:
    """Holds at most one ready container, for a series of requests with the same `Spec`.

    Args:
        poll: gets the descriptor that shows the end of the ready container.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._ready: _ReadyContainer | None = None
        self._last: tuple[Spec, float] | None = None
        self._wanted: Spec | None = None
        # A ready container has the host's mounts of the time when it was made. The kernel reports a
        # later change as POLLPRI (proc(5), mountinfo).
        self._mounts = Poll()
        mountinfo = above_stdio(os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC))
        descriptors.hold(mountinfo)
        self._mounts.register(mountinfo, select.POLLPRI)

    def expect_another(self, spec: Spec) -> None:
        """Request a ready container if the previous request was recent and had the same `Spec`."""
        now = time.monotonic()
        last, self._last = self._last, (spec, now)
        often = last is not None and last[0].is_same(spec) and now - last[1] < LIFE
        self._wanted = spec if often and self._ready is None else None

    def idle(self) -> float | None:
        """Return the milliseconds until `act` has something to do; None if it has nothing."""
        if self._wanted is not None:
            return 0
        if self._ready is None:
            return None
        return max(0.0, self._ready.made + LIFE - time.monotonic()) * 1000

    def act(self) -> None:
        """Make the requested ready container, or drop the one that is too old."""
        if self._wanted is not None:
            spec, self._wanted = self._wanted, None
            self._make(spec)
        else:
            self.drop()

    def owns(self, fd: int) -> bool:
        """Return whether a descriptor is the pidfd of the ready container."""
        return self._ready is not None and fd == self._ready.container.ends()

    def take(self, spec: Spec, fds: list[int]) -> ForkedContainer | None:
        """Give a request to the ready container; return None if there is none that fits.

        Args:
            spec: the container of the request.
            fds: the channel of the request, and its outputs if captured.
        """
        ready = self._ready
        if ready is None:
            return None
        if not ready.spec.is_same(spec) or self._mounts.poll(0):
            self.drop()
            return None
        try:
            socket.send_fds(ready.feed, [b"G"], fds)
        except (BrokenPipeError, ConnectionResetError):
            self.drop()
            return None
        self._ready = None
        self._poll.unregister(ready.container.ends())
        descriptors.release(ready.feed.detach())
        return ready.container

    def drop(self) -> None:
        """End the ready container, if there is one."""
        ready, self._ready = self._ready, None
        if ready is not None:
            self._poll.unregister(ready.container.ends())
            descriptors.release(ready.feed.detach())
            ready.container.kill()
            ready.container.wait()

    def _make(self, spec: Spec) -> None:
        feed, inner = socket_pair(socket.SOCK_SEQPACKET)

        def work(unused: int) -> None:
            os.close(unused)
            feed.close()
            worker.warm_up()
            data, fds = receive(inner, 1, 3)
            inner.close()
            if data:
                channel, *outputs = fds
                worker.serve_request(channel, outputs)

        # poll() clears the report of earlier changes of the mounts.
        self._mounts.poll(0)
        try:
            container = fork.run_in_copy(work, spec)
        except Exception:  # noqa: BLE001 - the next request fails in the same way, and reports it
            feed.close()
        else:
            container.close()
            descriptors.hold(feed.fileno())
            self._poll.register(container.ends(), select.POLLIN)
            self._ready = _ReadyContainer(container, feed, spec, time.monotonic())
        finally:
            inner.close()
