"""The option tables of the manual, from the table of options.

``python -m minidocker.cli.reference docs/cli.md`` replaces what stands between
``<!-- options: COMMAND -->`` and ``<!-- end -->`` in the file; a test compares the two.
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
    """Return a manual with the tables of options as they are now."""
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
    """Bring the named files up to date."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(updated(text))


if __name__ == "__main__":
    main(sys.argv[1:])
