"""The types of the fields of `Spec` as keywords.

They are apart from `Spec`, which a command line imports: `typing` is slow to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from minidocker._spec.confine import Seccomp, SeccompDocument, Ulimits
    from minidocker._spec.mounts import Mount, Path
    from minidocker._spec.names import Profile
    from minidocker._spec.namespaces import NamespaceOptions
    from minidocker._spec.options import HasPid, IdMap

__all__ = ["CommandOptions", "SpecOptions"]


class CommandOptions(TypedDict, total=False):
    """The fields of `Spec` that belong to a command and not to the container that it enters."""

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
