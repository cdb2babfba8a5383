"""Text from inside containers, made safe for the caller's terminal or page."""

from __future__ import annotations

import unicodedata

LONGEST = 1 << 16
"""The maximum number of characters of a text that an exception shows."""


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for every control character and undecodable byte.

    Names and arguments come from inside containers. They must not control the caller's terminal,
    nor reverse the text around them: the marks of bidirectional text are not printable either.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def escaped(text: str, *, lines: bool = True, most: int = LONGEST) -> str:
    r"""Return ``text`` with an escape such as ``\x1b`` for every character that is not printable.

    Args:
        text: text from inside a container.
        lines: whether line feeds and tabs stay.
        most: how many of its characters are kept.
    """
    kept, left = text[:most], len(text) - most
    if not kept.isprintable():
        kept = "".join(
            letter if letter.isprintable() or (lines and letter in "\n\t") else _escape(letter)
            for letter in kept
        )
    return kept if left <= 0 else f"{kept}... ({left} more characters)"


def _escape(letter: str) -> str:
    code = ord(letter)
    if unicodedata.category(letter) == "Zs":
        # A space other than the usual one, such as that before a French colon.
        return letter
    return f"\\x{code:02x}" if code < 0x100 else letter.encode("unicode_escape").decode()
