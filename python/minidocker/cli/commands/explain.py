"""``minidocker explain``: the plan of ``run``, without a container."""

from __future__ import annotations

from minidocker.cli.foreground import streams_for, terminal_for
from minidocker.cli.request import keywords

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print the plan and return 0."""
    from minidocker._run.explain import plan
    from minidocker._run.launch import Launch

    terminal = terminal_for(parsed.settings)
    try:
        streams = streams_for(parsed.settings, terminal)
        chosen = {**keywords(parsed), **streams}
        planned = plan(Launch(terminal=terminal is not None), parsed.operands, chosen)
    finally:
        if terminal is not None:
            terminal.close()
    if parsed.settings.get("json"):
        import json

        print(json.dumps([call._asdict() for call in planned], indent=2))
    else:
        print(planned)
    return 0
