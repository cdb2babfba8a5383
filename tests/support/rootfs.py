"""A root file system that has only busybox."""

import shutil
from pathlib import Path

import pytest

APPLETS = (
    "cat", "chmod", "cp", "dd", "df", "env", "find", "grep", "hostname", "id", "ln", "ls", "mkdir",
    "mknod", "mount", "mv", "nslookup", "ping", "ps", "readlink", "rm", "rmdir", "sh", "sleep",
    "stat", "sync", "touch", "tr", "true", "tty", "umount", "wc",
)  # fmt: skip
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "sys", "tmp")
FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf")


def make_rootfs(directory: Path, *, mount_points: bool = True) -> Path:
    """Make a busybox root in `directory`, with or without mount points."""
    program = shutil.which("busybox")
    if program is None:
        pytest.skip("no busybox: install busybox-static")
    (directory / "bin").mkdir(parents=True)
    directory.chmod(0o755)
    shutil.copy(program, directory / "bin/busybox")
    for name in APPLETS:
        (directory / "bin" / name).symlink_to("busybox")
    if mount_points:
        for name in DIRECTORIES:
            (directory / name).mkdir(exist_ok=True)
        for name in FILES:
            (directory / name).touch()
    return directory


def snapshot(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Return the mode, size and modification time of each path below a directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(directory))] = (
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
        )
    return found
