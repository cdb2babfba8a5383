"""``minidocker run``: a command in a new container."""

from __future__ import annotations

import sys

from minidocker.cli.errors import exit_status, note
from minidocker.cli.foreground import launch
from minidocker.cli.request import has_new_pid_namespace, is_pid_1, is_relayed, keywords

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Run the command and return its exit status."""
    from minidocker._run.process import start

    chosen = keywords(parsed)
    explain = parsed.settings.get("explain")
    if explain:
        sys.stderr.flush()
    returncode = launch(
        lambda how, streams: start(how, parsed.operands, {**chosen, **streams}),
        parsed.settings,
        trace=sys.stderr.fileno() if explain else None,
        new_pid_namespace=has_new_pid_namespace(chosen),
        is_pid_1=is_pid_1(chosen),
        relayed=is_relayed(chosen),
    )
    if explain:
        note(_ending(returncode))
    return exit_status(returncode)


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    import signal

    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"  # a real-time signal
    return f"ended by {name}: exit status {exit_status(returncode)}"
