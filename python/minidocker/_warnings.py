"""`SpecWarning`: a container that works, but perhaps not as its caller means it to."""

from __future__ import annotations

import sys
import warnings

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SpecWarning", "warn"]


class SpecWarning(RuntimeWarning):
    """A container works, but perhaps not as its caller means it to.

    Attributes:
        reason: what may be wrong.
        hint: one remedy.
    """

    reason: str
    hint: str

    @classmethod
    def of(cls, reason: str, hint: str) -> SpecWarning:
        """Return the warning with its reason and its remedy."""
        warning = cls(f"{reason}. Remedy: {hint}")
        warning.reason = reason
        warning.hint = hint
        return warning


def warn(reason: str, hint: str) -> None:
    """Give a warning of the engine, at the line that called this package.

    Raises:
        SpecWarning: the filters of `warnings` make it an error.
    """
    level = 1
    frame = sys._getframe()
    while frame.f_back is not None and _passes_on(frame.f_globals):
        frame = frame.f_back
        level += 1
    warnings.warn(SpecWarning.of(reason, hint), stacklevel=level)


def _passes_on(variables: dict[str, Any]) -> bool:
    """Return whether a frame with these globals is this package's, or its base class's."""
    module = str(variables.get("__name__", ""))
    return module.partition(".")[0] in (__name__.partition(".")[0], "subprocess")
