"""The descriptors of calls in progress.

A process that is forked during a call inherits them, and a pipe shows no end of file while such a
process keeps it open. So the copies that this package makes close them. The list is the core's,
which knows the descriptors that existed at the moment of a fork.
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
