"""The measurements of pytest-benchmark.

The plugin keeps them in the session, for the table and the files that it makes at the end.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from minidocker._pytest.shapes import Malformed, OneOf, check

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["ReceivedMeasurements", "start_in_copy"]

_MEASUREMENT = {
    "group": OneOf(None, str),
    "iterations": int,
    # Seconds for each round.
    "durations": [float],
    "options": dict,
    "extra_info": dict,
    "has_error": bool,
}


def _session(item: pytest.Item) -> Any:
    return getattr(item.config, "_benchmarksession", None)


def start_in_copy(item: pytest.Item) -> Callable[[], list[dict[str, Any]]] | None:
    """Return a function that packs the measurements from now on, or None without the plugin."""
    session = _session(item)
    if session is None:
        return None
    known = len(session.benchmarks)
    return lambda: [_packed(measured) for measured in session.benchmarks[known:]]


def _packed(measured: Any) -> dict[str, Any]:
    described = measured.as_dict(stats=False)
    return {
        "group": described["group"],
        "iterations": measured.iterations,
        "durations": measured.stats.data,
        "options": described["options"],
        "extra_info": described["extra_info"],
        "has_error": bool(measured.has_error),
    }


class ReceivedMeasurements:
    """The measurements of one test, as its container sent them.

    Args:
        item: the test.
        packed: the measurements.

    Raises:
        Malformed: they are not such as `start_in_copy` packs.
    """

    def __init__(self, item: pytest.Item, packed: object) -> None:
        session = _session(item)
        check(packed, [_MEASUREMENT])
        entries: Any = packed
        if session is None and entries:
            raise Malformed("benchmark: this session does not measure")
        self._session = session
        self._measured = [_measured(item, **entry) for entry in entries]

    def add(self) -> None:
        """Add the measurements to the session."""
        if self._measured:
            self._session.benchmarks.extend(self._measured)


def _measured(
    item: pytest.Item,
    group: str | None,
    iterations: int,
    durations: list[float],
    options: dict[str, Any],
    extra_info: dict[str, Any],
    has_error: bool,
) -> Any:
    if iterations < 1 or any(duration < 0 for duration in durations):
        raise Malformed("benchmark: a negative number")
    if not all(isinstance(value, str | int | float | None) for value in options.values()):
        raise Malformed("benchmark: an option is not a plain value")
    callspec: Any = getattr(item, "callspec", None)
    fixture = SimpleNamespace(
        name=item.name,
        fullname=item.nodeid,
        param=None if callspec is None else callspec.id,
        params=None if callspec is None else callspec.params,
        group=group,
        extra_info=extra_info,
        cprofile_stats=None,
        has_error=has_error,
    )
    stats: Any = sys.modules["pytest_benchmark.stats"]
    measured = stats.Metadata(fixture, iterations, options)
    measured.stats.data.extend(durations)
    return measured
