"""Coverage of a test in its container.

Coverage's own measurement in a forked process would save its data in a separate file, in a
directory that the container may not show or may discard. Therefore the copy sends the executed
lines along with the test's reports, and the pytest outside adds them to its own measurement.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

__all__ = ["CopyMeasurement", "add", "start_in_copy"]


class CopyMeasurement:
    """The measurement in the copy of a process, from the fork on."""

    def __init__(self, measurement: Any, data: Any) -> None:
        self._measurement = measurement
        self._data = data

    def packed(self) -> str:
        """Return the measured data, as text."""
        self._measurement._collector.flush_data()
        return base64.b64encode(self._data.dumps()).decode()


def _current() -> Any:
    """Return the measurement that runs in this process, or None."""
    coverage: Any = sys.modules.get("coverage")
    measurement = None if coverage is None else coverage.Coverage.current()
    if measurement is None or getattr(measurement, "_collector", None) is None:
        return None
    return measurement


def start_in_copy() -> CopyMeasurement | None:
    """Start a separate measurement in a copy of the process, or return None without coverage."""
    measurement = _current()
    if measurement is None:
        return None
    coverage: Any = sys.modules["coverage"]
    collector = measurement._collector
    # Drop the data that the caller has not saved yet: the caller itself saves it.
    collector.covdata = coverage.CoverageData(no_disk=True)
    collector.flush_data()
    data = coverage.CoverageData(no_disk=True)
    if collector.static_context:
        data.set_context(collector.static_context)
    collector.covdata = data
    return CopyMeasurement(measurement, data)


def add(packed: str) -> None:
    """Add the data measured in a container to the measurement of this process."""
    measurement = _current()
    if measurement is None:
        return
    coverage: Any = sys.modules["coverage"]
    data = coverage.CoverageData(no_disk=True)
    data.loads(base64.b64decode(packed))
    measurement.get_data().update(data)
