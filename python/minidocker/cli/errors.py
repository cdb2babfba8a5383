"""Output and error messages, and docker's exit statuses."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

from minidocker._warnings import SpecWarning
from minidocker.cli.parser import UsageError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

#: minidocker itself failed: a wrong option, or the kernel refused to make the container.
FAILED = 125
#: The command exists but could not be executed.
NOT_EXECUTABLE = 126
#: The command was not found.
NOT_FOUND = 127


def output(text: str) -> None:
    """Print text on standard output.

    Raises:
        BrokenPipeError: its reader has closed it.
        UsageError: it cannot be written, for example because the disk is full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"cannot write to standard output: {error.strerror}") from error


def complain(message: str) -> None:
    """Print ``minidocker: message`` on standard error, as one line."""
    note("minidocker: " + " ".join(message.split("\n")))


def note(line: str) -> None:
    """Print a line on standard error."""
    try:
        sys.stderr.write(line + _line_end())
        sys.stderr.flush()
    except OSError:
        # Its reader or its terminal has gone. The exit status still says what happened.
        discard(sys.stderr)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print the package's own warnings as ``minidocker: warning: message`` meanwhile."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, *details: Any, **more: Any) -> None:
            if isinstance(message, SpecWarning):
                from minidocker.cli.wording import warning

                complain(f"warning: {warning(message)}")
            else:
                others(message, *details, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", SpecWarning)
        yield


def discard(stream: TextIO) -> None:
    """Discard what a stream still holds; otherwise the interpreter writes it when it exits."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stream.fileno())
    os.close(null)


def _line_end() -> str:
    """Return the end of a line on standard error: with a carriage return for a raw terminal."""
    if sys.platform != "linux" or not sys.stderr.isatty():
        return "\n"
    import termios

    # Without OPOST, the terminal does not add one.
    is_raw = not termios.tcgetattr(sys.stderr.fileno())[1] & termios.OPOST
    return "\r\n" if is_raw else "\n"


def report(error: Exception) -> int:
    """Print the message of an error and return the exit status for it."""
    if isinstance(error, UsageError):
        complain(str(error))
        return FAILED
    from minidocker.cli.wording import message

    complain(message(error))
    return _status(error)


def _status(error: Exception) -> int:
    from minidocker._errors import CommandNotFound, SpawnError

    if isinstance(error, CommandNotFound):
        return NOT_FOUND
    if isinstance(error, SpawnError) and error.step == "exec":
        return NOT_EXECUTABLE
    return FAILED


def exit_status(returncode: int) -> int:
    """Return the shell's exit status for a return code of :class:`subprocess.Popen`."""
    return 128 - returncode if returncode < 0 else returncode
