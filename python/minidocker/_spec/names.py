"""The names of the kinds of namespace and of the profiles."""

from typing import Literal, get_args

__all__ = ["KINDS", "PROFILES", "Kind", "Profile"]

Kind = Literal["pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Profile = Literal["namespaces", "docker", "untrusted"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
