"""The option tables of the manual, made from the table of options.

``python -m minidocker.cli.reference docs/cli.md`` replaces the text between
``<!-- options: COMMAND -->`` and ``<!-- end -->`` in the file. A test checks that it is current.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from minidocker.cli.options import COMMANDS

if TYPE_CHECKING:
    from minidocker.cli.parser import Command

_BLOCK = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def updated(text: str) -> str:
    """Return the text of a manual with current tables of options."""
    return _BLOCK.sub(lambda block: block[1] + markdown(COMMANDS[block[2]]) + block[3], text)


def markdown(command: Command) -> str:
    """Return the usage of a command and its table of options."""
    lines = [f"\n```\n{command.usage}\n```\n"]
    if command.options:
        lines.append("| option | meaning | example |\n|---|---|---|")
        lines += [
            f"| {_code(row.spelling)} | {_cell(row.summary)} | {_code(row.example)} |"
            for row in command.options
        ]
        lines.append("")
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(paths: list[str]) -> None:
    """Update the option tables in the named files."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(updated(text))


if __name__ == "__main__":
    main(sys.argv[1:])
