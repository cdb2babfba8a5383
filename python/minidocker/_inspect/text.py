"""Text from inside containers, made safe for the caller's terminal or page."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for every control character and undecodable byte.

    Names and arguments come from inside containers. They must not control the caller's terminal,
    nor reverse the text around them: the marks of bidirectional text are not printable either.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)
