"""Green threads in a copy of the process: as with threads, only the calling one continues."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["forget_green_threads"]

_hubs: list[object] = []
"""The caller's hubs. The end of one would run the pending ``finally`` blocks of its threads."""


def forget_green_threads() -> None:
    """Give gevent and eventlet a new hub, so that they never resume the caller's other threads.

    The calling thread continues, and the next call that waits makes the new hub.
    """
    gevent: Any = sys.modules.get("gevent._hub_local")
    if gevent is not None and (hub := gevent.get_hub_if_exists()) is not None:
        _hubs.append(hub)
        gevent.set_hub(None)
        gevent.set_loop(None)
        # Only the default loop can wait for children, and libev has a single one.
        hub.loop.destroy()
    eventlet: Any = sys.modules.get("eventlet.hubs")
    if eventlet is not None and (hub := getattr(eventlet._threadlocal, "hub", None)) is not None:
        _hubs.append(hub)
        del eventlet._threadlocal.hub
