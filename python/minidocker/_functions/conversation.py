"""The caller's half of a call: send the request, receive output and answer, wait for the end."""

from __future__ import annotations

import dataclasses
import os
import select
import socket
import time
from typing import TYPE_CHECKING

from minidocker._errors import CallResultError, CallTimeout
from minidocker._fd import pipe
from minidocker._functions import descriptors
from minidocker._functions.messages import HEADER

if TYPE_CHECKING:
    from minidocker._functions.function_container import FunctionContainer

__all__ = ["Answer", "Conversation", "Streams"]

CHUNK = 1 << 18
GRACE = 5.0
"""Seconds in which a container must end after its function has answered."""


class Streams:
    """The captured standard output and error of a function.

    Args:
        limit: the maximum size of each, in bytes; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.collected = (bytearray(), bytearray())
        self._read: list[int] = []
        self._write: list[int] = []
        try:
            for _ in self.collected:
                read, write = pipe(os.O_NONBLOCK)
                self._read.append(read)
                self._write.append(write)
                # Only this process's end is non-blocking: a function's write must wait for space.
                os.set_blocking(write, True)
                descriptors.hold(read, write)
        except OSError:
            self.close()
            raise

    @property
    def inside(self) -> tuple[int, int]:
        """The descriptors for the process inside: output, error."""
        return self._write[0], self._write[1]

    def started(self) -> list[int]:
        """Close this process's copies of the write ends; return the descriptors to read from."""
        descriptors.release(*self._write)
        self._write = []
        return self._read

    def receive(self, fd: int) -> bool:
        """Read the available data; return False at the end of the file.

        Raises:
            CallResultError: the function wrote more than the limit.
        """
        buffer = self.collected[self._read.index(fd)]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return True
        buffer += data
        if self.limit is not None and len(buffer) > self.limit:
            del buffer[self.limit :]
            reason = f"the function wrote more than result_limit allows: {self.limit} bytes"
            raise CallResultError(reason)
        return bool(data)

    def close(self) -> None:
        """Close every descriptor."""
        descriptors.release(*self._read, *self._write)
        self._read, self._write = [], []


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A function's answer: the kind of its message, and the payload; see ``messages.py``."""

    kind: int
    payload: bytearray


class Conversation:
    """Exchanges messages with the process that runs a function, until its container ends.

    Args:
        container: the container.
        streams: its standard output and error, if captured.
        timeout: seconds from ``since``; None for no limit.
        since: a time of `time.monotonic`; by default now.
        limit: the maximum size of an answer, in bytes; None for no limit.
    """

    def __init__(
        self,
        container: FunctionContainer,
        *,
        streams: Streams | None = None,
        timeout: float | None = None,
        since: float | None = None,
        limit: int | None = None,
    ) -> None:
        self._container = container
        self._streams = streams
        self._limit = limit
        self.limit_time(timeout, since)
        self._poll = select.poll()
        self._ends = container.ends()
        self._poll.register(self._ends, select.POLLIN)
        self._channel_open = True
        self._pending = memoryview(container.opening)
        self._received = bytearray()
        self._answer: Answer | None = None
        os.set_blocking(container.channel, False)
        if streams is not None:
            for fd in streams.started():
                self._poll.register(fd, select.POLLIN)

    def limit_time(self, timeout: float | None, since: float | None = None) -> None:
        """Set a new timeout, in seconds from ``since``; by default from now."""
        self._timeout = timeout
        self._deadline: float | None = None
        if timeout is not None:
            self._deadline = (time.monotonic() if since is None else since) + timeout

    def ask(self, request: bytes) -> Answer | None:
        """Send a request; return the answer, or None if the container ends without one.

        Raises:
            CallTimeout: the timeout expired; the container still runs.
            CallResultError: the answer is larger than the limit; the container still runs.
        """
        self._pending = memoryview(bytes(self._pending) + request)
        self._watch_channel()
        while self._step():
            if self._answer is not None:
                return self._take_answer()
        self._drain()
        return self._take_answer()

    def _take_answer(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def hang_up(self) -> None:
        """Send an end of file, because no request follows.

        Unlike close(2), shutdown(2) works while other processes have copies of the descriptor.
        """
        with socket.socket(fileno=os.dup(self._container.channel)) as connection:
            connection.shutdown(socket.SHUT_WR)

    def finish(self, *, completely: bool = True) -> Answer | None:
        """Wait until the container ends; return the answer, if there is one.

        Args:
            completely: whether to wait for the end of a container that a template reaps; if False,
                wait only until the process that answered closes its channel.

        Raises:
            CallTimeout: the timeout expired without an answer; the container still runs.
            CallResultError: the answer or the output exceeds the limit; the container still runs.
        """
        self._watch_channel()
        has_answered = False
        while self._step():
            if self._answer is not None and not has_answered:
                has_answered = True
                self._deadline, self._timeout = time.monotonic() + GRACE, None
            if has_answered and not (self._channel_open or completely or self._container.is_ours):
                break
        self._drain()
        return self._take_answer()

    def _watch_channel(self) -> None:
        if self._channel_open:
            events = select.POLLIN | (select.POLLOUT if self._pending else 0)
            self._poll.register(self._container.channel, events)

    def _step(self) -> bool:
        """Wait for events and handle them; return False once the container has ended."""
        remaining = None
        if self._deadline is not None:
            remaining = max(0.0, self._deadline - time.monotonic()) * 1000
        events = self._poll.poll(remaining)
        if not events and remaining is not None:
            if self._timeout is None:
                # The function has answered, but its container did not end in time.
                self._container.kill()
                self._deadline = None
                return True
            reason = f"the function did not end within {self._timeout} seconds"
            raise CallTimeout(reason, timeout=self._timeout)
        ended = False
        for fd, event in events:
            if fd == self._ends:
                ended = True
            elif fd == self._container.channel:
                self._use_channel(event)
            elif self._streams is not None and not self._streams.receive(fd):
                self._poll.unregister(fd)
        return not ended

    def _use_channel(self, event: int) -> None:
        channel = self._container.channel
        if event & select.POLLOUT and self._pending:
            try:
                sent = os.write(channel, self._pending[: 1 << 20])
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                # The process has closed its end. Its answer or its exit status shows the reason.
                sent = len(self._pending)
            self._pending = self._pending[sent:]
            if not self._pending:
                self._poll.modify(channel, select.POLLIN)
        if event & ~select.POLLOUT and not self._receive():
            self._poll.unregister(channel)
            self._channel_open = False

    def _receive(self) -> bool:
        """Read a part of an answer; return False at the end of the channel."""
        try:
            data = os.read(self._container.channel, CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._received += data
        if len(self._received) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._received)
            if self._limit is not None and length > self._limit:
                reason = f"the answer has {length} bytes, but result_limit allows {self._limit}"
                raise CallResultError(reason)
            if len(self._received) >= HEADER.size + length:
                payload = self._received[HEADER.size : HEADER.size + length]
                self._received = self._received[HEADER.size + length :]
                self._answer = Answer(kind, payload)
        return bool(data)

    def _drain(self) -> None:
        """Read the data that was sent before the container ended.

        Do not wait for an end of file: a process that another thread forked may have copies of the
        write ends.
        """
        channel = self._container.channel
        while self._answer is None and self._channel_open and _is_readable(channel):
            self._channel_open = self._receive()
        if self._streams is not None:
            for fd in self._streams.started():
                while _is_readable(fd) and self._streams.receive(fd):
                    pass


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
