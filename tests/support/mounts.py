"""A mount table that changes only when this process changes it."""

import contextlib
import tempfile
from pathlib import Path

from minidocker import linux
from minidocker._inspect import proc
from minidocker.linux import CloneFlags, MountFlags, UmountFlags
from support.places import TESTS

CAP_SYS_ADMIN = 21


def unshare_mounts() -> None:
    """Give a process that may mount a mount namespace of its own.

    Its mounts are shared, as under systemd. The mounts of a container that fails to make its own
    private therefore appear here. Nothing propagates to or from the machine.
    """
    if may_mount():
        linux.unshare(CloneFlags.NEWNS)
        for propagation in (MountFlags.PRIVATE, MountFlags.SHARED):
            linux.mount(None, "/", mountflags=MountFlags.REC | propagation)
            if propagation is MountFlags.PRIVATE:
                _take_off_mounts_in(Path(tempfile.gettempdir()))


def _take_off_mounts_in(directory: Path) -> None:
    """Take off what other programs have mounted in a directory.

    An overlay on the host takes one for each entry beside a mount point.
    """
    for entry in reversed(proc.mounts()):
        target = Path(entry.target)
        if directory in target.parents and not TESTS.is_relative_to(target):
            # Another mount may hide it.
            with contextlib.suppress(OSError):
                linux.umount2(target, UmountFlags.DETACH)


def may_mount() -> bool:
    """Return whether this process has CAP_SYS_ADMIN, capabilities(7)."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    effective = next(row[1] for row in rows if row[0] == "CapEff:")
    return bool(int(effective, 16) >> CAP_SYS_ADMIN & 1)


def own_mounts() -> list[str]:
    """Return the rows of the mount table that this process or its containers may have changed.

    Without CAP_SYS_ADMIN there are none: the kernel refuses every mount of such a process, and
    propagates none to it from the user namespaces below.
    """
    return Path("/proc/self/mountinfo").read_text().splitlines() if may_mount() else []
