"""``minidocker ps``: the visible containers, whichever program started them."""

from __future__ import annotations

import os

from minidocker._inspect import proc
from minidocker._inspect.text import printable
from minidocker._inspect.uts import hostnames_of
from minidocker.cli.errors import output

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker.cli.parser import Parsed

HEADER = ("PID", "HOSTNAME", "OWNER", "AGE", "NAMESPACES", "COMMAND")
_UNKNOWN = "?"


def main(parsed: Parsed) -> int:
    """Print the list and return 0."""
    settings = parsed.settings
    found = proc.containers()
    if settings.get("quiet"):
        text = "".join(f"{row.pid}\n" for row in found)
    elif settings.get("json"):
        import json

        text = json.dumps(_as_json(found), indent=2) + "\n"
    else:
        text = table(rows(found), None if settings.get("no_trunc") else _width())
    output(text)
    return 0


def _as_json(found: list[proc.FoundContainer]) -> list[dict[str, object]]:
    names = hostnames_of(row.pid for row in found)
    return [
        {
            "pid": row.pid,
            "hostname": names[row.pid],
            "owner": _user(row.owner),
            "age": round(row.age, 2),
            "namespaces": row.differs,
            "command": row.command,
        }
        for row in found
    ]


def rows(found: list[proc.FoundContainer]) -> list[tuple[str, ...]]:
    """Return the rows of the table, each with one cell for each word of ``HEADER``."""
    names = hostnames_of(row.pid for row in found)
    return [
        (
            str(row.pid),
            printable(names[row.pid] or _UNKNOWN),
            _user(row.owner),
            duration(row.age),
            _UNKNOWN if row.differs is None else ",".join(row.differs),
            printable(row.command),
        )
        for row in found
    ]


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _width() -> int | None:
    """Return the width of the terminal on standard output, None if it is not a terminal."""
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def table(rows: list[tuple[str, ...]], width: int | None) -> str:
    """Return rows as a table with a header, with lines cut at ``width`` columns."""
    lines = [HEADER, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER) - 1)]
    text = ""
    for line in lines:
        left = "".join(cell.ljust(width + 2) for cell, width in zip(line, widths, strict=False))
        text += (left + line[-1])[:width].rstrip() + "\n"
    return text


def duration(seconds: float) -> str:
    """Return a time in its two largest units: ``3d 4h``, ``5m 06s``, ``7s``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02}m"
    if minutes:
        return f"{minutes}m {second:02}s"
    return f"{second}s"
