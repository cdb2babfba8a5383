"""``minidocker completion``: the completion script of a shell."""

from __future__ import annotations

from minidocker.cli.completion import SHELLS, script
from minidocker.cli.errors import output
from minidocker.cli.parser import UsageError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print the script and return 0."""
    (shell,) = parsed.operands
    if shell not in SHELLS:
        raise UsageError(f"completion: unknown shell {shell!r}; the shells are {', '.join(SHELLS)}")
    output(script(shell))
    return 0
