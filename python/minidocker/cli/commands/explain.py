"""``minidocker explain``: what ``run`` would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minidocker.cli.launch import streams_for, terminal_for
from minidocker.cli.request import keywords

if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print the plan and return 0."""
    from minidocker._inspect.explain import explain

    terminal = terminal_for(parsed.settings)
    try:
        streams = streams_for(parsed.settings, terminal)
        plan = explain(parsed.operands, **keywords(parsed), **streams)
    finally:
        if terminal is not None:
            terminal.close()
    if parsed.settings.get("json"):
        import json

        print(json.dumps([call._asdict() for call in plan], indent=2))
    else:
        print(plan)
    return 0
