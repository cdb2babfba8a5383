"""The result of a command that has ended."""

from __future__ import annotations

import subprocess

from minidocker._record import record

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Output = TypeVar("Output")
else:
    Output = "Output"

__all__ = ["CompletedProcess", "Usage"]


@record(frozen=True)
class Usage:
    """The resources that a command used; getrusage(2).

    Attributes:
        wall: seconds from its start until its end was noticed.
        user: seconds of CPU time in user mode, of the command and the children that it waited for;
            nan if the kernel has discarded the value, because SIGCHLD is ignored or another wait
            reaped the command.
        system: seconds of CPU time in kernel mode, likewise.
        peak: the largest resident set in bytes. None if the kernel cannot distinguish it from the
            caller's own: without ``init=True`` the child starts in the caller's memory, which hides
            a smaller peak.
    """

    wall: float
    user: float
    system: float
    peak: int | None


class CompletedProcess(subprocess.CompletedProcess[Output]):
    """A `subprocess.CompletedProcess` with the resources that the command used.

    Attributes:
        usage: the `Usage` of the command.
    """

    usage: Usage

    def __init__(
        self, args: Any, returncode: int, stdout: Any = None, stderr: Any = None, *, usage: Usage
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.usage = usage
