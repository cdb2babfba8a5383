"""`communicate` with a bound on what is captured."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import subprocess
import time

from minidocker._errors import SpecError
from minidocker._run import timeouts
from minidocker._unpatched import Poll

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import IO, Any

__all__ = ["Capture", "bytes_limit", "check_captures", "close_pipe", "decoded"]

_CHUNK = 1 << 16
_POLL_SLICE = 100
"""Milliseconds of one poll(2), which a signal right before it does not interrupt."""


def bytes_limit(limit: Any) -> int | None:
    """Return a checked ``output_limit``.

    Args:
        limit: a number of bytes, or None.

    Raises:
        SpecError: it is not a positive integer.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit <= 0:
        reason = "give the most bytes of output to capture, a positive integer"
        raise SpecError(reason, option="output_limit", value=limit)
    return limit


def check_captures(limit: int | None, *captured: bool) -> None:
    """Refuse a limit of the output if none of it is captured.

    Args:
        limit: the result of `bytes_limit`.
        *captured: whether the standard output is a pipe, and whether the standard error is.

    Raises:
        SpecError: neither is a pipe.
    """
    if limit is None or any(captured):
        return
    reason = "no output is captured: pass capture_output=True, or stdout=PIPE"
    raise SpecError(reason, option="output_limit", value=limit)


class Capture:
    """Feeds a process, and collects its output up to a limit; a timeout may interrupt it.

    Args:
        process: its pipes.
        data: its input, text if the pipe is.
        limit: the most bytes to collect from both streams together.

    Raises:
        SpecError: no output is a pipe, or `communicate` has begun without a limit.
        TypeError: the input is neither bytes nor text.

    Attributes:
        exceeded: whether the process wrote more than the limit.
    """

    def __init__(self, process: subprocess.Popen[Any], data: Any, limit: int) -> None:
        check_captures(limit, process.stdout is not None, process.stderr is not None)
        if process._communication_started:  # type: ignore[attr-defined]
            reason = "communicate() has begun without it: give it to the first call"
            raise SpecError(reason, option="output_limit", value=limit)
        self._process = process
        self._limit = limit
        self._input = memoryview(b"")
        self.exceeded = False
        if process.stdin is not None:
            # The reader may have ended.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.flush()
            if isinstance(data, str) and process.text_mode:  # type: ignore[attr-defined]
                stdin: Any = process.stdin
                data = data.encode(stdin.encoding, stdin.errors)
            self._input = memoryview(data or b"").cast("B")
        streams = (process.stdout, process.stderr)
        self._collected = {stream: bytearray() for stream in streams if stream is not None}
        self._open = {stream.fileno(): stream for stream in self._collected}

    def check_again(self, data: Any, limit: int | None) -> None:
        """Refuse what only the first call of `communicate` may have.

        Args:
            data: the input of a later call.
            limit: its limit; None: the same.

        Raises:
            ValueError: there is an input, as in `subprocess`.
            SpecError: the limit is another one.
        """
        if data:
            raise ValueError("Cannot send input after starting communication")
        if bytes_limit(limit) not in (None, self._limit):
            reason = f"communicate() has begun with {self._limit} bytes: leave it out"
            raise SpecError(reason, option="output_limit", value=limit)

    def exchange(self, deadline: float | None, timeout: float | None) -> None:
        """Exchange data until every pipe has ended, or more than the limit has come.

        Args:
            deadline: a time of `time.monotonic`; None for no limit.
            timeout: the timeout for the exception, in seconds.

        Raises:
            subprocess.TimeoutExpired: the deadline passed; it has the output so far.
        """
        stdin = self._process.stdin
        while not self.exceeded and (self._open or not (stdin is None or stdin.closed)):
            poll = Poll()
            for fd in self._open:
                poll.register(fd, select.POLLIN)
            if stdin is not None and not stdin.closed:
                if self._input:
                    poll.register(stdin.fileno(), select.POLLOUT)
                else:
                    close_pipe(stdin)
            left = timeouts.milliseconds_until(deadline)
            ready = poll.poll(_POLL_SLICE if left is None else min(left, _POLL_SLICE))
            if deadline is not None and time.monotonic() >= deadline:
                raise self.expired(timeout)
            for fd, _ in ready:
                if fd in self._open:
                    self._read(fd)
                elif stdin is not None:
                    self._write(stdin)

    def expired(self, timeout: float | None) -> subprocess.TimeoutExpired:
        """Return the exception for a timeout, with the output so far."""
        stdout, stderr = map(self._bytes, (self._process.stdout, self._process.stderr))
        return subprocess.TimeoutExpired(
            self._process.args, timeout or 0.0, output=stdout or None, stderr=stderr or None
        )

    def _read(self, fd: int) -> None:
        room = self._limit - sum(map(len, self._collected.values()))
        data = os.read(fd, min(_CHUNK, room + 1))
        if not data:
            close_pipe(self._open.pop(fd))
            return
        self.exceeded = len(data) > room
        self._collected[self._open[fd]].extend(data[:room])

    def _write(self, stdin: IO[Any]) -> None:
        try:
            # A pipe that is ready takes this much without blocking.
            written = os.write(stdin.fileno(), self._input[: select.PIPE_BUF])
        except BrokenPipeError:
            # As in subprocess, the command need not read all of its input.
            self._input = memoryview(b"")
        else:
            self._input = self._input[written:]

    def results(self) -> tuple[Any, Any]:
        """Return the standard output and error, each None if it is no pipe."""
        return self._result(self._process.stdout), self._result(self._process.stderr)

    def _bytes(self, stream: IO[Any] | None) -> bytes | None:
        return None if stream is None else bytes(self._collected[stream])

    def _result(self, stream: Any) -> Any:
        data = self._bytes(stream)
        if data is None or not self._process.text_mode:  # type: ignore[attr-defined]
            return data
        return decoded(data, stream.encoding, stream.errors, cut=self.exceeded)


def decoded(data: bytes, encoding: str, errors: str, *, cut: bool) -> str:
    """Return output as text with universal newlines.

    Args:
        data: the output.
        encoding: its encoding.
        errors: how errors of decoding are handled.
        cut: whether it may end within a character, which is then replaced.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    text = decoder.decode(data, final=not cut)
    if cut and decoder.getstate()[0]:
        text += "\N{REPLACEMENT CHARACTER}"
    return text.replace("\r\n", "\n").replace("\r", "\n")


def close_pipe(pipe: IO[Any]) -> None:
    """Close a pipe, whose last bytes are lost if its reader has ended."""
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
