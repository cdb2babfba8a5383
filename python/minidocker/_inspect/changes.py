"""The changes of containers in a kept overlay layer, as `docker diff` lists them."""

from __future__ import annotations

import dataclasses
import os
import stat
from typing import TYPE_CHECKING

from minidocker._errors import SpecError
from minidocker._inspect import proc
from minidocker._inspect.tree_place import TreePlace

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
    found.walk(TreePlace.at(upper), TreePlace.at("/" if rootfs is None else os.fspath(rootfs)))
    return Changes(
        tuple(sorted(found.added)), tuple(sorted(found.changed)), tuple(sorted(found.deleted))
    )


@dataclasses.dataclass(slots=True)
class _Directory:
    """A directory of the layer that is being compared."""

    upper: TreePlace
    #: The original; None if there is none, or if it is no directory.
    lower: TreePlace | None
    #: Its path as the container sees it; empty for the root.
    inside: str
    #: Its status, and that of what the container saw there before.
    status: os.stat_result
    before: os.stat_result | None
    #: The names of its entries, and those that are still to be compared.
    names: frozenset[str]
    left: list[str]
    #: Whether an entry differs.
    differs: bool = False


class _Found:
    def __init__(self) -> None:
        self._owners = _Owners()
        self.added: list[str] = []
        self.changed: list[str] = []
        self.deleted: list[str] = []

    def walk(self, upper: TreePlace, lower: TreePlace) -> None:
        """Compare two directories, with everything below them."""
        # Not by recursion: a container may nest directories deeper than Python's stack.
        way = [self._directory(upper, lower, "", upper.status(), lower.status())]
        while way:
            directory = way[-1]
            if directory.left:
                below = self._compare(directory, directory.left.pop())
                if below is not None:
                    way.append(below)
                continue
            way.pop()
            differs = self._finish(directory)
            if way:
                way[-1].differs |= differs

    def _directory(
        self,
        upper: TreePlace,
        lower: TreePlace | None,
        inside: str,
        status: os.stat_result,
        before: os.stat_result | None,
    ) -> _Directory:
        names = upper.names()
        return _Directory(upper, lower, inside, status, before, frozenset(names), names)

    def _compare(self, directory: _Directory, name: str) -> _Directory | None:
        """Compare an entry; return it if it is a directory, whose entries are to be compared."""
        place = directory.upper.below(name)
        original = None if directory.lower is None else directory.lower.below(name)
        inside = f"{directory.inside}/{name}"
        status = place.status_if_there()
        before = None if original is None else original.status_if_there()
        if status is None:
            # A container that is running has removed it.
            return None
        if _is_whiteout(place, status):
            if before is not None:
                self.deleted.append(inside)
                directory.differs = True
            return None
        if stat.S_ISDIR(status.st_mode):
            same = before is not None and stat.S_ISDIR(before.st_mode)
            return self._directory(place, original if same else None, inside, status, before)
        if before is None:
            self.added.append(inside)
        elif _is_mount_point(status) or (
            original is not None and self._same_file(place, original, status, before)
        ):
            return None
        else:
            self.changed.append(inside)
        directory.differs = True
        return None

    def _finish(self, directory: _Directory) -> bool:
        """Return whether a directory differs, once its entries are compared."""
        lower, before = directory.lower, directory.before
        if lower is not None and directory.upper.attribute(_OPAQUE) in (b"y", b"x"):
            # An opaque directory hides all entries of the original.
            for name in set(lower.names()) - directory.names:
                self.deleted.append(f"{directory.inside}/{name}")
                directory.differs = True
        if not directory.inside:
            return directory.differs
        if before is None:
            self.added.append(directory.inside)
        elif directory.differs or not self._owners.same_attributes(directory.status, before):
            self.changed.append(directory.inside)
        else:
            return False
        return True

    def _same_file(
        self, one: TreePlace, other: TreePlace, new: os.stat_result, old: os.stat_result
    ) -> bool:
        if stat.S_IFMT(new.st_mode) != stat.S_IFMT(old.st_mode):
            return False
        if stat.S_ISLNK(new.st_mode):
            return one.target() == other.target()
        if not self._owners.same_attributes(new, old) or new.st_rdev != old.st_rdev:
            return False
        if not stat.S_ISREG(new.st_mode):
            return True
        try:
            return new.st_size == old.st_size and one.content_equals(other)
        except PermissionError:
            # The container could not read the original either, so this file is not a copy of it.
            return False


def _is_whiteout(place: TreePlace, status: os.stat_result) -> bool:
    """Return whether this entry, a device 0:0 or a marked empty file, hides the original."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    empty = stat.S_ISREG(status.st_mode) and status.st_size == 0
    return empty and place.attribute(_WHITEOUT) is not None


def _is_mount_point(status: os.stat_result) -> bool:
    """Return whether an entry is the mount point of a bind: an empty file of mode 0."""
    empty = stat.S_ISREG(status.st_mode) and not status.st_size
    return empty and not stat.S_IMODE(status.st_mode)


class _Owners:
    """The owners that containers of this caller can give to their files."""

    def __init__(self) -> None:
        # What a plain caller's container copies always belongs to the caller.
        self._compares = os.geteuid() == 0
        self._uids, self._gids = _own_map("uid"), _own_map("gid")

    def same_attributes(self, new: os.stat_result, old: os.stat_result) -> bool:
        """Return whether mode and owner are the same, as far as a copy can keep the owner."""
        if stat.S_IMODE(new.st_mode) != stat.S_IMODE(old.st_mode):
            return False
        if not self._compares:
            return True
        ids = ((new.st_uid, old.st_uid, self._uids), (new.st_gid, old.st_gid, self._gids))
        return all(one == other or not _maps(rows, other) for one, other, rows in ids)


def _own_map(kind: str) -> tuple[proc.IdRow, ...]:
    try:
        return proc.id_map("self", kind)
    except OSError:
        # Without /proc, assume that every id is mapped.
        return (proc.IdRow(0, 0, 2**32 - 1),)


def _maps(rows: tuple[proc.IdRow, ...], number: int) -> bool:
    return any(row.inside <= number < row.inside + row.length for row in rows)
