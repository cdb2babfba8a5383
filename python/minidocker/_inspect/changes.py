"""The changes of containers in a kept overlay layer, as `docker diff` lists them."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import stat
from typing import TYPE_CHECKING

from minidocker._errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._spec.mounts import Path

__all__ = ["Changes", "changes"]

_OPAQUE = "user.overlay.opaque"
_WHITEOUT = "user.overlay.whiteout"


@dataclasses.dataclass(frozen=True)
class Changes:
    """The paths that differ, as the container sees them, in sorted tuples.

    ``str()`` has one line for each, as ``docker diff`` prints them: ``A /new``, ``C /etc``,
    ``D /gone``. Iterating yields the same as pairs.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Files that differ in type, content, mode or owner, and directories with such entries."""
    deleted: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        pairs = [
            *(("A", path) for path in self.added),
            *(("C", path) for path in self.changed),
            *(("D", path) for path in self.deleted),
        ]
        return iter(sorted(pairs, key=lambda pair: pair[1]))

    def __len__(self) -> int:
        return len(self.added) + len(self.changed) + len(self.deleted)

    def __str__(self) -> str:
        return "\n".join(f"{kind} {path}" for kind, path in self)


def changes(layer: Path, *, rootfs: Path | None = None) -> Changes:
    """Return the paths that containers with ``overlay=layer`` added, changed and deleted.

    Args:
        layer: the directory that was given as ``overlay``.
        rootfs: the ``rootfs`` of the containers; by default the host's root.

    Raises:
        SpecError: the directory `layer` contains no layer.
        PermissionError: the caller may not read it.
    """
    upper = os.path.join(os.fspath(layer), "upper")
    if not os.path.isdir(upper):
        reason = "this directory contains no layer: give the directory of overlay="
        raise SpecError(reason, option="layer", value=layer)
    found = _Found()
    found.walk(upper, "/" if rootfs is None else os.fspath(rootfs), "")
    return Changes(
        tuple(sorted(found.added)), tuple(sorted(found.changed)), tuple(sorted(found.deleted))
    )


class _Found:
    def __init__(self) -> None:
        self.added: list[str] = []
        self.changed: list[str] = []
        self.deleted: list[str] = []

    def walk(self, upper: str, lower: str | None, inside: str) -> bool:
        """Compare two directories, and return whether they differ; ``lower`` may be None."""
        names = set()
        differ = False
        with os.scandir(upper) as entries:
            for entry in entries:
                names.add(entry.name)
                original = None if lower is None else os.path.join(lower, entry.name)
                differ |= self._compare(entry, original, f"{inside}/{entry.name}")
        if lower is not None and _attribute(upper, _OPAQUE) in (b"y", b"x"):
            # An opaque directory hides all entries of the original.
            for name in set(os.listdir(lower)) - names:
                self.deleted.append(f"{inside}/{name}")
                differ = True
        return differ

    def _compare(self, entry: os.DirEntry[str], original: str | None, inside: str) -> bool:
        status = entry.stat(follow_symlinks=False)
        before = _status(original)
        if _is_whiteout(entry.path, status):
            if before is not None:
                self.deleted.append(inside)
            return before is not None
        if stat.S_ISDIR(status.st_mode):
            same = before is not None and stat.S_ISDIR(before.st_mode)
            differ = self.walk(entry.path, original if same else None, inside)
            if before is None:
                self.added.append(inside)
            elif differ or not _same_attributes(status, before):
                self.changed.append(inside)
            else:
                return False
            return True
        if before is None:
            self.added.append(inside)
            return True
        assert original is not None
        if stat.S_ISREG(status.st_mode) and not stat.S_IMODE(status.st_mode) and not status.st_size:
            # An empty file without permissions in the layer is the mount point of a bind mount.
            return False
        if _same_file(entry.path, original, status, before):
            return False
        self.changed.append(inside)
        return True


def _status(path: str | None) -> os.stat_result | None:
    if path is None:
        return None
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_whiteout(path: str, status: os.stat_result) -> bool:
    """Return whether this entry, a device 0:0 or a marked empty file, hides the original."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return empty and _attribute(path, _WHITEOUT) is not None


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        # The file has no such attribute, or the file system supports none.
        return None


def _same_attributes(one: os.stat_result, other: os.stat_result) -> bool:
    if stat.S_IMODE(one.st_mode) != stat.S_IMODE(other.st_mode):
        return False
    # Files that a plain caller's container copies always belong to the caller: ignore the owner.
    return os.geteuid() != 0 or (one.st_uid, one.st_gid) == (other.st_uid, other.st_gid)


def _same_file(one: str, other: str, new: os.stat_result, old: os.stat_result) -> bool:
    if stat.S_IFMT(new.st_mode) != stat.S_IFMT(old.st_mode):
        return False
    if stat.S_ISLNK(new.st_mode):
        return os.readlink(one) == os.readlink(other)
    if not _same_attributes(new, old) or new.st_rdev != old.st_rdev:
        return False
    if not stat.S_ISREG(new.st_mode):
        return True
    try:
        return new.st_size == old.st_size and filecmp.cmp(one, other, shallow=False)
    except PermissionError:
        # The container could not read the original either, so this file is not a copy of it.
        return False
