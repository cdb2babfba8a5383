"""The command line: ``minidocker``, or ``python -m minidocker``."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import TextIO

    from minidocker.cli.parser import Parsed

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit status.

    Args:
        argv: the words after ``minidocker``; by default those of this process.

    The status is the command's own; 128+n if signal n ended the command; 125 if minidocker itself
    failed; 126 if the command could not be executed; 127 if it was not found.
    """
    _open_standard_streams()
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our own output has closed it. The interpreter flushes again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return _BROKEN_PIPE
    return status


def _open_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that the caller closed.

    Otherwise the next opened file would become the command's input or output.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # open(2) returns the lowest free number: fd
            stream = os.fdopen(fd, "r" if fd == 0 else "w", closefd=False)
            setattr(sys, name, stream)


def _dispatch(arguments: list[str]) -> int:
    from minidocker.cli import errors
    from minidocker.cli.options import COMMANDS
    from minidocker.cli.parser import HelpRequested, UsageError, parse

    name, *rest = arguments or [""]
    if name in ("", "--help"):
        return _overview(sys.stdout if name else sys.stderr)
    if name == "--version":
        return _version()
    if name == "__complete":
        from minidocker.cli.completion import answer

        return answer(rest)
    try:
        if name not in COMMANDS:
            raise UsageError(_unknown(name, list(COMMANDS)))
        parsed = parse(COMMANDS[name], rest)
    except HelpRequested:
        from minidocker.cli import usage

        sys.stdout.write(usage.command_help(COMMANDS[name]))
        return 0
    except UsageError as error:
        return errors.report(error)
    return _run(parsed)


def _run(parsed: Parsed) -> int:
    from importlib import import_module

    from minidocker._errors import Error
    from minidocker.cli import errors
    from minidocker.cli.parser import UsageError

    command = import_module(f"minidocker.cli.commands.{parsed.command.name}")
    try:
        status: int = command.main(parsed)
    except BrokenPipeError:
        raise
    except (UsageError, Error, OSError) as error:
        return errors.report(error)
    return status


def _unknown(name: str, names: list[str]) -> str:
    from minidocker._words import nearest

    near = nearest(name, names)
    what = "option" if name.startswith("-") else "command"
    remedy = f"did you mean {near}?" if near else "see minidocker --help"
    return f"unknown {what} {name}; {remedy}"


def _overview(stream: TextIO) -> int:
    from minidocker.cli import errors, usage

    stream.write(usage.overview())
    return 0 if stream is sys.stdout else errors.FAILED


def _version() -> int:
    from minidocker import _core

    print(f"minidocker {_core.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
