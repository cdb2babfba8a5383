r"""The text of the kernel in ``/proc`` and ``/sys``: bytes, in lines that end with ``\n`` alone.

The names in it are bytes that processes chose, those in containers included: of mount points,
processes, control groups and interfaces. A name may contain ``\r``, ``\x85``, U+2028 or a byte that
is not UTF-8; the kernel escapes ``\n``. Read such files with this module only: `str.splitlines` and
`str.split` take these characters for ends of lines and for blanks.
"""

from __future__ import annotations

import os
import re

_BLANKS = re.compile("[ \t\n]+")
_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


def read(path: str) -> str:
    """Return the content of a file; undecodable bytes become surrogates, as in `os.fsdecode`."""
    with open(path, "rb", buffering=0) as file:
        return os.fsdecode(file.readall())


def lines(content: str) -> list[str]:
    """Return the lines of a content, without their ends."""
    return content.removesuffix("\n").split("\n") if content else []


def words(text: str) -> list[str]:
    """Return the words of a text, which blanks, tabs and newlines separate."""
    return [word for word in _BLANKS.split(text) if word]


def unescaped(field: str) -> str:
    r"""Undo the kernel's octal escapes (``\040`` for a blank)."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), field)
