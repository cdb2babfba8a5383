"""``minidocker doctor``: a report on what works on this machine."""

from __future__ import annotations

import os
import re
import sys

from minidocker.cli.errors import output

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(_parsed: Parsed) -> int:
    """Print the report; return 1 if something essential does not work."""
    from minidocker._doctor import doctor

    report = doctor()
    text = str(report)
    shows_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    output((_coloured(text) if shows_colours else text) + "\n")
    return 0 if report.ok else 1


_COLOURS = {"ok": 32, "FAIL": 31, "--": 33}


def _coloured(text: str) -> str:
    """Return the report with its marks in green, red and yellow."""

    def colour(mark: re.Match[str]) -> str:
        return f"\x1b[{_COLOURS[mark[0]]}m{mark[0]}\x1b[0m"

    return re.sub(r"^(?:ok|FAIL|--)(?= )", colour, text, flags=re.MULTILINE)
