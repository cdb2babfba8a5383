"""A mount table that changes only when this process changes it."""

from pathlib import Path

from minidocker import linux
from minidocker.linux import CloneFlags, MountFlags

CAP_SYS_ADMIN = 21


def unshare_mounts() -> None:
    """Give a process that may mount a mount namespace of its own.

    Its mounts are shared, as systemd has them, so that those of a container that does not make its
    own private show here. They propagate neither to the machine nor from it.
    """
    if may_mount():
        linux.unshare(CloneFlags.NEWNS)
        for propagation in (MountFlags.PRIVATE, MountFlags.SHARED):
            linux.mount(None, "/", mountflags=MountFlags.REC | propagation)


def may_mount() -> bool:
    """Whether this process may mount, capabilities(7)."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    effective = next(row[1] for row in rows if row[0] == "CapEff:")
    return bool(int(effective, 16) >> CAP_SYS_ADMIN & 1)


def own_mounts() -> list[str]:
    """The rows of the mount table that this process or its containers may have changed.

    Without CAP_SYS_ADMIN there are none: the kernel refuses such a process every mount, and lets
    none propagate from the user namespaces below to its own.
    """
    return Path("/proc/self/mountinfo").read_text().splitlines() if may_mount() else []
