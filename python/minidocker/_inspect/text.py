"""Text from inside containers, on its way to the caller's terminal or page."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for every control character and undecodable byte.

    Names and arguments come from inside containers: they must not speak to the caller's terminal,
    nor turn the text around them (the marks of bidirectional text are no printable letters).
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)
