"""The kinds of namespace and the profiles, by name: nothing else in the package lists them."""

from typing import Literal, get_args

__all__ = ["KINDS", "PROFILES", "Kind", "Profile"]

Kind = Literal["pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Profile = Literal["namespaces", "docker", "untrusted"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
