"""Common functions for the HTML of values. They escape texts and set no colours."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Protocol

from minidocker._inspect.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class PrettyPrinter(Protocol):
    """The methods used here of the argument that IPython passes to ``_repr_pretty_``."""

    def text(self, obj: str) -> None:
        """Add a text unchanged."""


def escape(text: object) -> str:
    """Return any text, escaped for an element or a quoted attribute."""
    return html.escape(printable(str(text)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> str:
    """Return a table of texts, aligned to the left, with numbers in a fixed-width font.

    The table sets no colours, so it takes those of its page.
    """
    left = ' style="text-align:left"'
    caption = f'<caption style="text-align:left"><b>{escape(title)}</b></caption>' if title else ""
    heads = "".join(f'<th{left} scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td{left}>{_cell(value)}</td>" for value in row) + "</tr>"
        for row in rows
    )
    top = f"<thead><tr>{heads}</tr></thead>" if heads else ""
    return f"<table>{caption}{top}<tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f"<code>{value}</code>" if isinstance(value, int) else escape(value)
