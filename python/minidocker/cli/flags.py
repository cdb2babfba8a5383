"""The flags of the keywords of :class:`minidocker.Popen`."""

from __future__ import annotations

_FLAGS = {
    "args": "COMMAND",
    "cwd": "--workdir",
    "devices": "--device",
    "extra_groups": "--user",
    "gid_map": "--gidmap",
    "group": "--user",
    "mounts": "--volume or --mount",
    "no_new_privileges": "--security-opt no-new-privileges",
    "pid": "PID",
    "seccomp": "--security-opt seccomp",
    "time_offsets": "--time-offset",
    "uid_map": "--uidmap",
    "ulimits": "--ulimit",
}
"""The flags that are not named like their keywords."""

SHARING = {"net": "network", "user": "userns", "cgroup": "cgroupns"}
"""From a kind of namespace to the option that shares it, where the names differ."""


def flag(keyword: str) -> str:
    """Return the flag of a keyword."""
    return _FLAGS.get(keyword) or "--" + keyword.replace("_", "-")
