"""The container around the caller: what it forbids, and the options that start one that does not.

`Surroundings` finds the engine of that container. This module knows each engine's options.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from minidocker._inspect.proc import MountEntry

__all__ = ["PROC_OF_ITS_OWN", "Engine", "Obstacle", "hiding", "remedy", "show_mounts"]

Engine = Literal[
    "docker", "podman", "kubernetes", "lxc", "systemd-nspawn", "WSL", "gVisor", "bubblewrap",
    "firejail", "minidocker",
]  # fmt: skip
"""What runs the outer container."""

Obstacle = Literal[
    "filter", "label", "masks", "read-only-proc", "nodev", "no-new-privileges", "no-setfcap",
    "no-sys-admin", "no-user-namespaces",
]  # fmt: skip
"""A setting of the outer container: its seccomp filter, its label of a security module, its mounts
over parts of /proc or /sys, a read-only /proc, a /dev without working devices, no_new_privs, a
dropped CAP_SETFCAP or CAP_SYS_ADMIN, and a limit of no further user namespaces."""

PROC_OF_ITS_OWN = (
    "start that container with a /proc of its own: bwrap --proc /proc, or unshare --mount-proc"
)
"""The remedy for a /proc of another PID namespace, in which no ancestor shows the engine."""

_ORDER: tuple[Obstacle, ...] = ("filter", "label", "masks")
"""The order in which a launch meets them: behind the first one the others do not show yet."""


class Inner(Protocol):
    """What shows of the outer container from inside."""

    @property
    def engine(self) -> Engine | None: ...

    @property
    def label(self) -> str | None: ...

    @property
    def mounts(self) -> tuple[MountEntry, ...]: ...


class _Options(NamedTuple):
    """The options of one engine."""

    #: A sentence with ``{}`` for the settings.
    sentence: str
    separator: str
    settings: dict[Obstacle, str]


_START = "start that container with {}"

_ENGINES: dict[Engine, _Options] = {
    "docker": _Options(
        _START,
        " ",
        {
            "filter": "--security-opt seccomp=unconfined",
            "label": "--security-opt apparmor=unconfined",
            "masks": "--security-opt systempaths=unconfined",
            "no-setfcap": "--cap-add SETFCAP",
            "no-sys-admin": "--cap-add SYS_ADMIN",
        },
    ),
    "podman": _Options(
        _START,
        " ",
        {
            "filter": "--security-opt seccomp=unconfined",
            "label": "--security-opt label=disable",
            "masks": "--security-opt unmask=ALL",
            "no-setfcap": "--cap-add SETFCAP",
            "no-sys-admin": "--cap-add SYS_ADMIN",
        },
    ),
    "kubernetes": _Options(
        "set {} for the container",
        ", ",
        {
            "filter": "securityContext.seccompProfile.type to Unconfined",
            "label": "securityContext.appArmorProfile.type to Unconfined",
            "masks": "securityContext.procMount to Unmasked",
            "no-setfcap": "securityContext.capabilities.add to SETFCAP",
            "no-sys-admin": "securityContext.capabilities.add to SYS_ADMIN",
        },
    ),
    "systemd-nspawn": _Options(
        _START, " ", {"filter": '--system-call-filter="@mount @sandbox setns unshare"'}
    ),
    "lxc": _Options(
        "set {} for that container",
        ", ",
        {
            "filter": "lxc.seccomp.profile to an empty value",
            "label": "lxc.apparmor.profile to unconfined",
            "masks": "lxc.mount.auto to proc:rw sys:rw",
        },
    ),
    "gVisor": _Options("run it with {}", " ", {"filter": "another OCI runtime than runsc"}),
    "bubblewrap": _Options(
        "start {}",
        " ",
        {
            "filter": "bwrap without --seccomp",
            "masks": "bwrap as a plain user, for whom it covers nothing",
            "read-only-proc": "bwrap with --bind /proc /proc",
            "nodev": "bwrap with --dev /dev",
            "no-user-namespaces": "bwrap without --disable-userns",
            "no-new-privileges": "Python outside of bwrap, which always sets no_new_privileges",
        },
    ),
    "firejail": _Options(
        "run Python outside of firejail, which {}",
        ", and ",
        {"filter": "has a seccomp filter", "masks": "always covers parts of /proc"},
    ),
    "minidocker": _Options(
        _START, " ", {"filter": 'profile="namespaces"', "masks": 'profile="namespaces"'}
    ),
}


def remedy(around: Inner, obstacle: Obstacle) -> str | None:
    """Return how to start the outer container without an obstacle, and without those behind it.

    None if the engine is unknown, or has no option for that.
    """
    options = _ENGINES.get(around.engine) if around.engine is not None else None
    if options is None or obstacle not in options.settings:
        return None
    met: list[Obstacle] = [obstacle]
    if obstacle in _ORDER:
        behind = _ORDER[_ORDER.index(obstacle) + 1 :]
        met += [one for one in behind if _is_there(one, around)]
    settings = dict.fromkeys(options.settings[one] for one in met if one in options.settings)
    return options.sentence.format(options.separator.join(settings))


def _is_there(obstacle: Obstacle, around: Inner) -> bool:
    if obstacle == "label":
        return around.label is not None
    return any(hiding(around.mounts, base) for base in ("/proc", "/sys"))


_EMPTY = ("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd")
"""Mount points that are always empty: a mount on them hides nothing."""

_EMPTY_SYS = (
    "/sys/fs/cgroup", "/sys/fs/bpf", "/sys/fs/fuse/connections", "/sys/fs/pstore",
    "/sys/fs/resctrl", "/sys/fs/selinux", "/sys/fs/smackfs", "/sys/firmware/efi/efivars",
    "/sys/hypervisor/s390", "/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/security",
    "/sys/kernel/tracing",
)  # fmt: skip


def hiding(mounts: tuple[MountEntry, ...], base: str) -> list[MountEntry]:
    """Return the mounts that hide parts of the file system at ``base``, /proc or /sys."""
    empty = _EMPTY + _EMPTY_SYS
    below = (entry for entry in mounts if entry.target.startswith(f"{base}/"))
    return [
        entry
        for entry in below
        if entry.target not in empty
        # A mount below one of them, such as a version 1 controller, hides nothing either.
        and not any(entry.target.startswith(f"{place}/") for place in empty)
    ]


def show_mounts(found: list[MountEntry]) -> str:
    """Return the first three mounts as text, and the number of the others."""
    first = ", ".join(map(_show, found[:3]))
    return f"{first} and {len(found) - 3} more" if len(found) > 3 else first


def _show(entry: MountEntry) -> str:
    what = entry.type if entry.root == "/" else f"{entry.type} {entry.root}"
    return f"{entry.target} ({what})"


_STARTERS: dict[str, Engine] = {"bwrap": "bubblewrap", "firejail": "firejail"}
"""Programs that start a container and stay its parent, by the name of their process."""


def engine_of_ancestors() -> Engine | None:
    """Return the engine of the nearest ancestor that starts containers."""
    pid = os.getppid()
    while pid > 0:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                name, _, rest = file.read().partition(b"(")[2].rpartition(b")")
        except OSError:
            return None
        if (engine := _STARTERS.get(name.decode(errors="replace"))) is not None:
            return engine
        pid = int(rest.split()[1])
    return None


def is_minidocker(mounts: tuple[MountEntry, ...]) -> bool:
    """Return whether a profile of minidocker covers parts of /proc.

    Its covers are two files of one file system in memory.
    """
    covers = {entry.root for entry in hiding(mounts, "/proc") if entry.type == "tmpfs"}
    return bool(covers & {"/directory", "/file"})
