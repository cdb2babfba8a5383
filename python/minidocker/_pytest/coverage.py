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
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CopyMeasurement", "ReceivedCoverage", "start_in_copy"]

NUMBERS_IN_MESSAGE = 10_000
"""Number of lines or arcs in one message."""
MAX_NUMBERS = 1 << 24
"""Number of lines or arcs that one test may report."""
MAX_FILES = 1 << 17
"""Number of pairs of a file and a context that one test may report."""
MAX_LINE = 1 << 22
"""The largest number of a line."""
MAX_NAME = 4096
"""Number of characters of a file name or a context: PATH_MAX of Linux."""
PHASES = ("setup", "run", "teardown")
"""The phases in the contexts of ``--cov-context=test``."""


class CopyMeasurement:
    """The measurement in the copy of a process, from the fork on.

    It takes the place of coverage's `CoverageData`, to which the collector adds what it measures.
    """

    def __init__(self, collector: Any) -> None:
        self._collector = collector
        self._context: str | None = getattr(collector.covdata, "_current_context", None)
        self._measured: dict[tuple[str, str], set[Any]] = {}
        self._tracers: dict[str, str] = {}

    def messages(self) -> Iterator[dict[str, Any]]:
        """Return the measured data, as messages for `ReceivedCoverage`."""
        self._collector.flush_data()
        for (context, name), numbers in self._measured.items():
            remaining = sorted(numbers)
            place = {"context": context, "file": name, "tracer": self._tracers.get(name, "")}
            while remaining:
                yield {**place, "numbers": remaining[:NUMBERS_IN_MESSAGE]}
                del remaining[:NUMBERS_IN_MESSAGE]

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


def start_in_copy() -> CopyMeasurement | None:
    """Start a separate measurement in a copy of the process, or return None without coverage."""
    measurement = _current()
    if measurement is None:
        return None
    collector = measurement._collector
    copied = CopyMeasurement(collector)
    # Drop the data that the caller has not saved yet: the caller itself saves it.
    collector.covdata = CopyMeasurement(collector)
    collector.flush_data()
    collector.covdata = copied
    return copied


class ReceivedCoverage:
    """The measured data of one test, as its container sends them.

    Args:
        nodeid: the test.
    """

    def __init__(self, nodeid: str) -> None:
        self._nodeid = nodeid
        self._data: Any = None
        self._measurement: Any = None
        self._tracers: dict[str, str] = {}
        """The plugin of each file that the session measures; empty for Python's own files."""
        self._left_out: dict[str, str] = {}
        """The reason for each file that the session does not measure."""
        self._files = 0
        self._numbers = 0

    def receive(self, message: object) -> None:
        """Check and keep one message.

        Raises:
            ValueError: the message is not one that `CopyMeasurement` makes for this test. None of
                the test's messages is kept.
        """
        try:
            self._receive(message)
        except ValueError:
            self._data = None
            raise

    def _receive(self, message: object) -> None:
        if self._data is None:
            self._start()
        if not isinstance(message, dict) or message.keys() != {
            "context",
            "file",
            "tracer",
            "numbers",
        }:
            raise ValueError("coverage: the message has other fields")
        context = self._context(message["context"])
        numbers = self._checked_numbers(message["numbers"])
        name = self._file(_text(message["file"], "file"), _text(message["tracer"], "tracer"))
        if name in self._left_out:
            return
        self._data.set_context(context)
        add = self._data.add_arcs if self._measurement._collector.branch else self._data.add_lines
        add({name: numbers})
        if tracer := self._tracers[name]:
            self._data.add_file_tracers({name: tracer})

    def add(self) -> str | None:
        """Add the received data to the measurement of this process.

        Return a warning about files that this session does not measure.
        """
        if self._data is not None:
            # Coverage.get_data() would warn of what a later test may still execute.
            self._measurement._collector.covdata.update(self._data)
        if not self._left_out:
            return None
        name, reason = next(iter(self._left_out.items()))
        others = len(self._left_out) - 1
        more = f", nor {others} more" if others else ""
        return f"coverage inside the container names {name!r}, left out here: {reason}{more}"

    def _start(self) -> None:
        self._measurement = _current()
        if self._measurement is None:
            raise ValueError("coverage: this session does not measure it")
        coverage: Any = sys.modules["coverage"]
        self._data = coverage.CoverageData(no_disk=True)

    def _context(self, value: object) -> str:
        context = _text(value, "context")
        test, _, phase = context.rpartition("|")
        # A static context may come before the name of the test.
        if phase in PHASES and test != self._nodeid and not test.endswith(f"|{self._nodeid}"):
            raise ValueError(f"coverage: {context!r} is the context of another test")
        return context

    def _file(self, name: str, tracer: str) -> str:
        self._files += 1
        if self._files > MAX_FILES:
            raise ValueError(f"coverage: more than {MAX_FILES} files and contexts")
        if name not in self._tracers and name not in self._left_out:
            if (reason := self._why_not(name)) is None:
                self._check_tracer(name, tracer)
                self._tracers[name] = tracer
            else:
                self._left_out[name] = reason
        elif self._tracers.get(name, tracer) != tracer:
            raise ValueError(f"coverage: two plugins for {name!r}")
        return name

    def _why_not(self, name: str) -> str | None:
        """Return why this session does not measure a file, or None if it does."""
        relative = self._measurement.config.relative_files
        if os.path.isabs(name) == relative or os.path.normpath(name) != name:
            raise ValueError(f"coverage: {name!r} is not a path as this session records it")
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
            raise ValueError(f"coverage: this session has no plugin {tracer!r}")
        known = self._measurement._collector.covdata.file_tracer(name)
        if known is not None and known != tracer:
            raise ValueError(f"coverage: another plugin measures {name!r}")

    def _checked_numbers(self, numbers: object) -> list[Any]:
        if not isinstance(numbers, list) or not 0 < len(numbers) <= NUMBERS_IN_MESSAGE:
            raise ValueError("coverage: the lines are not a list, or too many")
        self._numbers += len(numbers)
        if self._numbers > MAX_NUMBERS:
            raise ValueError(f"coverage: more than {MAX_NUMBERS} lines")
        if self._measurement._collector.branch:
            return [_arc(arc) for arc in numbers]
        # The code of an empty module has line 0.
        return [_line(number, 0) for number in numbers]


def _text(value: object, field: str) -> str:
    """Return a value that is text as a path or a context can have it, in a database of SQLite."""
    if not isinstance(value, str) or len(value) > MAX_NAME or "\0" in value:
        raise ValueError(f"coverage: the {field} is not text, or too long")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"coverage: the {field} is not UTF-8") from None
    return value


def _line(value: object, least: int) -> int:
    if type(value) is not int or not least <= value <= MAX_LINE:
        raise ValueError(f"coverage: {value!r:.40} is not the number of a line")
    return value


def _arc(value: object) -> tuple[int, int]:
    """Return an arc: negative numbers stand for the entry to a function and its end."""
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"coverage: {value!r:.40} is not an arc")
    first, second = value
    return _line(first, -MAX_LINE), _line(second, -MAX_LINE)


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
