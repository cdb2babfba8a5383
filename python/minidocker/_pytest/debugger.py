"""Refuse debuggers, which need a terminal."""

from __future__ import annotations

import bdb
from typing import TYPE_CHECKING

from _pytest.outcomes import Failed

if TYPE_CHECKING:
    import pytest

__all__ = ["refuse_debugger"]


class _DebuggerRefused(Failed, bdb.BdbQuit):
    """A failure for which pytest does not start its debugger."""


def refuse_debugger(config: pytest.Config) -> None:
    """Fail a test in a container if a debugger is requested, which such a test cannot use."""
    for option, name in (("usepdb", "--pdb"), ("trace", "--trace")):
        if config.getoption(option, False):
            reason = (
                f"{name} cannot be used with a test in a container, which has no terminal for a "
                f"debugger. Leave out {name}, or the marker minidocker"
            )
            refused = _DebuggerRefused(reason)
            refused.pytrace = False
            raise refused
