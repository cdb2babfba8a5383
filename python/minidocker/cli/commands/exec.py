"""``minidocker exec``: a command in a running container."""

from __future__ import annotations

from minidocker.cli.errors import exit_status
from minidocker.cli.foreground import launch
from minidocker.cli.parser import UsageError
from minidocker.cli.request import attached, keywords
from minidocker.cli.values import process_id

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Run the command and return its exit status."""
    operand, *command = parsed.operands
    try:
        pid = process_id(operand)
    except ValueError as error:
        raise UsageError(f"exec: {operand!r} is not a PID: {error}") from error
    container = attached(pid, "exec")
    chosen = keywords(parsed, entered=pid)
    returncode = launch(
        lambda how, streams: container._start(how, command, {**chosen, **streams}), parsed.settings
    )
    return exit_status(returncode)
