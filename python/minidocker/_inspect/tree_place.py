"""Places in deep trees: paths that are longer than the kernel takes in one call."""

from __future__ import annotations

import os

_LONGEST = 1000
"""The most characters of a path for one call; the kernel takes 4,095 bytes (PATH_MAX)."""

_BLOCK = 1 << 16


class _Base:
    """An open directory, which is closed with the last place below it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class TreePlace:
    """A file or directory: an open directory, and a path relative to it.

    No method follows a link at the end of the path.
    """

    __slots__ = ("_base", "_path")

    def __init__(self, base: _Base, path: str) -> None:
        self._base = base
        self._path = path

    @classmethod
    def at(cls, directory: str) -> TreePlace:
        """Return the place of a directory; links on the way to it are followed."""
        return cls(_Base(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)), ".")

    def below(self, name: str) -> TreePlace:
        """Return the place of an entry of this directory."""
        path = name if self._path == "." else f"{self._path}/{name}"
        if len(path) <= _LONGEST:
            return TreePlace(self._base, path)
        return TreePlace(_Base(self._open(os.O_PATH | os.O_DIRECTORY)), name)

    def _open(self, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self._path, flags, dir_fd=self._base.fd)

    def names(self) -> list[str]:
        """Return the names of the entries of this directory."""
        fd = self._open(os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def status(self) -> os.stat_result:
        """Return its status."""
        return os.stat(self._path, dir_fd=self._base.fd, follow_symlinks=False)

    def status_if_there(self) -> os.stat_result | None:
        """Return its status; None if it does not exist."""
        try:
            return self.status()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def target(self) -> str:
        """Return the target of a link."""
        return os.readlink(self._path, dir_fd=self._base.fd)

    def attribute(self, name: str) -> bytes | None:
        """Return an extended attribute; None if it has none of that name."""
        path = f"/proc/self/fd/{self._base.fd}/{self._path}"
        try:
            return os.getxattr(path, name, follow_symlinks=False)
        except OSError:
            # The file has no such attribute, or the file system supports none.
            return None

    def content_equals(self, other: TreePlace) -> bool:
        """Return whether two regular files have the same content."""
        # O_NONBLOCK: a container that is running may have put a FIFO there.
        flags = os.O_RDONLY | os.O_NONBLOCK
        with open(self._open(flags), "rb") as one, open(other._open(flags), "rb") as two:
            while block := one.read(_BLOCK):
                if block != two.read(_BLOCK):
                    return False
            return not two.read(1)
