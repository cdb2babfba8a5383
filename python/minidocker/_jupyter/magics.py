"""The options of the magics: those of the command line's ``run``, and some for notebooks only.

This module extends the one table of options, `minidocker.cli.options`.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as IPythonUsageError

from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import (
    Command,
    HelpRequested,
    Option,
    UsageError,
    parse,
    setting,
    setting_items,
)
from minidocker.cli.usage import command_help
from minidocker.cli.wording import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.parser import Parsed

# A cell has no terminal and no input, and the result of a line is a value, not text.
_NOT_IN_A_NOTEBOOK = {"--interactive", "--tty", "--json", "--no-trunc"}
_SUMMARIES = {
    "doctor": "Test what works on this machine",
    "explain": "Show the system calls that run would make, and make none",
    "inspect": "Show a description of the container of a process",
}
_NAMED = "a variable of the notebook"


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"it is not a name of {_NAMED}")
    return text


def _variables(text: str) -> list[str]:
    return [_variable(name.strip()) for name in text.split(",")]


_OWN = (
    Option(
        "--container",
        metavar="NAME",
        convert=_variable,
        store=setting("container"),
        summary="Run the cell in the running container that this variable holds",
        example="%%minidocker --container box",
    ),
    Option(
        "--err",
        metavar="NAME",
        convert=_variable,
        store=setting("err"),
        summary="Store standard error in this variable, instead of showing it",
        example="%%minidocker --err complaints",
    ),
    Option(
        "--no-raise-error",
        store=setting("no_raise_error"),
        summary="Only show an exit status other than 0, and raise no error",
        example="%%minidocker --no-raise-error",
    ),
    Option(
        "--out",
        metavar="NAME",
        convert=_variable,
        store=setting("out"),
        summary="Store standard output in this variable, instead of showing it",
        example="%%minidocker --out listing",
    ),
    Option(
        "--python",
        store=setting("python"),
        summary="Run the cell as Python, in a copy of the notebook's process, which has its "
        "variables",
        example="%%minidocker --python",
    ),
    Option(
        "--return",
        metavar="NAME[,NAME ...]",
        convert=_variables,
        store=setting_items("return"),
        summary="With --python: bring these variables back; all others stay unchanged",
        example="%%minidocker --python --return result",
    ),
    Option(
        "--shell",
        metavar="PROGRAM",
        store=setting("shell"),
        summary="Run the cell in this shell, as the argument of -c (default: sh)",
        example="%%minidocker --shell bash",
    ),
)


def _for_notebooks(options: tuple[Option, ...], *more: Option) -> list[Option]:
    rows = [row for row in options if row.long not in _NOT_IN_A_NOTEBOOK]
    return sorted((*rows, *more), key=lambda row: row.long)


CELL = Command(
    "%%minidocker",
    "Run the cell in a new container, as a shell script",
    _for_notebooks(COMMANDS["run"].options, *_OWN),
    operands="[ARG ...]",
    most=None,
    invocation="%%minidocker",
)


def _line(name: str) -> Command:
    command = COMMANDS[name]
    return Command(
        name,
        _SUMMARIES.get(name, command.summary),
        _for_notebooks(command.options),
        operands=command.operands,
        fewest=command.fewest,
        most=command.most,
        invocation=f"%minidocker {name}",
    )


_VIEW = Command(
    "view",
    "Show the host's view of a container beside its own",
    (),
    operands="PID|NAME",
    fewest=1,
    most=1,
    invocation="%minidocker view",
)

LINES = {
    name: _line(name) for name in COMMANDS if name != "completion"
} | {"view": _VIEW}  # fmt: skip
"""From the word after ``%minidocker`` to its subcommand."""


def words(line: str) -> list[str]:
    """Split a magic's line as a shell would.

    Raises:
        IPython.core.error.UsageError: a quotation mark is not closed.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise IPythonUsageError(f"{line!r}: {error}") from None


def read(command: Command, arguments: list[str]) -> Parsed | None:
    """Parse the words after a magic's name; print the help and return None if they request it.

    Raises:
        IPython.core.error.UsageError: the words are wrong; the message names the first error.
    """
    try:
        return parse(command, arguments)
    except HelpRequested:
        print(command_help(command), end="")
        return None
    except UsageError as error:
        raise IPythonUsageError(str(error)) from None


def overview() -> str:
    """Return the text of ``%minidocker`` without a word after it."""
    width = max(len(command.usage) for command in (CELL, *LINES.values())) + 2
    rows = "".join(
        f"  {command.usage:<{width}}{command.summary}\n" for command in (CELL, *LINES.values())
    )
    return f"{rows}\nEach shows its options with --help (%%minidocker only with a cell below it).\n"


def brief(error: BaseException, *lines: str) -> BaseException:
    """Make IPython show ``lines`` instead of an exception's traceback through this package.

    Args:
        error: the exception, otherwise unchanged.
        *lines: the lines to show; by default the exception's type and message.
    """
    shown = list(lines) or [f"{type(error).__name__}: {message(error)}"]
    render: Callable[[], list[str]] = lambda: shown  # noqa: E731 - an attribute, not a function
    changed: Any = error
    changed._render_traceback_ = render
    return error
