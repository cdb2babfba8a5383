"""JSON from untrusted code: strict, and with a bound on the memory of its value.

Two to eight bytes of JSON may describe an object of a hundred, so a bound on the text alone bounds
nothing.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

__all__ = ["EXPANSION", "loads"]

EXPANSION = 4
"""The memory of a value, in multiples of the limit of its text."""

_MOST_DIGITS = 4300
"""CPython's default limit, sys.get_int_max_str_digits(). The time to convert is quadratic."""

# The sizes of CPython's objects, in bytes: object with its allocation, and the slot that holds it.
_STRING, _LIST, _OBJECT = 64, 88, 256
_SLOT, _PAIR, _NUMBER = 12, 112, 32
_SHORTEST_OWN_NUMBER = 3
"""Integers of fewer digits are shared, and need no memory."""

_PIECE = 1 << 18
_STRINGS = re.compile(rb'"[^"]*"')
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")


def loads(text: bytes | bytearray, *, limit: int | None) -> Any:
    """Return the value of a JSON text in ASCII, as `json.dumps` writes it.

    Args:
        text: the text.
        limit: the value may use `EXPANSION` times this number of bytes; None: no limit.

    Raises:
        ValueError: the text is not JSON in ASCII, has NaN, an infinite number, a number of more
            than 4300 digits or a key twice in one object, or its value exceeds the limit.
        RecursionError: the values are nested too deeply.
    """
    if limit is not None:
        _check_memory(text, limit * EXPANSION)
    return json.loads(
        text.decode("ascii"),
        parse_constant=_refuse_constant,
        parse_float=_finite,
        parse_int=_integer,
        object_pairs_hook=_without_duplicates,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number exceeds the range of a float")
    return number


def _integer(digits: str) -> int:
    # A program may have lifted CPython's own limit.
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"an integer has more than {_MOST_DIGITS} digits")
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _check_memory(text: bytes | bytearray, memory: int) -> None:
    """Refuse a text whose value might use more memory."""
    # A str has one, two or four bytes for each of its characters.
    width = 1 if b"\\u" not in text else 4 if _SURROGATE.search(text) else 2
    left = memory - width * len(text)
    if _most_memory(text, quotes=2) <= left:
        return
    # Brackets and commas inside strings cost nothing: count again without the strings.
    for piece in _without_strings(text):
        left -= _most_memory(piece, quotes=1)
        if left < 0:
            raise ValueError(
                f"its value may need more than {memory} bytes of memory, {EXPANSION} times "
                "result_limit"
            )


def _without_strings(text: bytes | bytearray) -> Iterator[bytes]:
    """Yield the text in pieces, with a quotation mark for each string."""
    bare = bytes(text).replace(rb"\\", b"").replace(rb"\"", b"")
    in_string = False
    for start in range(0, len(bare), _PIECE):
        piece = bare[start : start + _PIECE]
        if in_string:
            piece = b'"' + piece
        in_string = piece.count(b'"') % 2 == 1
        if in_string:
            piece = piece.rpartition(b'"')[0]
        yield _STRINGS.sub(b'"', piece)


def _most_memory(text: bytes | bytearray, *, quotes: int) -> int:
    """Return an upper bound for the memory of the objects in a text, in bytes.

    Args:
        text: the text, with or without the content of its strings.
        quotes: the number of quotation marks of a string.
    """
    lists, objects = text.count(b"["), text.count(b"{")
    slots, pairs = text.count(b",") + lists + 1, text.count(b":")
    marks = text.count(b'"')
    scalars = len(text) - lists - objects - slots - pairs - marks
    numbers = min(slots + pairs, max(scalars, 0) // _SHORTEST_OWN_NUMBER)
    return (
        _LIST * lists + _OBJECT * objects + _SLOT * slots + _PAIR * pairs
        + _STRING * (marks // quotes) + _NUMBER * numbers
    )  # fmt: skip
