"""The files that a function is made of, for a profile that shows nothing but what is named."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from minidocker._functions.worker import own_main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._spec.spec import Spec

__all__ = ["with_sources"]


def with_sources(spec: Spec, also: tuple[str, ...] = ()) -> Spec:
    """Return a `Spec` with which this interpreter and its imports work inside.

    ``"untrusted"`` then shows, read-only, the prefixes of the interpreter, the entries of
    ``sys.path``, the roots of editable installs, and the file of ``__main__``. Of an entry that is
    a home directory or /tmp it shows only the modules that are imported from there. Another
    profile shows them anyway.

    Args:
        spec: the container; one that shows such paths already stays as it is.
        also: more paths to show.
    """
    if not spec.shows_listed_files_only() or spec.shows_paths():
        return spec
    key = (tuple(sys.path), own_main(), also)
    made: tuple[object, Spec] | None = spec.__dict__.get("_with_sources")
    if made is None or made[0] != key:
        made = key, spec.showing(dict.fromkeys([*_sources(), *also]))
        object.__setattr__(spec, "_with_sources", made)
    return made[1]


def _sources() -> Iterator[str]:
    yield from (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    private = [os.path.realpath(path) for path in (os.path.expanduser("~"), "/tmp", "/var/tmp")]
    mixed = set()
    for entry in sys.path:
        path, real = os.path.abspath(entry), os.path.realpath(entry)
        if any(os.path.commonpath((real, place)) == real for place in private):
            mixed.add(path)
        else:
            yield path
        with contextlib.suppress(OSError):
            yield from _editable_roots(path, os.stat(path).st_mtime_ns)
    if mixed:
        yield from _imported_from(mixed)
    how, script = own_main() or ("", "")
    if how == "path":
        yield script


def _imported_from(directories: set[str]) -> Iterator[str]:
    """Yield the modules that are imported from these directories: packages, and files."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not isinstance(file, str):
            continue
        path = os.path.abspath(file)
        top = os.path.dirname(path) if hasattr(module, "__path__") else path
        if os.path.dirname(top) in directories:
            yield top


@functools.lru_cache(maxsize=64)
def _editable_roots(directory: str, _changed: int) -> tuple[str, ...]:
    """Return the roots of the projects that are installed as editable in a directory.

    Their import hooks need no entry of ``sys.path``. PEP 610 describes the file. The time of the
    directory's last change is for the cache.
    """
    roots = []
    for name in os.listdir(directory):
        if not name.endswith(".dist-info"):
            continue
        # Most distributions have no such file, or are not editable.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(os.path.join(directory, name, "direct_url.json"), encoding="utf-8") as file:
                origin = json.load(file)
            url = urlsplit(origin["url"])
            if origin["dir_info"]["editable"] is True and url.scheme == "file":
                roots.append(unquote(url.path))
    return tuple(roots)
