"""``minidocker doctor``: what works on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(_parsed: Parsed) -> int:
    """Print the report; return 1 if something essential does not work."""
    from minidocker import doctor

    report = doctor()
    print(report)
    return 0 if report.ok else 1
