"""The picture of a `View` in plain text: two boxes side by side, with lines between them."""

from __future__ import annotations

import unicodedata

from minidocker._inspect.picture import Link, Picture, PictureRow
from minidocker._inspect.text import printable

_WIDEST = 60
_STROKES = {Link.SHARED: "━", Link.SAME: "┄", Link.OWN: " ", Link.NONE: " "}
_BETWEEN = 20


def text(picture: Picture) -> str:
    """Return the picture as lines for a terminal."""
    lines = [row for section in picture.sections for row in (section.head, *section.rows)]
    cells = [row.host for row in lines], [row.container for row in lines]
    widths = [min(_WIDEST, max(map(columns, side)) + len("  ")) for side in cells]
    heads = _heads(picture)
    widths = [max(width, columns(head)) for width, head in zip(widths, heads, strict=True)]

    def edge(left: str, right: str) -> str:
        boxes = [f"{left}{'─' * (width + 2)}{right}" for width in widths]
        return (" " * _BETWEEN).join(boxes)

    def line(host: str, between: str, container: str) -> str:
        left, right = (
            f"│ {_fit(cell, width)} │"
            for cell, width in zip((host, container), widths, strict=True)
        )
        return f"{left}{between}{right}"

    blank = " " * _BETWEEN
    out = [edge("┌", "┐"), line(heads[0], blank, heads[1])]
    for section in picture.sections:
        out.append(edge("├", "┤"))
        head = section.head
        title = section.title
        out.append(line(f"{title}  {head.host}", _between(head), f"{title}  {head.container}"))
        out += [line(f"  {row.host}", _between(row), f"  {row.container}") for row in section.rows]
    out.append(edge("└", "┘"))
    return "\n".join(out)


def _heads(picture: Picture) -> tuple[str, str]:
    host, container = (
        f" {printable(name)}" if name else "" for name in (picture.host, picture.container)
    )
    return f"HOST{host}", f"CONTAINER{container}  pid {picture.pid} on the host"


def _between(row: PictureRow) -> str:
    stroke = _STROKES[row.link]
    label = f" {row.label} " if row.label else ""
    return label.center(_BETWEEN, stroke)


def _fit(cell: str, width: int) -> str:
    if columns(cell) > width:
        while columns(cell) > width - 1:
            cell = cell[:-1]
        cell += "…"
    return cell + " " * (width - columns(cell))


def columns(cell: str) -> int:
    """Return the number of terminal columns of a text."""
    return sum(
        0
        if unicodedata.combining(letter)
        else 2
        if unicodedata.east_asian_width(letter) in "WF"
        else 1
        for letter in cell
    )
