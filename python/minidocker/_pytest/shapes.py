"""Check data from a container before anything uses it.

A shape describes data from JSON:

- a type stands for its instances; `float` for a finite number, `bool` for itself only;
- a list with one shape, for a list of any length; a tuple of shapes, for a list of that length;
- a dictionary from names to shapes, for a dictionary with exactly these names; an `Optional` name
  may be missing;
- a `OneOf`, for data of one of several shapes; a text, for itself; None, for None;
- `PLAIN`, for any data.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

__all__ = ["PLAIN", "Malformed", "OneOf", "Optional", "check", "harmless", "plain"]

DEEPEST = 20
"""The number of levels that data may have, lists and dictionaries together."""
LARGEST = 2**53
"""Integers beyond this one are refused: not every reader of a report can represent them."""


class Malformed(Exception):
    """The data from the container does not have the shape that it must have.

    The text, if there is one, says what is the matter.
    """


class Optional(NamedTuple):
    """A shape that may be missing from a dictionary."""

    shape: Any


class OneOf:
    """A choice between shapes."""

    def __init__(self, *shapes: Any) -> None:
        self.shapes = shapes


PLAIN = OneOf()
"""Any data."""


def check(data: Any, shape: Any) -> None:
    """Compare data with a shape.

    Raises:
        Malformed: the data has another shape.
    """
    if not _has(data, shape, DEEPEST):
        raise Malformed


def _has(data: Any, shape: Any, levels: int) -> bool:
    if levels < 0:
        return False
    if shape is PLAIN:
        return _is_plain(data, levels)
    if isinstance(shape, str):
        return bool(data == shape)
    if isinstance(shape, OneOf):
        return any(_has(data, one, levels) for one in shape.shapes)
    if isinstance(shape, list):
        (each,) = shape
        return isinstance(data, list) and all(_has(value, each, levels - 1) for value in data)
    if isinstance(shape, tuple):
        return (
            isinstance(data, list)
            and len(data) == len(shape)
            and all(_has(value, one, levels - 1) for value, one in zip(data, shape, strict=True))
        )
    if isinstance(shape, dict):
        return isinstance(data, dict) and _has_names(data, shape, levels - 1)
    return _is_a(data, shape)


def _has_names(data: dict[str, Any], shape: dict[str, Any], levels: int) -> bool:
    if not data.keys() <= shape.keys():
        return False
    for name, wanted in shape.items():
        if name not in data:
            if not isinstance(wanted, Optional):
                return False
        elif not _has(data[name], wanted.shape if isinstance(wanted, Optional) else wanted, levels):
            return False
    return True


def _is_a(data: Any, kind: Any) -> bool:
    if kind is None:
        return data is None
    if kind is float:
        # Infinity and NaN are not.
        return type(data) in (int, float) and abs(data) <= LARGEST
    return type(data) is kind and (kind is not int or abs(data) <= LARGEST)


def _is_plain(data: Any, levels: int) -> bool:
    if levels < 0:
        return False
    if isinstance(data, list):
        return all(_is_plain(value, levels - 1) for value in data)
    if isinstance(data, dict):
        return all(_is_plain(value, levels - 1) for value in data.values())
    return data is None or any(_is_a(data, kind) for kind in (bool, int, float, str))


def plain(value: Any, levels: int = DEEPEST // 2) -> Any:
    """Return a value as plain data: what JSON lacks, and what lies too deep, as text."""
    if value is None or any(_is_a(value, kind) for kind in (bool, int, float, str)):
        return value
    if levels > 0 and isinstance(value, list | tuple):
        return [plain(each, levels - 1) for each in value]
    if levels > 0 and isinstance(value, dict):
        return {str(name): plain(each, levels - 1) for name, each in value.items()}
    return str(value)


# Colours stay. Other sequences could move the cursor, change the terminal's title or its character
# set, or have the terminal send input. XML forbids the last two characters, and UTF-8 surrogates.
_HARMFUL = re.compile(
    "\x1b(?!\\[[0-9;:]*m)|[\x01-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]"
)


def harmless(data: Any) -> Any:
    """Return checked data in which each harmful character of a text is replaced by its escape."""
    if isinstance(data, str):
        return _HARMFUL.sub(_escape, data)
    if isinstance(data, list):
        return [harmless(value) for value in data]
    if isinstance(data, dict):
        return {harmless(name): harmless(value) for name, value in data.items()}
    return data


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
