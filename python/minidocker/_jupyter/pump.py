"""Live output of a process."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

from minidocker._fd import available, pipe
from minidocker._run import timeouts
from minidocker._unpatched import Poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK = 1 << 16


class Output:
    """A pipe for a process's output, and the function that receives its text.

    Args:
        write: called with each piece of text, decoded as UTF-8 (invalid bytes become U+FFFD).
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self.reader, self.writer = pipe()
        os.set_blocking(self.reader, False)
        self._write = write
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def receive(self) -> bool:
        """Pass on the pending output; return False if there is none."""
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return False
        if text := self._decode(data, final=not data):
            self._write(text)
        return bool(data)

    def drain(self) -> None:
        """Pass on the output that is pending now, but not what is written meanwhile."""
        for _ in range(available(self.reader) // _CHUNK + 1):
            if not self.receive():
                break

    def close_writer(self) -> None:
        """Close this process's descriptor of the writing end, which the other process has now."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        """Close both ends."""
        self.close_writer()
        os.close(self.reader)


@contextlib.contextmanager
def outputs(*writes: Callable[[str], object]) -> Iterator[list[Output]]:
    """Yield an `Output` for each of ``writes``, and close them all at the end."""
    made: list[Output] = []
    try:
        for write in writes:
            made.append(Output(write))  # noqa: PERF401 - those made so far are closed if one fails
        yield made
    finally:
        for output in made:
            output.close()


def pump(sources: Iterable[Output], ended: int, *, timeout: float | None = None) -> bool:
    """Pass on output until the process has ended, and then the rest of it.

    This does not wait for writers that outlive the process, such as background processes.

    Args:
        sources: the outputs.
        ended: a descriptor that is readable after the process has ended, such as its pidfd.
        timeout: the longest wait, in seconds.

    Returns:
        whether the process has ended; False if the time was up.
    """
    deadline = timeouts.deadline_after(timeout)
    sources = list(sources)
    poll = Poll()
    poll.register(ended, select.POLLIN)
    by_fd = {source.reader: source for source in sources}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    finished = False
    while not finished:
        events = poll.poll(timeouts.milliseconds_until(deadline))
        if deadline is not None and time.monotonic() >= deadline:
            break
        for fd, event in events:
            if fd == ended:
                finished = True
            elif not by_fd[fd].receive() and event & select.POLLHUP:
                poll.unregister(fd)
    for source in sources:
        source.drain()
    return finished
