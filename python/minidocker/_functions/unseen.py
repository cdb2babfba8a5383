"""Say so if a function failed because its container does not show a file of this machine.

The exception comes from inside the container. What it names is only looked up here: the sentence is
about a path that exists on this side.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.machinery
import importlib.util
import itertools
import os
import re
from typing import TYPE_CHECKING

from minidocker._errors import CallFailed
from minidocker._spec.unseen import explain_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec

    from minidocker._spec.spec import Spec

__all__ = ["explain", "explained"]

_LONGEST = 4096
"""The maximum number of characters of a message that are searched."""

_MOST = 4
"""How many paths of a message are looked up: each takes about a millisecond."""

_QUOTED = re.compile(r"""b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_NO_MODULE = re.compile(r"No module named '([^']+)'")
_NO_LIBRARY = re.compile(r"(/[^:]+): cannot open shared object file")

_FILE_ERRORS = ("FileNotFoundError", "NotADirectoryError")
_MODULE_ERRORS = ("ModuleNotFoundError", "ImportError")

# The attributes of the base classes: a property of a subclass may raise anything.
_ARGUMENTS = vars(BaseException)["args"]
_FILES = (vars(OSError)["filename"], vars(OSError)["filename2"])
_MODULE = vars(ImportError)["name"]


def explain(error: BaseException, spec: Spec) -> None:
    """Add a line about the first file or module that exists here only, if the error names one.

    Args:
        error: the exception of a function; a `CallFailed` gets the line in its text, another
            exception as a note.
        spec: the options of its container.
    """
    line = _line(_named(error), spec)
    if line is None:
        return
    if isinstance(error, CallFailed):
        error.args = (f"{error}\n{line}",)
    else:
        # The notes that it has may be no list.
        with contextlib.suppress(TypeError):
            BaseException.add_note(error, line)


def explained(kind: str, text: str, spec: Spec) -> str | None:
    """Return that line for an exception that was sent as text: its class and its message."""
    return _line(_in_text(kind, text), spec)


def _line(paths: Iterator[str | bytes], spec: Spec) -> str | None:
    for path in itertools.islice(paths, _MOST):
        found = explain_missing(spec, path)
        if found is not None:
            return "{}. Remedy: {}".format(*found)
    return None


def _named(error: BaseException) -> Iterator[str | bytes]:
    """Yield the absolute paths that an exception names."""
    if isinstance(error, CallFailed):
        yield from _in_text(error.type or "", error.message or "")
    elif isinstance(error, ImportError):
        yield from _of_module(_MODULE.__get__(error))
        yield from _in_text("ImportError", _text(error))
    elif isinstance(error, OSError):
        for name in _FILES:
            yield from _of_file(name.__get__(error))
        yield from _libraries(_text(error))


def _text(error: BaseException) -> str:
    """Return the message with which an exception was made, without its class's ``__str__``."""
    return " ".join(part for part in _ARGUMENTS.__get__(error) if type(part) is str)


def _in_text(kind: str, text: str) -> Iterator[str | bytes]:
    text = text[:_LONGEST]
    if kind in _FILE_ERRORS:
        for literal in _QUOTED.findall(text):
            yield from _of_file(_value(literal))
    elif kind in _MODULE_ERRORS:
        for name in _NO_MODULE.findall(text):
            yield from _of_module(name)
    yield from _libraries(text)


def _libraries(text: str) -> Iterator[str]:
    """Yield the libraries that dlopen(3) does not find."""
    yield from _NO_LIBRARY.findall(text[:_LONGEST])


def _value(literal: str) -> object:
    try:
        return ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        return None


def _of_file(name: object) -> Iterator[str | bytes]:
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if isinstance(name, str) and "\0" not in name:
        # The function started in the directory of this process.
        yield os.path.join(os.getcwd(), name)


def _of_module(name: object) -> Iterator[str]:
    """Yield the file of a module that can be imported here; import none."""
    if not isinstance(name, str) or len(name) > _LONGEST:
        return
    first, *others = name.split(".")
    if not all(part.isidentifier() for part in (first, *others)):
        return
    try:
        found = importlib.util.find_spec(first)
        full = first
        for part in others:
            if found is None or found.submodule_search_locations is None:
                return
            full += f".{part}"
            places = list(found.submodule_search_locations)
            found = importlib.machinery.PathFinder.find_spec(full, places)
    except (ImportError, ValueError):
        # ``__main__`` has no spec, for example.
        return
    if found is not None:
        yield from _place(found)


def _place(found: ModuleSpec) -> Iterator[str]:
    if found.has_location and found.origin is not None:
        yield found.origin
    elif found.submodule_search_locations is not None:
        # A namespace package has directories only.
        yield from found.submodule_search_locations
