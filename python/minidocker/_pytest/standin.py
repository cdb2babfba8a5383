"""Exceptions that stand for those raised in a container.

A plugin outside looks at the exception that ended a phase: its type, and its text. The exception
itself cannot leave the container, because nothing from there is unpickled.
"""

from __future__ import annotations

from typing import Any

import pytest

from minidocker._pytest.results import find_class

__all__ = ["RaisedInside", "stand_in"]

_OUTCOMES: dict[tuple[str, str], type[Any]] = {
    (kind.__module__, kind.__qualname__): kind
    for kind in (pytest.skip.Exception, pytest.fail.Exception, pytest.xfail.Exception)
}


class RaisedInside(Exception):
    """An exception that was raised in the container of a test. Its text is the same."""

    text = ""

    def __str__(self) -> str:
        return self.text


def stand_in(module: str, qualname: str, text: str) -> BaseException:
    """Return an exception with the name, the text and, if this process has it, the type.

    The constructor of the type is not called.
    """
    if (module, qualname) in _OUTCOMES:
        outcome: BaseException = _OUTCOMES[module, qualname](text)
        return outcome
    name = qualname.rpartition(".")[2].replace("\0", "")
    found = find_class(module, qualname, Exception)
    bases: tuple[type[Exception], ...] = (RaisedInside,)
    # A group needs its exceptions.
    if found is not None and not issubclass(found, BaseExceptionGroup):
        bases = (RaisedInside, found)
    members = {"__module__": module, "__qualname__": qualname, "text": text}
    try:
        made = type(name, bases, members)
    except TypeError:
        # The type cannot be a base, for example because its metaclass forbids it.
        made = type(name, (RaisedInside,), members)
    plain: Any = next(base for base in made.__mro__ if base.__module__ == "builtins")
    exception: Exception = plain.__new__(made, text)
    return exception
