"""What is known of a command that has ended."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Any, TypeVar

__all__ = ["CompletedProcess", "Usage"]

Output = TypeVar("Output")


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a command used up.

    Attributes:
        wall: seconds from its start to the moment when its end was seen.
        user: seconds of CPU time in the command and in the children that it waited for; nan where
            nobody can tell any more: SIGCHLD is ignored, or somebody else has waited for it.
        system: seconds of CPU time in the kernel for them; likewise.
        peak: the largest resident set in bytes, or None where the kernel cannot tell it from the
            caller's own: without ``init=True`` the child begins in the caller's memory, so a
            smaller peak of its own does not show.
    """

    wall: float
    user: float
    system: float
    peak: int | None


class CompletedProcess(subprocess.CompletedProcess[Output]):
    """A `subprocess.CompletedProcess` that also tells what the command used.

    Attributes:
        usage: its `Usage`.
    """

    usage: Usage

    def __init__(
        self, args: Any, returncode: int, stdout: Any = None, stderr: Any = None, *, usage: Usage
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.usage = usage
