"""The report of `doctor`: rows, as text, as HTML, as data."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from minidocker._errors import SpecError
from minidocker._words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._inspect.html import PrettyPrinter

__all__ = ["Report", "Row", "Status"]

Status = Literal["works", "fails", "missing-optional"]

_MARKS: dict[Status, str] = {"works": "ok", "fails": "FAIL", "missing-optional": "--"}
_WORDS: dict[Status, str] = {
    "works": "works",
    "fails": "fails",
    "missing-optional": "missing (optional)",
}
_WIDTH = 100


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The result of one check.

    Attributes:
        name: the short name, such as ``"fresh-proc"``. Namespaces have the names of
            `NamespaceOptions`.
        title: the name in words.
        status: ``"works"``, ``"fails"`` (every container needs it) or ``"missing-optional"`` (only
            the options that need it cannot be used).
        detail: the finding, or the cause of the failure.
        remedy: one remedy, a sentence without a full stop; None if it works.
        essential: whether `run` needs it with its default options.
    """

    name: str
    title: str
    status: Status
    detail: str
    remedy: str | None
    essential: bool

    @property
    def works(self) -> bool:
        """Whether the status is ``"works"``."""
        return self.status == "works"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A report on what works on this machine, for this caller, now.

    It is a sequence of `Row` by number and a mapping by name, and true if everything essential
    works.

    Attributes:
        rows: the results of all checks, in their order.
        surroundings: one phrase for each fact about the machine and the caller.
    """

    rows: tuple[Row, ...]
    surroundings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything works that `run` needs with its default options."""
        return all(row.works for row in self.rows if row.essential)

    def __bool__(self) -> bool:
        return self.ok

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: str | int) -> Row:
        """Return the row of that name or number.

        Raises:
            SpecError: no row has that name.
        """
        if isinstance(key, int):
            return self.rows[key]
        for row in self.rows:
            if row.name == key:
                return row
        names = [row.name for row in self.rows]
        near = nearest(key, names)
        advice = f"did you mean {near!r}?" if near else f"the rows are {', '.join(names)}"
        raise SpecError(f"the report has no such row: {advice}", option="name", value=key)

    def why(self, *names: str) -> str | None:
        """Return why something does not work, as a reason to skip a test; None if everything works.

        ::

            if reason := minidocker.doctor().why("overlay"):
                pytest.skip(reason)

        Args:
            names: names of rows, such as ``"overlay"``; by default all essential rows.

        Raises:
            SpecError: no row has that name.
        """
        rows = [self[name] for name in names] or [row for row in self.rows if row.essential]
        for row in rows:
            if not row.works:
                return f"{row.title} does not work here: {row.detail}. Remedy: {row.remedy}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as data that `json` can write."""
        return {
            "ok": self.ok,
            "surroundings": list(self.surroundings),
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        names = max((len(row.name) for row in self.rows), default=0)
        titles = max((len(row.title) for row in self.rows if row.works), default=0)
        lines = [_ascii("; ".join(self.surroundings)), ""]
        for row in self.rows:
            mark = f"{_MARKS[row.status]:<4}  {row.name:<{names}}  "
            if row.works:
                lines.append(f"{mark}{row.title:<{titles}}  {row.detail}".rstrip())
                continue
            lines.append(f"{mark}{row.title}")
            indent = " " * len(mark)
            for text in (row.detail, f"Remedy: {row.remedy}"):
                width = max(_WIDTH - len(indent), 40)
                # Do not break a command at its hyphens: the user copies it.
                wrapped = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
                lines += [indent + line for line in wrapped]
        lines += ["", self.summary]
        return "\n".join(map(_ascii, lines))

    def __repr__(self) -> str:
        return str(self)

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text("..." if cycle else str(self))

    @property
    def summary(self) -> str:
        """The report in one sentence."""
        essential = [row for row in self.rows if row.essential]
        failing = [row.name for row in essential if not row.works]
        if failing:
            steps = f"{len(failing)} of {len(essential)} essential steps"
            return f"{steps} {'fails' if len(failing) == 1 else 'fail'}: {', '.join(failing)}."
        missing = [row.name for row in self.rows if not row.works]
        if missing:
            return f"Everything essential works; missing and optional: {', '.join(missing)}."
        return "Everything works."

    def _repr_html_(self) -> str:
        # Set no colours, so that light and dark pages work; the status is a word instead.
        left = ' style="text-align:left;vertical-align:top"'
        head = "".join(f"<th{left}>{name}</th>" for name in ("", "name", "what", "found"))
        body = []
        for row in self.rows:
            found = html.escape(row.detail)
            if row.remedy is not None:
                found += f"<br><b>Remedy:</b> {html.escape(row.remedy)}"
            status = _WORDS[row.status]
            cells = [
                status if row.works else f"<b>{html.escape(status)}</b>",
                f"<code>{html.escape(row.name)}</code>",
                html.escape(row.title),
                found,
            ]
            body.append("<tr>" + "".join(f"<td{left}>{cell}</td>" for cell in cells) + "</tr>")
        return (
            '<div class="minidocker-doctor">'
            f"<p>{html.escape('; '.join(self.surroundings))}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            f"<p>{html.escape(self.summary)}</p></div>"
        )


def _ascii(text: str) -> str:
    """Return the text in ASCII, because file names and labels may contain any character."""
    return text.encode("ascii", "backslashreplace").decode()
