"""The text of ``--help``, made from the table of options."""

from __future__ import annotations

from minidocker.cli.options import COMMANDS

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Command

_WIDTH = 100
_COLUMN = 30
_DESCRIPTION = """\
Run a command in Linux namespaces of its own: no daemon, no image, no root.
"""


def overview() -> str:
    """Return the text of ``minidocker --help``."""
    rows = "".join(_row(command.name, command.summary) for command in COMMANDS.values())
    return (
        f"Usage: minidocker COMMAND\n\n{_DESCRIPTION}\nCommands:\n{rows}\n"
        f"Options:\n{_row('--help', 'Print this')}{_row('--version', 'Print the version')}\n"
        "Run 'minidocker COMMAND --help' for the options of a command.\n"
    )


def command_help(command: Command) -> str:
    """Return the text of ``minidocker COMMAND --help``."""
    rows = [(option.spelling, option.summary) for option in command.options]
    rows.append(("--help", "Print this"))
    # Docker's layout: long names are aligned, with or without a one-letter name before them.
    lines = (_row(names if names[1] != "-" else f"    {names}", text) for names, text in rows)
    return f"Usage: {command.usage}\n\n{command.summary}\n\nOptions:\n{''.join(lines)}"


def _row(name: str, text: str) -> str:
    left = f"  {name}"
    lines = _wrapped(text, _WIDTH - _COLUMN)
    if len(left) > _COLUMN - 2:
        lines.insert(0, left)
    else:
        lines[0] = left.ljust(_COLUMN) + lines[0]
    first, *rest = lines
    return "\n".join([first, *(" " * _COLUMN + line for line in rest)]) + "\n"


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
