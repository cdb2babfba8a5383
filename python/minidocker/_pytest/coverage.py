"""Coverage of a test in its container.

Coverage's own measurement in a forked process would save its data in a separate file, in a
directory that the container may not show or may discard. Therefore the copy sends the executed
lines along with the test's reports, and the pytest outside adds them to its own measurement.

The test may be untrusted, and coverage's own format is SQL. Therefore the copy sends plain data,
and `ReceivedCoverage` checks each name and number. A forged message can name lines of those files
only that this session measures anyway.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from minidocker._pytest.shapes import Malformed, check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

__all__ = ["ReceivedCoverage", "start_in_copy"]

MAX_FILES = 1 << 17
"""Number of pairs of a file and a context that one test may report."""
MAX_NUMBERS = 1 << 22
"""Number of lines or arcs that one test may report."""
MAX_LINES = 1 << 27
"""Sum of the last lines of all pairs: coverage stores a bit for each line up to the last one."""
MAX_NAME = 4096
"""Number of characters of a file name or a context: PATH_MAX of Linux."""
PHASES = ("setup", "run", "teardown")
"""The phases in the contexts of ``--cov-context=test``."""

# Text is checked and converted at once, a list number by number.
_LINES = re.compile("[0-9]{1,7}(?: [0-9]{1,7})*")
# Negative numbers stand for the entry to a function and its end.
_ARCS = re.compile("-?[0-9]{1,7},-?[0-9]{1,7}(?: -?[0-9]{1,7},-?[0-9]{1,7})*")
_SHAPE = [{"context": str, "file": str, "tracer": str, "numbers": str}]


class CopyMeasurement:
    """The measurement in the copy of a process, from the fork on.

    It takes the place of coverage's `CoverageData`, to which the collector adds what it measures.
    """

    def __init__(self, collector: Any) -> None:
        self._collector = collector
        self._context: str | None = getattr(collector.covdata, "_current_context", None)
        self._measured: dict[tuple[str, str], set[Any]] = {}
        self._tracers: dict[str, str] = {}

    def packed(self) -> list[dict[str, str]]:
        """Return the measured data, for `ReceivedCoverage`."""
        self._collector.flush_data()
        arcs = self._collector.branch
        return [
            {
                "context": context,
                "file": name,
                "tracer": self._tracers.get(name, ""),
                "numbers": " ".join(
                    [f"{first},{last}" for first, last in numbers] if arcs else map(str, numbers)
                ),
            }
            for (context, name), numbers in self._measured.items()
            if numbers
        ]

    # --- what the collector calls ----------------------------------------------------------------

    def set_context(self, context: str | None) -> str | None:
        """Set the context of the following lines and arcs, and return the previous context."""
        before, self._context = self._context, context
        return before

    def add_lines(self, measured: Mapping[str, Any]) -> None:
        """Add the executed lines of files."""
        for name, numbers in measured.items():
            self._measured.setdefault((self._context or "", name), set()).update(numbers)

    add_arcs = add_lines

    def add_file_tracers(self, tracers: Mapping[str, str]) -> None:
        """Add the names of the plugins that measured files which are not Python."""
        self._tracers.update(tracers)


def _current() -> Any:
    """Return the measurement that runs in this process, or None."""
    coverage: Any = sys.modules.get("coverage")
    measurement = None if coverage is None else coverage.Coverage.current()
    if measurement is None or getattr(measurement, "_collector", None) is None:
        return None
    return measurement


def start_in_copy(_: pytest.Item) -> Callable[[], list[dict[str, str]]] | None:
    """Start a separate measurement in a copy of the process.

    Return a function that packs it, or None without coverage.
    """
    measurement = _current()
    if measurement is None:
        return None
    collector = measurement._collector
    copied = CopyMeasurement(collector)
    # Drop the data that the caller has not saved yet: the caller itself saves it.
    collector.covdata = CopyMeasurement(collector)
    collector.flush_data()
    collector.covdata = copied
    return copied.packed


class ReceivedCoverage:
    """The measured data of one test, as its container sent them.

    Args:
        item: the test.
        packed: the data.

    Raises:
        Malformed: the data are not such as `CopyMeasurement` packs for this test.
    """

    def __init__(self, item: pytest.Item, packed: object) -> None:
        check(packed, _SHAPE)
        self._nodeid = item.nodeid
        self._measurement = _current()
        if self._measurement is None:
            raise Malformed("coverage: this session does not measure it")
        self._arcs = bool(self._measurement._collector.branch)
        self._tracers: dict[str, str] = {}
        """The plugin of each file that the session measures; empty for Python's own files."""
        self._left_out: dict[str, str] = {}
        """The reason for each file that the session does not measure."""
        self._numbers = self._lines = 0
        coverage: Any = sys.modules["coverage"]
        self._data = coverage.CoverageData(no_disk=True)
        entries: Any = packed
        if len(entries) > MAX_FILES:
            raise Malformed(f"coverage: more than {MAX_FILES} files and contexts")
        for entry in entries:
            self._take(**entry)

    def add(self) -> str | None:
        """Add the data to the measurement of this process.

        Return a warning about files that this session does not measure.
        """
        # Coverage.get_data() would warn of what a later test may still execute.
        self._measurement._collector.covdata.update(self._data)
        if not self._left_out:
            return None
        name, reason = next(iter(self._left_out.items()))
        others = len(self._left_out) - 1
        more = f", nor {others} more" if others else ""
        return f"coverage inside the container names {name!r}, left out here: {reason}{more}"

    def _take(self, context: str, file: str, tracer: str, numbers: str) -> None:
        self._check_context(context)
        self._check_file(_path(file), tracer)
        measured = self._parsed(numbers)
        if file in self._left_out:
            return
        self._data.set_context(context)
        (self._data.add_arcs if self._arcs else self._data.add_lines)({file: measured})
        if tracer:
            self._data.add_file_tracers({file: tracer})

    def _check_context(self, context: str) -> None:
        _bounded(context, "context")
        test, _, phase = context.rpartition("|")
        # A static context may come before the name of the test.
        if phase in PHASES and test != self._nodeid and not test.endswith(f"|{self._nodeid}"):
            raise Malformed(f"coverage: {context!r} is the context of another test")

    def _check_file(self, name: str, tracer: str) -> None:
        if name in self._left_out:
            return
        if name in self._tracers:
            if self._tracers[name] != tracer:
                raise Malformed(f"coverage: two plugins for {name!r}")
        elif (reason := self._why_not(name)) is not None:
            self._left_out[name] = reason
        else:
            self._check_tracer(name, tracer)
            self._tracers[name] = tracer

    def _why_not(self, name: str) -> str | None:
        """Return why this session does not measure a file, or None if it does."""
        relative = self._measurement.config.relative_files
        if os.path.isabs(name) == relative or os.path.normpath(name) != name:
            raise Malformed(f"coverage: {name!r} is not a path as this session records it")
        path = os.path.abspath(name)
        rules = self._measurement._inorout
        package = next((word for word in rules.source_pkgs if _is_part(path, word)), None)
        # Coverage takes the module's name, which it looks up in `source`, from a frame.
        frame = SimpleNamespace(f_globals={"__name__": package}) if package else None
        reason: str | None = rules.check_include_omit_etc(path, frame)
        return reason

    def _check_tracer(self, name: str, tracer: str) -> None:
        plugins = self._measurement._plugins.file_tracers
        if tracer and tracer not in {plugin._coverage_plugin_name for plugin in plugins}:
            raise Malformed(f"coverage: this session has no plugin {tracer!r}")
        known = self._measurement._collector.covdata.file_tracer(name)
        if known is not None and known != tracer:
            raise Malformed(f"coverage: another plugin measures {name!r}")

    def _parsed(self, text: str) -> list[Any]:
        if not (_ARCS if self._arcs else _LINES).fullmatch(text):
            raise Malformed(f"coverage: {text!r:.40} are not numbers of lines")
        words = text.split(" ")
        self._numbers += len(words)
        if self._numbers > MAX_NUMBERS:
            raise Malformed(f"coverage: more than {MAX_NUMBERS} lines")
        if self._arcs:
            return [tuple(map(int, word.split(","))) for word in words]
        lines = list(map(int, words))
        self._lines += max(lines)
        if self._lines > MAX_LINES:
            raise Malformed("coverage: too many lines")
        return lines


def _bounded(text: str, field: str) -> str:
    if len(text) > MAX_NAME:
        raise Malformed(f"coverage: the {field} is longer than {MAX_NAME} characters")
    return text


def _path(name: str) -> str:
    if not name or "\0" in name:
        raise Malformed("coverage: a path is not empty and has no NUL")
    return _bounded(name, "path")


def _is_part(path: str, package: str) -> bool:
    """Return whether a file is a module, or a part of a package, of that name."""
    top, *parts = package.split(".")
    try:
        # The parts of a package are not looked up: that would import the package.
        spec = importlib.util.find_spec(top)
    except ValueError:
        # The module was made by hand.
        return False
    if spec is None:
        return False
    if not parts and spec.origin is not None and os.path.realpath(spec.origin) == path:
        return True
    for place in spec.submodule_search_locations or ():
        base = os.path.realpath(os.path.join(place, *parts))
        if path.startswith(base + os.sep) or (parts and path == f"{base}.py"):
            return True
    return False
