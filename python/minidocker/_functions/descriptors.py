"""The descriptors of calls in progress.

A process that is forked during a call inherits them, and a pipe has no end of file while such a
process keeps it open. The copies that this package makes therefore close them. The core keeps the
list, because it knows which descriptors existed at the moment of a fork.
"""

from __future__ import annotations

import sys

if sys.platform == "linux":
    from minidocker import _core


def hold(*fds: int) -> None:
    """Have the forked copies of this process close these descriptors."""
    _core.hold(fds)


def release(*fds: int) -> None:
    """Close held descriptors, each once; ignore those that are not held."""
    _core.release(fds)
