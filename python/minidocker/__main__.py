"""The command line: ``minidocker``, or ``python -m minidocker``."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
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
    from minidocker.cli import errors
    from minidocker.cli.parser import UsageError

    try:
        return _dispatch(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        return errors.report(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our own output has closed it.
        return _BROKEN_PIPE


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

    if not arguments:
        from minidocker.cli import usage

        sys.stderr.write(usage.overview())
        return errors.FAILED
    name, *rest = arguments
    if name in ("help", "--help", "-h"):
        return _help(rest)
    if name in ("--version", "-v"):
        return _version()
    if name == "__complete":
        from minidocker.cli.completion import answer

        return answer(rest)
    if name not in COMMANDS:
        raise UsageError(_unknown(name))
    try:
        parsed = parse(COMMANDS[name], rest)
    except HelpRequested:
        return _help([name])
    return _run(parsed)


def _run(parsed: Parsed) -> int:
    from importlib import import_module

    from minidocker._errors import Error
    from minidocker.cli import errors

    command = import_module(f"minidocker.cli.commands.{parsed.command.name}")
    try:
        with errors.warnings_as_lines():
            status: int = command.main(parsed)
    except BrokenPipeError:
        raise
    except (Error, OSError) as error:
        return errors.report(error)
    return status


def _help(names: list[str]) -> int:
    from minidocker.cli import errors, usage
    from minidocker.cli.options import COMMANDS
    from minidocker.cli.parser import UsageError

    if not names:
        errors.output(usage.overview())
    elif names[0] in COMMANDS:
        errors.output(usage.command_help(COMMANDS[names[0]]))
    else:
        raise UsageError(_unknown(names[0]))
    return 0


def _version() -> int:
    from minidocker import _core
    from minidocker.cli import errors

    errors.output(f"minidocker {_core.__version__}\n")
    return 0


def _unknown(name: str) -> str:
    from minidocker._vocabulary import command_sentence
    from minidocker._words import nearest
    from minidocker.cli.options import COMMANDS

    explained = command_sentence(name)
    if explained is not None:
        return f"unknown command {name}: {explained}"
    option = COMMANDS["run"].spellings().get(name.partition("=")[0])
    if option is not None:
        return f"{name} comes before the command; options follow it, as in: {option[0].example}"
    near = nearest(name, COMMANDS)
    what = "option" if name.startswith("-") else "command"
    remedy = f"did you mean {near}?" if near else "see minidocker --help"
    return f"unknown {what} {name}; {remedy}"


if __name__ == "__main__":
    sys.exit(main())
