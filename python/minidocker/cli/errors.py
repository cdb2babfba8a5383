"""Error messages on standard error, and docker's exit statuses."""

from __future__ import annotations

import sys

from minidocker.cli.parser import UsageError

#: minidocker itself failed: a wrong option, or the kernel refused to make the container.
FAILED = 125
#: The command exists but could not be executed.
NOT_EXECUTABLE = 126
#: The command was not found.
NOT_FOUND = 127


def complain(message: str) -> None:
    """Print ``minidocker: message`` on standard error, as one line."""
    line = " ".join(message.split("\n"))
    sys.stderr.write(f"minidocker: {line}{_line_end()}")
    sys.stderr.flush()


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
    complain(str(error) or type(error).__name__)
    return _status(error)


def _status(error: Exception) -> int:
    if isinstance(error, UsageError):
        return FAILED
    from minidocker._errors import CommandNotFound, SpawnError

    if isinstance(error, CommandNotFound):
        return NOT_FOUND
    if isinstance(error, SpawnError) and error.step == "exec":
        return NOT_EXECUTABLE
    return FAILED


def exit_status(returncode: int) -> int:
    """Return the shell's exit status for a return code of :class:`subprocess.Popen`."""
    return 128 - returncode if returncode < 0 else returncode
