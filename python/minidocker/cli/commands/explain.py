"""``minidocker explain``: what ``run`` would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidocker.cli.request import keywords

if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print the plan and return 0."""
    from minidocker import explain

    plan = explain(parsed.operands, **keywords(parsed))
    print(plan)
    return 0
