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
    if parsed.settings.get("json"):
        import json

        rows = [
            {"actor": line.actor, "step": line.step, "call": line.call, "note": line.note}
            for line in plan
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(plan)
    return 0
