"""Descriptors of calls that are under way.

A process that is forked meanwhile has copies of them, and a pipe that it holds never seems to end.
The copies that this package makes close them: the engine keeps the list, since it knows which of
them there were when a copy got its descriptors.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from minidocker import _core


def note(*fds: int) -> None:
    """Take note of descriptors that a forked copy of this process has to close."""
    _core.hold(fds)


def close(*fds: int) -> None:
    """Close descriptors that were noted."""
    _core.release(fds)
