"""The caller's half of a call: send the request, receive output and answer, wait for the end.

The code inside a container may write on its channel and its outputs as fast as this process reads.
The deadline is therefore looked at on every turn of a loop, and not only when there is nothing to
read.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING

from minidocker._errors import CallError, CallTimeout
from minidocker._fd import above_stdio, available
from minidocker._functions import descriptors, messages, unseen
from minidocker._functions.messages import CHUNK, Receiver
from minidocker._run.timeouts import deadline_after, milliseconds_until
from minidocker._unpatched import Poll

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minidocker._functions.function_container import FunctionContainer
    from minidocker._functions.messages import Message
    from minidocker._functions.outputs import Streams

__all__ = ["Conversation", "Interrupt"]

GRACE = 5.0
"""Seconds in which a container must end after its function has answered."""


class Interrupt:
    """Ends the calls that wait with it, from any thread.

    After it was set, its descriptor is closed with the end of the last call.
    """

    def __init__(self) -> None:
        self._fd = above_stdio(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._lock = threading.Lock()
        self._calls = 0
        self._is_set = False
        descriptors.hold(self._fd)

    def fileno(self) -> int:
        """Return a descriptor that is readable after `set`."""
        return self._fd

    def set(self) -> None:
        """End the calls: each raises a `CallError`."""
        with self._lock:
            self._is_set = True
            if self._calls:
                os.eventfd_write(self._fd, 1)
            else:
                self.close()

    def is_set(self) -> bool:
        """Return whether the calls were ended."""
        return self._is_set

    def begin(self) -> None:
        """Count a call, which may wait with this."""
        with self._lock:
            self._calls += 1

    def end(self) -> None:
        """Count the end of a call."""
        with self._lock:
            self._calls -= 1
            if self._is_set and not self._calls:
                self.close()

    def close(self) -> None:
        """Close the descriptor; no call waits with this any more."""
        fd, self._fd = self._fd, -1
        descriptors.release(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class Conversation:
    """Exchanges messages with the process that runs a function, until its container ends.

    Args:
        container: the container.
        as_json: whether the answers are JSON.
        streams: its standard output and error, unless it shares those of the caller.
        interrupt: ends every wait.
        timeout: seconds from ``since``; None for no limit.
        since: a time of `time.monotonic`; by default now.
        limit: the maximum size of an answer, in bytes; None for no limit.
    """

    def __init__(
        self,
        container: FunctionContainer,
        *,
        as_json: bool,
        streams: Streams | None = None,
        interrupt: Interrupt | None = None,
        timeout: float | None = None,
        since: float | None = None,
        limit: int | None = None,
    ) -> None:
        self._container = container
        self._streams = streams
        self.limit_time(timeout, since)
        self._poll = Poll()
        self._ends = container.ends()
        self._poll.register(self._ends, select.POLLIN)
        self._interrupt: Interrupt | None = None
        if interrupt is not None:
            self.watch(interrupt)
        self._channel_open = True
        self._pending = [memoryview(part) for part in container.opening]
        kinds = messages.JSON_ANSWERS if as_json else messages.ANSWERS
        self._receiver = Receiver(kinds, limit)
        self._answer: Message | None = None
        self.is_initialized = False
        """Whether the task's initializer has returned."""
        os.set_blocking(container.channel, False)
        if streams is not None:
            for fd in streams.started():
                self._poll.register(fd, select.POLLIN)

    def watch(self, interrupt: Interrupt) -> None:
        """Let this interrupt end every wait, instead of an earlier one."""
        if self._interrupt is not None:
            self._poll.unregister(self._interrupt)
        self._interrupt = interrupt
        self._poll.register(interrupt, select.POLLIN)

    def limit_time(self, timeout: float | None, since: float | None = None) -> None:
        """Set a new timeout, in seconds from ``since``; by default from now."""
        self._timeout = timeout
        self._deadline = deadline_after(timeout, since=since)

    def is_idle(self) -> bool:
        """Return whether the container runs, and has sent nothing that no request asked for."""
        poll = Poll()
        poll.register(self._ends, select.POLLIN)
        poll.register(self._container.channel, select.POLLIN)
        return not poll.poll(0)

    def ask(self, request: Iterable[bytes]) -> Message | None:
        """Send the parts of a request; return the answer, or None if the container ends first.

        Raises:
            CallError: the interrupt was set; the container still runs.
            CallTimeout: the timeout expired; the container still runs.
            CallResultError: the answer is malformed or larger than the limit; the container still
                runs.
        """
        self._pending += map(memoryview, request)
        self.is_initialized = False
        self._watch_channel()
        while self._step():
            if self._answer is not None:
                return self._take_answer()
        self._drain()
        return self._take_answer()

    def _take_answer(self) -> Message | None:
        answer, self._answer = self._answer, None
        return answer

    def explain(self, error: BaseException) -> None:
        """Say so in an error of the function if the container does not show what it names."""
        if self._container.spec is not None:
            unseen.explain(error, self._container.spec)

    def hang_up(self) -> None:
        """Send an end of file, because no request follows.

        Unlike close(2), shutdown(2) works while other processes have copies of the descriptor.
        """
        with socket.socket(fileno=os.dup(self._container.channel)) as connection:
            connection.shutdown(socket.SHUT_WR)

    def finish(self, *, completely: bool = True) -> Message | None:
        """Wait until the container ends; return the answer, if there is one.

        A container that has answered and does not end is killed, after `GRACE` or at the timeout.

        Args:
            completely: whether to wait for the end of a container that a template reaps; if False,
                wait only until the process that answered closes its channel.

        Raises:
            CallError: the interrupt was set; the container still runs.
            CallTimeout: the timeout expired without an answer; the container still runs.
            CallResultError: the answer is malformed, or it or the output exceeds the limit; the
                container still runs.
        """
        self._watch_channel()
        has_answered = False
        while self._step():
            if self._answer is not None and not has_answered:
                has_answered = True
                latest = time.monotonic() + GRACE
                self._deadline = latest if self._deadline is None else min(self._deadline, latest)
            if has_answered and not (self._channel_open or completely or self._container.is_ours):
                break
        self._drain()
        return self._take_answer()

    def _watch_channel(self) -> None:
        if not self._channel_open:
            return
        # After the answer, only the end of the channel matters.
        events = select.POLLRDHUP if self._answer is not None else select.POLLIN
        self._poll.register(
            self._container.channel, events | (select.POLLOUT if self._pending else 0)
        )

    def _step(self) -> bool:
        """Wait for events and handle them; return False once the container has ended."""
        events = self._poll.poll(milliseconds_until(self._deadline))
        ended = False
        for fd, event in events:
            if fd == self._ends:
                ended = True
            elif fd == self._container.channel:
                self._use_channel(event)
            elif self._interrupt is not None and fd == self._interrupt.fileno():
                raise CallError("the caller was interrupted, and ended the function")
            elif self._streams is not None and not self._streams.receive(fd):
                self._poll.unregister(fd)
        if not ended and self._deadline is not None and time.monotonic() >= self._deadline:
            self._expire()
        return not ended

    def _expire(self) -> None:
        if self._answer is None:
            reason = f"the function did not end within {self._timeout:g} seconds"
            raise CallTimeout(reason, timeout=self._timeout)
        # The function has answered, but its container did not end in time.
        self._container.kill()
        self._deadline = None

    def _use_channel(self, event: int) -> None:
        if event & select.POLLOUT and self._pending:
            self._send()
        if event & ~select.POLLOUT and (self._answer is not None or not self._receive()):
            self._poll.unregister(self._container.channel)
            self._channel_open = False
        if self._channel_open and (self._answer is not None or not self._pending):
            self._watch_channel()

    def _send(self) -> None:
        try:
            sent = os.writev(self._container.channel, self._pending)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # The process has closed its end. Its answer or its exit status shows the reason.
            self._pending.clear()
            return
        while self._pending and sent >= len(self._pending[0]):
            sent -= len(self._pending.pop(0))
        if sent:
            self._pending[0] = self._pending[0][sent:]

    def _receive(self) -> bool:
        """Read a part of an answer; return False at the end of the channel."""
        is_open = self._receiver.receive(self._container.channel)
        message = self._receiver.take()
        if message is None:
            return is_open
        if self._pending:
            # It answers a request that it cannot have read.
            messages.malformed()
        if message.kind != messages.INITIALIZED:
            self._answer = message
        elif self.is_initialized or message.payload:
            messages.malformed()
        else:
            self.is_initialized = True
        return is_open

    def _drain(self) -> None:
        """Read the data that was sent before the container ended, and nothing that follows.

        Do not wait for an end of file: a process that another thread forked may have copies of the
        write ends, and one that left a container without a PID namespace may still write.
        """
        if self._channel_open:
            # Each header takes a turn of its own: that of the answer, and INITIALIZED before it.
            for _ in range(_chunks_in(self._container.channel) + 2):
                if self._answer is not None or not self._receive():
                    break
        if self._streams is not None:
            for fd in self._streams.started():
                for _ in range(_chunks_in(fd)):
                    if not self._streams.receive(fd):
                        break


def _chunks_in(fd: int) -> int:
    """Return how many reads take the data that a pipe or a socket holds now."""
    return available(fd) // CHUNK + 1
