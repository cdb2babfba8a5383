"""What the picture of a container consists of, before it is drawn as text or as HTML."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker._spec.names import Kind

__all__ = ["Link", "Picture", "Row", "Section"]


class Link(enum.Enum):
    """How what stands on one side belongs to what stands on the other."""

    SHARED = "shared"
    """It is the very same namespace, or what is in it."""
    SAME = "same"
    """One thing that has a name on each side: a process, a user, a file system."""
    OWN = "own"
    """Each side has its own."""
    NONE = ""
    """There is nothing to say: one of the sides has none."""


class Row(NamedTuple):
    """One line of the picture."""

    host: str
    link: Link
    #: What stands at the line between the two.
    label: str
    container: str


class Section(NamedTuple):
    """One kind of namespace: its inodes on both sides, and what is in it."""

    kind: Kind
    title: str
    head: Row
    rows: tuple[Row, ...]


class Picture(NamedTuple):
    """Two boxes, the host and the container, and what joins them."""

    #: The container's first process, on the host.
    pid: int
    #: The name of each side; None where it could not be told.
    host: str | None
    container: str | None
    sections: Sequence[Section]
