"""``minidocker explain``: the plan of ``run``, without a container."""

from __future__ import annotations

from minidocker.cli.errors import output
from minidocker.cli.foreground import CommandStreams
from minidocker.cli.request import is_relayed, keywords

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print the plan and return 0."""
    from minidocker._run.explain import plan
    from minidocker._run.launch import Launch

    chosen = keywords(parsed)
    with CommandStreams(parsed.settings, relayed=is_relayed(chosen)) as streams:
        how = Launch(terminal=streams.terminal is not None)
        planned = plan(how, parsed.operands, {**chosen, **streams.keywords})
    if parsed.settings.get("json"):
        import json

        output(json.dumps([call._asdict() for call in planned], indent=2) + "\n")
    else:
        output(f"{planned}\n")
    return 0
