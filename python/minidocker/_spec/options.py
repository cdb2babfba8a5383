"""The types that options are made of, and the keywords that stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

__all__ = ["SUBPROCESS_KEYWORDS", "HasPid", "IdMap", "Row"]

SUBPROCESS_KEYWORDS = (
    "bufsize", "close_fds", "cwd", "encoding", "env", "errors", "executable", "extra_groups",
    "group", "pass_fds", "pipesize", "preexec_fn", "process_group", "restore_signals", "shell",
    "start_new_session", "stderr", "stdin", "stdout", "text", "umask", "universal_newlines", "user",
)  # fmt: skip
"""The keywords that a command takes beside those of `Spec`: what a wrong one may have meant."""

Row = tuple[int, int, int]
IdMap = Sequence[Row] | Literal["auto"]


class HasPid(Protocol):
    """A process, or a container: what has a ``pid``."""

    @property
    def pid(self) -> int:
        """The process id, as the caller's PID namespace has it."""
