"""The options of the magics: those of the command line's ``run``, and a notebook's own.

There is one table of options (``minidocker.cli.options``); what is here is added to it.
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.parser import Parsed

# A cell has no terminal, and nobody types into it; what a line finds is a value, not text.
_NOT_IN_A_NOTEBOOK = {"--interactive", "--tty", "--json", "--no-trunc"}
_SUMMARIES = {
    "doctor": "Try what works on this machine",
    "explain": "Show what run would do, call by call, and do nothing",
    "inspect": "Show what is known of the container of a process",
}
_NAMED = "a variable of the notebook"


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"it is no name of {_NAMED}")
    return text


def _variables(text: str) -> list[str]:
    return [_variable(name.strip()) for name in text.split(",")]


_OWN = (
    Option(
        "--container",
        metavar="NAME",
        convert=_variable,
        store=setting("container"),
        summary="Run the cell in a container that runs already: a variable that holds one",
        example="%%minidocker --container box",
    ),
    Option(
        "--err",
        metavar="NAME",
        convert=_variable,
        store=setting("err"),
        summary="Put what is written to standard error into a variable, instead of showing it",
        example="%%minidocker --err complaints",
    ),
    Option(
        "--no-raise-error",
        store=setting("no_raise_error"),
        summary="Go on after an exit status other than 0; show it only",
        example="%%minidocker --no-raise-error",
    ),
    Option(
        "--out",
        metavar="NAME",
        convert=_variable,
        store=setting("out"),
        summary="Put what is written to standard output into a variable, instead of showing it",
        example="%%minidocker --out listing",
    ),
    Option(
        "--python",
        store=setting("python"),
        summary="The cell is Python: run it in a copy of the notebook's process, which has its "
        "variables",
        example="%%minidocker --python",
    ),
    Option(
        "--return",
        metavar="NAME[,NAME ...]",
        convert=_variables,
        store=setting_items("return"),
        summary="With --python: bring variables back; all others stay as they were",
        example="%%minidocker --python --return result",
    ),
    Option(
        "--shell",
        metavar="PROGRAM",
        store=setting("shell"),
        summary="The shell that runs the cell: it gets the cell after -c (default: sh)",
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
"""Word after ``%minidocker`` to subcommand."""


def words(line: str) -> list[str]:
    """Split a magic's line as a shell would.

    Raises:
        IPython.core.error.UsageError: a quotation is not closed.
    """
    try:
        return shlex.split(line)
    except ValueError as error:
        raise IPythonUsageError(f"{line!r}: {error}") from None


def read(command: Command, arguments: list[str]) -> Parsed | None:
    """Read the words after a magic's name. None: they asked for help, which is shown.

    Raises:
        IPython.core.error.UsageError: the first thing that is wrong.
    """
    try:
        return parse(command, arguments)
    except HelpRequested:
        print(command_help(command), end="")
        return None
    except UsageError as error:
        raise IPythonUsageError(str(error)) from None


def overview() -> str:
    """The text for ``%minidocker`` without a word after it."""
    width = max(len(command.usage) for command in (CELL, *LINES.values())) + 2
    rows = "".join(
        f"  {command.usage:<{width}}{command.summary}\n" for command in (CELL, *LINES.values())
    )
    return (
        f"{rows}\n--help after each of them shows its options (%%minidocker needs a cell for it).\n"
    )


def brief(error: BaseException, *lines: str) -> BaseException:
    """Have IPython show an exception as ``lines``: where in this package it was raised says little.

    Args:
        error: it is raised all the same, with everything that it has.
        *lines: by default its type and its message.
    """
    shown = list(lines) or [f"{type(error).__name__}: {error}"]
    render: Callable[[], list[str]] = lambda: shown  # noqa: E731 - an attribute, not a function
    changed: Any = error
    changed._render_traceback_ = render
    return error
