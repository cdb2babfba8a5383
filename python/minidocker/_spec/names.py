"""The names of the kinds of namespace and of the profiles."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"]
    Profile = Literal["namespaces", "docker", "untrusted"]

__all__ = ["KINDS", "PROFILES"]

KINDS: tuple[Kind, ...] = ("pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time")

PROFILES: tuple[Profile, ...] = ("namespaces", "docker", "untrusted")
