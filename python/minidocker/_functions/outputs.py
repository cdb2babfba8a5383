"""The standard output and error of functions: captured, or shown where the caller prints.

A function usually shares the descriptors 1 and 2 of the caller. That is not enough if the caller's
``sys.stdout`` is no file, as in Jupyter: its stream sends messages through a socket, which a copy
of the process cannot use. Then the function writes to pipes, and the caller passes on the text.
"""

from __future__ import annotations

import abc
import codecs
import contextvars
import io
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._errors import CallResultError
from minidocker._fd import pipe
from minidocker._functions import descriptors
from minidocker._functions.messages import CHUNK

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Captured", "Destination", "Shown", "Streams"]


class Streams(abc.ABC):
    """Two pipes, for the standard output and the standard error of a function."""

    def __init__(self) -> None:
        self._read: list[int] = []
        self._write: list[int] = []
        try:
            for _ in range(2):
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
        """Read available data, at most `CHUNK` bytes; return False at the end of the file."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return True
        self._accept(self._read.index(fd), data)
        return bool(data)

    @abc.abstractmethod
    def _accept(self, index: int, data: bytes) -> None:
        """Take data of the output (0) or the error (1)."""

    def close(self) -> None:
        """Close every descriptor."""
        descriptors.release(*self._read, *self._write)
        self._read, self._write = [], []


class Captured(Streams):
    """Collects the output.

    Args:
        limit: the maximum size of each stream, in bytes; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.collected = (bytearray(), bytearray())
        super().__init__()

    def _accept(self, index: int, data: bytes) -> None:
        """Collect data.

        Raises:
            CallResultError: the function wrote more than the limit.
        """
        buffer = self.collected[index]
        buffer += data
        if self.limit is not None and len(buffer) > self.limit:
            del buffer[self.limit :]
            reason = f"the function wrote more than result_limit allows: {self.limit} bytes"
            raise CallResultError(reason)


class Destination(NamedTuple):
    """The place where the caller prints: two streams, and the context in which it does.

    In Jupyter, the context identifies the running cell.
    """

    streams: tuple[Any, Any]
    context: contextvars.Context

    @classmethod
    def here(cls) -> Self | None:
        """Return where this thread prints; None if descriptors 1 and 2 lead there."""
        streams = sys.stdout, sys.stderr
        if all(_is_file(stream) for stream in streams):
            return None
        return cls(streams, contextvars.copy_context())

    def write(self, index: int, text: str) -> None:
        """Print text at once on the output (0) or the error (1)."""
        if text and (stream := self.streams[index]) is not None:
            self.context.run(_write, stream, text)


def _write(stream: Any, text: str) -> None:
    stream.write(text)
    stream.flush()


def _is_file(stream: Any) -> bool:
    """Return whether a stream writes to a descriptor, which other processes can share."""
    if stream is None:
        return True
    # Jupyter's stream has a fileno(), but does not write to it.
    if not isinstance(stream, io.TextIOWrapper):
        return False
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True


class Shown(Streams):
    """Passes on the output, decoded as UTF-8, as soon as it can be read.

    Args:
        destination: where the output appears; it may change between two tasks.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self._decode = [codecs.getincrementaldecoder("utf-8")("replace").decode for _ in range(2)]
        super().__init__()

    def _accept(self, index: int, data: bytes) -> None:
        self.destination.write(index, self._decode[index](data, final=not data))
