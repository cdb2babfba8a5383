"""The parts of a container's picture; other modules draw it as text or as HTML."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker._spec.names import Kind

__all__ = ["Link", "Picture", "PictureRow", "Section"]


class Link(enum.Enum):
    """The relation between the two cells of a row."""

    SHARED = "shared"
    """Both sides are in one namespace, or see the same contents of it."""
    SAME = "same"
    """One thing that has a name on each side: a process, a user, a file system."""
    OWN = "own"
    """Each side has its own."""
    NONE = ""
    """There is no relation: one of the cells is empty or stands alone."""


class PictureRow(NamedTuple):
    """One line of the picture."""

    host: str
    link: Link
    #: The label of the line between the two cells.
    label: str
    container: str


class Section(NamedTuple):
    """One kind of namespace: its inodes on both sides, and its contents."""

    kind: Kind
    title: str
    head: PictureRow
    rows: tuple[PictureRow, ...]


class Picture(NamedTuple):
    """Two boxes, the host and the container, and the lines between them."""

    #: The host pid of the container's first process.
    pid: int
    #: The host name of each side; None if it is unknown.
    host: str | None
    container: str | None
    sections: Sequence[Section]
