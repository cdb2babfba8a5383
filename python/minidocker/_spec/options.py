"""The types of options, and the keywords that a command takes beside them."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal, Protocol

    IdRange = tuple[int, int, int]
    IdMap = Sequence[IdRange] | Literal["auto"]

    class HasPid(Protocol):
        """A process or container: an object with a ``pid``."""

        @property
        def pid(self) -> int:
            """The process id in the caller's PID namespace."""


__all__ = ["SUBPROCESS_KEYWORDS", "WINDOWS_KEYWORDS"]

SUBPROCESS_KEYWORDS = (
    "bufsize", "close_fds", "cwd", "encoding", "env", "errors", "executable", "extra_groups",
    "group", "pass_fds", "pipesize", "preexec_fn", "process_group", "restore_signals", "shell",
    "start_new_session", "stderr", "stdin", "stdout", "text", "umask", "universal_newlines", "user",
)  # fmt: skip
"""The keywords of a command that are not fields of `Spec`; suggestions for an unknown keyword."""

WINDOWS_KEYWORDS = ("creationflags", "startupinfo")
"""subprocess.Popen takes these on every system, and refuses all but their defaults on Linux."""
