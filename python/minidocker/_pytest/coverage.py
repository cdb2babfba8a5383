"""Coverage of what a test does in its container.

The measurement that goes on in a forked process would save its data in a file of its own, in a
directory that the container may not show, or may throw away. So the lines that the test ran are
sent along with its reports, and added to the measurement outside: whoever combines, reports or
fails under a limit there has all of them.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

__all__ = ["add", "collect_apart"]


class Measured:
    """What is measured from now on, in the copy of a process."""

    def __init__(self, measurement: Any, data: Any) -> None:
        self._measurement = measurement
        self._data = data

    def packed(self) -> str:
        """All of it, as text."""
        self._measurement._collector.flush_data()
        return base64.b64encode(self._data.dumps()).decode()


def _current() -> Any:
    """The measurement that runs in this process, if any."""
    coverage: Any = sys.modules.get("coverage")
    measurement = None if coverage is None else coverage.Coverage.current()
    if measurement is None or getattr(measurement, "_collector", None) is None:
        return None
    return measurement


def collect_apart() -> Measured | None:
    """In a copy: measure apart from what the caller had measured; None if nothing is measured."""
    measurement = _current()
    if measurement is None:
        return None
    coverage: Any = sys.modules["coverage"]
    collector = measurement._collector
    # What the caller has not saved yet is the caller's to save.
    collector.covdata = coverage.CoverageData(no_disk=True)
    collector.flush_data()
    data = coverage.CoverageData(no_disk=True)
    if collector.static_context:
        data.set_context(collector.static_context)
    collector.covdata = data
    return Measured(measurement, data)


def add(packed: str) -> None:
    """Outside: add what was measured in a container."""
    measurement = _current()
    if measurement is None:
        return
    coverage: Any = sys.modules["coverage"]
    data = coverage.CoverageData(no_disk=True)
    data.loads(base64.b64decode(packed))
    measurement.get_data().update(data)
