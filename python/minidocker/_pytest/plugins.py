"""What other plugins keep in the session, and a test in its container adds to.

The copy packs what the test added; the pytest outside checks it, and adds it to its own session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from minidocker._pytest.benchmark import ReceivedMeasurements
from minidocker._pytest.benchmark import start_in_copy as start_benchmark
from minidocker._pytest.coverage import ReceivedCoverage
from minidocker._pytest.coverage import start_in_copy as start_coverage
from minidocker._pytest.shapes import PLAIN, Optional, check
from minidocker._pytest.snapshots import ReceivedSnapshots
from minidocker._pytest.snapshots import start_in_copy as start_snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["Addition", "received", "start_in_copy"]


class Addition(Protocol):
    """What a test has added to one plugin's data."""

    def add(self) -> str | None:
        """Add it to the session; return a warning, if there is one."""


_PLUGINS: dict[str, tuple[Any, Callable[[pytest.Item, object], Addition]]] = {
    "coverage": (start_coverage, ReceivedCoverage),
    "benchmark": (start_benchmark, ReceivedMeasurements),
    "syrupy": (start_snapshots, ReceivedSnapshots),
}


def start_in_copy(item: pytest.Item) -> Callable[[], dict[str, Any]]:
    """Return a function that packs what the test adds to the data of plugins from now on."""
    packers = {name: start(item) for name, (start, _) in _PLUGINS.items()}
    return lambda: {name: pack() for name, pack in packers.items() if pack is not None}


def received(item: pytest.Item, packed: dict[str, Any]) -> list[Addition]:
    """Return what a test has added.

    Raises:
        Malformed: the data are not such as `start_in_copy` packs.
    """
    check(packed, {name: Optional(PLAIN) for name in _PLUGINS})
    return [_PLUGINS[name][1](item, data) for name, data in packed.items()]
