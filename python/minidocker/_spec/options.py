"""The options of a container, as keywords, and the types that they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from minidocker._spec.confine import Seccomp, SeccompDocument, Ulimits
    from minidocker._spec.mounts import Mount, Path
    from minidocker._spec.names import Profile
    from minidocker._spec.namespaces import NamespaceOptions

__all__ = ["SUBPROCESS_KEYWORDS", "CommandOptions", "HasPid", "IdMap", "Row", "SpecOptions"]

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


class CommandOptions(TypedDict, total=False):
    """The fields of `Spec` that belong to a command, whichever container it enters."""

    user: int | str | None
    profile: Profile
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    no_new_privileges: bool | None
    seccomp: Seccomp | SeccompDocument | None
    ulimits: Ulimits
    die_with_parent: bool


class SpecOptions(CommandOptions, total=False):
    """The fields of `Spec` as keywords, for functions that take them beside their own."""

    namespaces: NamespaceOptions
    hostname: str | None
    domainname: str | None
    uid_map: IdMap | None
    gid_map: IdMap | None
    network: Literal["none", "host"] | HasPid | None
    rootfs: Path | None
    mounts: Sequence[Mount]
    tmpfs: Mapping[str, str | None] | Sequence[Path] | None
    read_only: bool
    overlay: bool | Path
    devices: Sequence[str]
    init: bool
    time_offsets: Mapping[str, float] | None
