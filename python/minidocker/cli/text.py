"""Text from inside containers, on its way to the caller's terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return ``text`` with ``?`` for every control character and undecodable byte.

    Names and arguments come from inside containers, and must not speak to the caller's terminal.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)
