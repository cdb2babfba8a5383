"""Files that exist outside, and that a container does not see because of its profile."""

from __future__ import annotations

import os
import sys

if sys.platform == "linux":
    from minidocker import _core

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker._errors import SpawnError
    from minidocker._spec.spec import Spec

__all__ = ["explain_missing", "explain_spawn_error"]

_LONGEST = 4096
"""The kernel's ``PATH_MAX``, in bytes."""


def explain_missing(
    spec: Spec, path: str | bytes, *, is_program: bool = False
) -> tuple[str, str] | None:
    """Return the reason and the remedy if a path exists here and a container does not show it.

    Args:
        spec: the options of the container.
        path: an absolute path; others are not looked at.
        is_program: look at the interpreter of a script, too.
    """
    if not spec.shows_listed_files_only():
        return None
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        return None
    if not encoded.startswith(b"/") or b"\0" in encoded or len(encoded) > _LONGEST:
        return None
    return _core.explain_missing(spec.core(), encoded, is_program=is_program)


def explain_spawn_error(error: SpawnError, spec: Spec) -> None:
    """Give the error of a command that enters a container its reason, if that is such a path."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return
    import shutil  # noqa: PLC0415 - it takes long, and most commands start

    path = error.filename
    if error.step == "exec" and path is not None and not os.path.dirname(path):
        path = shutil.which(path)
    if error.step in ("exec", "chdir") and path is not None:
        explained = explain_missing(spec, path, is_program=error.step == "exec")
        if explained is not None:
            error.reason, error.hint = explained
