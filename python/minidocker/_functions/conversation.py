"""The caller's side while a function runs in a container: waiting, reading, ending, telling how."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Protocol

from minidocker._errors import (
    CallError,
    CallExited,
    CallKilled,
    CallLimitExceeded,
    CallResultError,
    CallTimeout,
)
from minidocker._functions import descriptors
from minidocker._functions.messages import HEADER

if TYPE_CHECKING:
    from minidocker._run.completed import Usage

__all__ = ["Answer", "Conversation", "Ended", "Running", "Streams"]

CHUNK = 1 << 18
GRACE = 5.0
"""Seconds that a container may take to end once its function has answered."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How the process of a function ended.

    Attributes:
        returncode: its exit status, or the negative number of a signal; None where nobody can tell.
        usage: what it used up, where that is known.
    """

    returncode: int | None
    usage: Usage | None


class Running(Protocol):
    """A container with a function in it."""

    channel: int
    """The descriptor of a stream socket to the process that runs the function."""

    is_ours: bool
    """Whether its end is this process's to wait for, and not another's."""

    def ends(self) -> int:
        """A descriptor that can be read once the container has ended."""

    def kill(self) -> None:
        """End the whole container; it is still to be waited for."""

    def wait(self, *, answered: bool = False) -> Ended:
        """Wait for the end, reap it, and give back every descriptor but the channel's.

        Where the function has ``answered``, how its process ended is not asked for.
        """

    def abandon(self) -> None:
        """End it, and give everything back, however far it came; once more does nothing."""


class Streams:
    """Standard output and standard error of a function, where they are collected.

    Args:
        limit: the most bytes of each; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.collected = (bytearray(), bytearray())
        self._read: list[int] = []
        self._write: list[int] = []
        try:
            for _ in self.collected:
                read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                self._read.append(read)
                self._write.append(write)
                # A function's own writes wait for the reader, as everywhere.
                os.set_blocking(write, True)
                descriptors.note(read, write)
        except OSError:
            self.close()
            raise

    @property
    def inside(self) -> tuple[int, int]:
        """The descriptors for the process inside: output, error."""
        return self._write[0], self._write[1]

    def started(self) -> list[int]:
        """The process inside has its ends; return those to read from."""
        descriptors.close(*self._write)
        self._write = []
        return self._read

    def receive(self, fd: int) -> bool:
        """Read what is there; False at the end.

        Raises:
            CallResultError: there is more than the limit.
        """
        buffer = self.collected[self._read.index(fd)]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return True
        buffer += data
        if self.limit is not None and len(buffer) > self.limit:
            del buffer[self.limit :]
            said = f"the function wrote more than the {self.limit} bytes that result_limit allows"
            raise CallResultError(said)
        return bool(data)

    def close(self) -> None:
        """Give every descriptor back."""
        descriptors.close(*self._read, *self._write)
        self._read, self._write = [], []


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a function sent: a kind of message and its payload; see ``messages.py``."""

    kind: int
    payload: bytearray


class Conversation:
    """Sends to a container what it needs, and waits for its answer and its end.

    Args:
        running: the container.
        streams: its standard output and error, where they are collected.
        timeout: seconds from now.
        limit: the most bytes of an answer; None for no limit.
        said: the timeout that a person gave, where ``timeout`` is what is left of it.
    """

    def __init__(
        self,
        running: Running,
        *,
        streams: Streams | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        said: float | None = None,
    ) -> None:
        self._running = running
        self._streams = streams
        self._limit = limit
        self._timeout = timeout if said is None else said
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._poll = select.poll()
        self._ends = running.ends()
        self._poll.register(self._ends, select.POLLIN)
        self._channel_open = True
        self._pending = memoryview(b"")
        self._received = bytearray()
        self._answer: Answer | None = None
        os.set_blocking(running.channel, False)
        if streams is not None:
            for fd in streams.started():
                self._poll.register(fd, select.POLLIN)

    def limit_time(self, timeout: float | None) -> None:
        """Give so many seconds from now on."""
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def send(self, request: bytes) -> None:
        """Send a request, while waiting for something."""
        self._pending = memoryview(request)

    def ask(self, request: bytes) -> Answer | None:
        """Send a request, and wait for the answer; None where the container ended instead.

        Raises:
            CallTimeout: the time is up; the container still runs.
            CallResultError: the answer is larger than the limit; the container still runs.
        """
        self._pending = memoryview(request)
        self._watch_channel()
        while self._step():
            if self._answer is not None:
                return self._taken()
        self._last_words()
        return self._taken()

    def _taken(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def finish(self, *, completely: bool = True) -> Answer | None:
        """Wait until the container has ended; the answer, if there was one.

        Args:
            completely: False: where somebody else sees to the container's end, the end of the
                process that has answered is enough; its descriptors are closed then.

        Raises:
            CallTimeout: the time is up before there was an answer; the container still runs.
            CallResultError: more was sent than the limit allows; the container still runs.
        """
        self._watch_channel()
        graced = False
        while self._step():
            if self._answer is not None and not graced:
                graced = True
                self._deadline, self._timeout = time.monotonic() + GRACE, None
            if graced and not (self._channel_open or completely or self._running.is_ours):
                break
        self._last_words()
        return self._taken()

    def _watch_channel(self) -> None:
        if self._channel_open:
            events = select.POLLIN | (select.POLLOUT if self._pending else 0)
            self._poll.register(self._running.channel, events)

    def _step(self) -> bool:
        """Wait for something to happen, and see to it; False once the container has ended."""
        remaining = None
        if self._deadline is not None:
            remaining = max(0.0, self._deadline - time.monotonic()) * 1000
        events = self._poll.poll(remaining)
        if not events and remaining is not None:
            if self._timeout is None:
                # It has answered, and does not come to its end.
                self._running.kill()
                self._deadline = None
                return True
            said = f"the function had not ended after {self._timeout} seconds"
            raise CallTimeout(said, timeout=self._timeout)
        ended = False
        for fd, event in events:
            if fd == self._ends:
                ended = True
            elif fd == self._running.channel:
                self._talk(event)
            elif self._streams is not None and not self._streams.receive(fd):
                self._poll.unregister(fd)
        return not ended

    def _talk(self, event: int) -> None:
        channel = self._running.channel
        if event & select.POLLOUT and self._pending:
            try:
                sent = os.write(channel, self._pending[: 1 << 20])
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                # It has ended, or will not read any more: what it says about that counts.
                sent = len(self._pending)
            self._pending = self._pending[sent:]
            if not self._pending:
                self._poll.modify(channel, select.POLLIN)
        if event & ~select.POLLOUT and not self._receive():
            self._poll.unregister(channel)
            self._channel_open = False

    def _receive(self) -> bool:
        """Read a part of an answer; False when there is nothing more to come."""
        try:
            data = os.read(self._running.channel, CHUNK)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._received += data
        if len(self._received) >= HEADER.size:
            kind, length = HEADER.unpack_from(self._received)
            if self._limit is not None and length > self._limit:
                said = f"the answer has {length} bytes, and result_limit allows {self._limit}"
                raise CallResultError(said)
            if len(self._received) >= HEADER.size + length:
                payload = self._received[HEADER.size : HEADER.size + length]
                self._received = self._received[HEADER.size + length :]
                self._answer = Answer(kind, payload)
        return bool(data)

    def _last_words(self) -> None:
        """Read what was sent before the end.

        The other ends may never be seen closed, since a process that another thread forked may hold
        copies of them.
        """
        while self._answer is None and self._channel_open and self._readable(self._running.channel):
            self._channel_open = self._receive()
        if self._streams is not None:
            for fd in self._streams.started():
                while self._readable(fd) and self._streams.receive(fd):
                    pass

    @staticmethod
    def _readable(fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))


def end(running: Running) -> Ended:
    """End a container at once, and reap it."""
    running.kill()
    return running.wait()


_LIMITS = {signal.SIGXCPU: "RLIMIT_CPU", signal.SIGXFSZ: "RLIMIT_FSIZE"}


def died(ended: Ended) -> CallError:
    """The exception for a function that ended without an answer."""
    code = ended.returncode
    if code is None:
        return CallError("the function's process ended, and nobody can tell how")
    if code >= 0:
        return CallExited(f"the function ended its interpreter with exit status {code}", code=code)
    if -code in _LIMITS:
        limit = _LIMITS[signal.Signals(-code)]
        return CallLimitExceeded(f"the function exceeded {limit}, see getrlimit(2)", limit=limit)
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    hint = ""
    if -code == signal.SIGKILL:
        hint = (
            ": somebody sent it, or the kernel did, for want of memory or at the hard limit of "
            "RLIMIT_CPU"
        )
    elif -code == signal.SIGSYS:
        hint = ": it made a system call that a seccomp filter forbids"
    return CallKilled(f"the function was killed by signal {name}{hint}", signal=-code)
