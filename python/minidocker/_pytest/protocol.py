"""A test in its own container.

Every plugin sees the test run outside, as if it had no container: the protocol of a test, the hooks
of its three phases, their reports. A plugin may run the test again. Only what pytest's own
implementations of the phases do happens in the container: `SetupState.setup` of the test,
``item.runtest``, and `SetupState.teardown_exact` of the test. A hook around these three would be
too late or too early: the exceptions of a phase reach the hooks of other plugins through them.

In the setup, pytest sets up fixtures of a wider scope than the test, once, as their scope promises.
Then it forks. The copy in the container continues in the same hooks, sets up the test's own
fixtures, and sends the report. The pytest outside waits for it, and raises an exception of the same
type. The copy never returns to the caller's protocol. It waits to be asked for the next phase,
and runs the hooks of that phase too, because they may prepare the process: its random seed, its
sockets, its capturing.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.outcomes import TEST_OUTCOME, Exit

from minidocker._errors import CallTimeout, SpawnError, SpecError, UnsupportedPlatformError
from minidocker._functions.fork import Copy, fork
from minidocker._pytest.files import with_test_root
from minidocker._pytest.inside import Inside, flush
from minidocker._pytest.kept import Kept
from minidocker._pytest.outside import Outside
from minidocker._pytest.refused import refuse
from minidocker._pytest.results import (
    apply_junitxml,
    junitxml_additions,
    marked,
    replay_warnings,
    warn,
)
from minidocker._pytest.shared import FixtureIsInside, set_up_shared, shared_funcargs
from minidocker._pytest.standin import stand_in
from minidocker._pytest.timers import Alarm, Watchdog
from minidocker._pytest.unavailable import unavailable
from minidocker._run import timeouts
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ContainedTest", "FixtureIsInside"]

WHERE = "@pytest.mark.minidocker"
MOST_CAPTURED = 1 << 24
"""The number of bytes of output that are kept of a test which does not report it itself."""


class ContainedTest:
    """One test whose phases run in a container.

    Args:
        item: the test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.item: Any = item
        self.config = item.config
        self.inside: Inside | None = None
        """The copy's side, in the copy; None in the pytest outside."""
        self._outside: Outside | None = None
        self._watchdog: Watchdog | None = None
        self._answered: str | None = None
        """The phase that has just ended inside; None if it has no report from there."""
        self._report: pytest.TestReport | None = None
        """The last report from inside."""
        self._sections: list[tuple[str, str]] = []
        """The output of a test whose process fails after its last report."""

    def close(self) -> None:
        """End the container, if it runs. In the copy, end this process."""
        if self.inside is not None:
            self.inside.end()
        if self._outside is not None:
            self._outside.close()

    def fail_inside(self, error: BaseException) -> None:
        """In the copy, send an exception that reached the protocol."""
        if self.inside is not None:
            self.inside.fail(error)

    # --- the phases ------------------------------------------------------------------------------

    def setup(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of ``pytest_runtest_setup``."""
        return self._instead(self.item.session._setupstate, "setup", self._set_up)

    def call(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of ``pytest_runtest_call``."""
        return self._instead(self.item, "runtest", self._run)

    def teardown(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of ``pytest_runtest_teardown``."""
        return self._instead(self.item.session._setupstate, "teardown_exact", self._tear_down)

    @contextlib.contextmanager
    def _instead(self, owner: Any, name: str, function: Callable[..., None]) -> Iterator[None]:
        """Have pytest call ``function`` instead of a method, but not in the copy."""
        self._answered = None
        if self.inside is None:
            self._replaced = _Replaced(owner, name, function)
        try:
            yield
        finally:
            self._replaced.put_back()
            if self.inside is not None:
                self.inside.end_forked_process()

    def _set_up(self, _: object) -> None:
        __tracebackhide__ = True
        item = self.item
        state = item.session._setupstate
        self._replaced.put_back()
        if self._outside is not None:
            # Another plugin runs the test again, and has left out its teardown.
            self._outside.close()
        refuse(item)
        spec, options, timeout = self._requested()
        set_up_shared(item)
        additions = junitxml_additions(item)
        flush(self.config)
        alarm, self._watchdog = Alarm(), Watchdog(self.config)
        started = Kept.monotonic()
        try:
            forked = fork(with_test_root(spec, item), timeout=timeout)
        except (SpawnError, SpecError, CallTimeout) as error:
            alarm.resume()
            self._watchdog.resume()
            unavailable(self.config, error, options, WHERE)
        if isinstance(forked, Copy):
            self.inside = Inside(item, forked.channel, additions)
            self.inside.enter()
            alarm.resume(same_clock=not spec.namespaces.time)
            self._watchdog.resume()
            state.setup(item)
            return
        self._outside = Outside(item, forked, timeout, started)
        # Other plugins may look for the test among what is set up.
        state.stack[item] = ([], None)
        if hasattr(item, "funcargs"):
            item.funcargs = shared_funcargs(item)
        self._finish_phase("setup", alarm)

    def _run(self) -> None:
        __tracebackhide__ = True
        self._finish_phase("call")

    def _tear_down(self, nextitem: pytest.Item | None) -> None:
        __tracebackhide__ = True
        state = self.item.session._setupstate
        self._replaced.put_back()
        failure: BaseException | None = None
        if self._outside is not None and self._outside.runs:
            try:
                self._finish_phase("teardown")
            except (Exit, KeyboardInterrupt):
                raise
            except TEST_OUTCOME as error:
                failure = error
        if self._watchdog is not None:
            self._watchdog.resume()
        try:
            state.teardown_exact(nextitem)
        except TEST_OUTCOME as error:
            if failure is None or isinstance(error, Exit):
                self._answered = None
                raise
            failures = [failure, error]
            if self._answered is not None:
                # Its report says more than the exception.
                self.item.ihook.pytest_runtest_logreport(report=self._report)
                self._answered, failures = None, [error]
            raise (
                failures[0]
                if len(failures) == 1
                else BaseExceptionGroup("errors during test teardown", failures)
            ) from None
        if failure is not None:
            raise failure

    def _finish_phase(self, phase: str, alarm: Alarm | None = None) -> None:
        """Run a phase in the container, and raise an exception like that which ended it."""
        __tracebackhide__ = True
        assert self._outside is not None
        if phase != "setup":
            self._drop_captured()
        try:
            message = self._outside.run_phase(phase, alarm)
        finally:
            self._bound_captured()
        self._report = message["report"]
        self._outside.explain(self._report)
        # The report contains the output of the test.
        del self.item._report_sections[:]
        self._take_results(message)
        if phase == "teardown":
            self._sections = message["report"].sections
            self._outside.finish()
            self._sections = []
        self._answered = phase
        if message["raised"] is not None:
            raise stand_in(*message["raised"])

    def _drop_captured(self) -> None:
        """Drop what hooks have written and logged in this phase: they run inside too."""
        plugins = self.config.pluginmanager
        capturing: Any = plugins.getplugin("capturemanager")
        files = self._captures()
        # Look at the sizes first: reading takes several system calls.
        written = not files or any(Kept.fstat(file).st_size for file in files)
        if written and capturing is not None and capturing.is_globally_capturing():
            capturing.read_global_capture()
        logging: Any = plugins.getplugin("logging-plugin")
        if logging is not None:
            logging.report_handler.reset()

    def _bound_captured(self) -> None:
        """Shorten what the test has written to the files of the capture, which pytest reads."""
        for file in self._captures():
            if Kept.fstat(file).st_size > MOST_CAPTURED:
                Kept.ftruncate(file, MOST_CAPTURED)

    def _captures(self) -> list[int]:
        """Return the descriptors of the files that capture this process's output, if any."""
        if self.config.getoption("capture", None) != "fd":
            return []
        captures = self.config.pluginmanager.getplugin("capturemanager")._global_capturing
        return [capture.tmpfile.fileno() for capture in (captures.out, captures.err)]

    def _take_results(self, message: dict[str, Any]) -> None:
        """Use what is not part of the report."""
        session = self.item.session
        replay_warnings(message.get("warnings", []))
        for addition in message["plugins"]:
            if (warning := addition.add()) is not None:
                warn(self.item, warning)
        if "junitxml" in message:
            apply_junitxml(self.item, message["junitxml"])
        for name, value in message.get("session", {}).items():
            if value and not getattr(session, name):
                setattr(session, name, value)

    def _requested(self) -> tuple[Spec, dict[str, Any], float | None]:
        """Return the container that the markers describe, their options, and the test's timeout."""
        if sys.platform != "linux":
            refused = UnsupportedPlatformError("namespaces exist only on Linux")
            unavailable(self.config, refused, {}, WHERE)
        try:
            options = marked(self.item, "minidocker")
            timeout = _seconds(options.pop("timeout", None))
            spec = Spec.of(options.pop("spec", None), options)
        except SpecError as error:
            unavailable(self.config, error, {}, WHERE)
        return spec, options, timeout

    # --- the reports -----------------------------------------------------------------------------

    def report(self, call: pytest.CallInfo[None]) -> pytest.TestReport | None:
        """Return a copy of the report from inside of this phase, if there is one."""
        if self._report is None or call.when != self._answered:
            return None
        report = copy.copy(self._report)
        for name, value in vars(report).items():
            if isinstance(value, list):
                setattr(report, name, list(value))
        report.duration, report.start, report.stop = call.duration, call.start, call.stop
        return report

    def complete(
        self, call: pytest.CallInfo[None], report: pytest.TestReport | None
    ) -> pytest.TestReport:
        """Return the report of a phase, after all other plugins.

        Args:
            call: the phase.
            report: their report; None if one of them needs a fixture that exists only inside.
        """
        if self.inside is not None:
            assert report is not None
            self.inside.made(call, report)
            return report
        sent = self._report if call.when == self._answered else None
        if report is None:
            report = self.report(call) or pytest.TestReport.from_item_and_call(self.item, call)
        if sent is None:
            report.sections[:0] = self._sections
            self._sections = []
            return report
        _remove_repetitions(report, sent)
        for when, stream, text in self.item._report_sections:
            _add_section(report, f"Captured {stream} {when}", text)
        del self.item._report_sections[:]
        return report


class _Replaced:
    """A method of one object that a function replaces for a while."""

    def __init__(self, owner: Any, name: str, function: Callable[..., None]) -> None:
        self._members = vars(owner)
        self._name = name
        # Another plugin may have replaced it already.
        self._before = self._members.get(name)
        self._members[name] = function
        self._put_back = False

    def put_back(self) -> None:
        """Use the method again."""
        if self._put_back:
            return
        self._put_back = True
        del self._members[self._name]
        if self._before is not None:
            self._members[self._name] = self._before


def _remove_repetitions(report: pytest.TestReport, sent: pytest.TestReport) -> None:
    """Remove what a plugin has appended to the lists of a report again, after it did so inside."""
    for name, value in vars(sent).items():
        now = getattr(report, name, None)
        if isinstance(value, list) and isinstance(now, list) and now[: len(value)] == value:
            now[len(value) :] = [each for each in now[len(value) :] if each not in value]


def _add_section(report: pytest.TestReport, title: str, text: str) -> None:
    """Append captured output to the section of that title."""
    for number, (known, before) in enumerate(report.sections):
        if known == title:
            gap = "" if before.endswith("\n") else "\n"
            report.sections[number] = (title, f"{before}{gap}{text}")
            return
    report.sections.append((title, text))


def _seconds(timeout: object) -> float | None:
    checked = timeouts.seconds(timeout)
    if checked is not None and checked <= 0:
        raise SpecError("give seconds, more than 0, or None", option="timeout", value=timeout)
    return checked
