"""The result of a command that has ended."""

from __future__ import annotations

import subprocess

from minidocker._record import record

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any, TypeVar

    Output = TypeVar("Output")
    Failure = TypeVar("Failure", subprocess.CalledProcessError, subprocess.TimeoutExpired)
else:
    Output = "Output"

__all__ = ["CompletedProcess", "Usage", "tell"]


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
        limit_hit: the option whose limit ended it: ``"output_limit"``, ``"ulimits.cpu"`` (the CPU
            time of RLIMIT_CPU was used up) or ``"ulimits.fsize"`` (a file grew beyond
            RLIMIT_FSIZE); None if there is none. It speaks of the command itself: a child that such
            a limit ends is the command's affair.
    """

    usage: Usage
    limit_hit: str | None

    def __init__(
        self,
        args: Any,
        returncode: int,
        stdout: Any = None,
        stderr: Any = None,
        *,
        usage: Usage,
        limit_hit: str | None = None,
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.usage = usage
        self.limit_hit = limit_hit

    def check_returncode(self) -> None:
        """Raise a CalledProcessError if the return code is not 0; it has `usage` and `limit_hit`.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        try:
            super().check_returncode()
        except subprocess.CalledProcessError as error:
            raise tell(error, self.usage, self.limit_hit) from None


def tell(failure: Failure, usage: Usage | None, limit_hit: str | None) -> Failure:
    """Give an exception of subprocess the attributes ``usage`` and ``limit_hit``, and return it."""
    failure.__dict__.update(usage=usage, limit_hit=limit_hit)
    return failure
