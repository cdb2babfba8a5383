"""A test in a container of its own.

One pytest becomes two in the middle of a test's setup. Fixtures of a wider scope than the test have
been set up by then, outside, once, as their scope promises; what is set up after it, the test's own
fixtures, is set up, used and torn down inside. The copy goes on where it was, in the same hooks, so
that capturing, logging, xfail and every other plugin do in it what they do in any test. It sends
its reports and ends; outside, the hooks are left and the reports are logged.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.logging import caplog_records_key
from _pytest.outcomes import TEST_OUTCOME, Exit
from _pytest.runner import call_and_report, get_reraise_exceptions, show_test_item

from minidocker._errors import CallTimeout, SpawnError, SpecError, UnsupportedPlatformError
from minidocker._functions.fork import Copy, fork
from minidocker._pytest import coverage
from minidocker._pytest.inside import Inside, flush
from minidocker._pytest.outside import Alarm, Outside, Watchdog
from minidocker._pytest.report import (
    join_sections,
    marked,
    replay_warnings,
    report_failure,
    xml_additions,
    xml_apply,
)
from minidocker._pytest.unavailable import unavailable
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ContainedTest"]

WHERE = "@pytest.mark.minidocker"


class _Elsewhere(Exit):
    """Leaves the hooks outside, once the test has been run inside. No hook makes a report of it."""


class ContainedTest:
    """One test that runs in a container of its own.

    Args:
        item: the test.
        nextitem: the one that follows, or None.
    """

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self.item = item
        self.nextitem = nextitem
        self.config = item.config
        self.outside = Outside(item)
        self.inside: Inside | None = None
        """What this process is once it is the copy; None in the one that goes on with the run."""

    def run(self, splitter: pytest.StashKey[Callable[[], None]]) -> None:
        """Run it, and log its reports: the hook ``pytest_runtest_protocol``.

        Args:
            splitter: where the item has `split`, which its setup calls, while it is run.
        """
        item = self.item
        place = {"nodeid": item.nodeid, "location": item.location}
        item.ihook.pytest_runtest_logstart(**place)
        item.stash[splitter] = self.split
        try:
            self._run()
        finally:
            # The copy must never get into the frames below this one, which are the caller's.
            if self.inside is not None:
                self.inside.end()
            del item.stash[splitter]
        item.ihook.pytest_runtest_logfinish(**place)

    def _run(self) -> None:
        try:
            if (refused := self._debugger()) is None:
                self._protocol()
            else:
                # No hook shall take it for what is to be debugged.
                self.outside.reports.append(report_failure(self.item, "setup", refused, ()))
        except _Elsewhere:
            pass
        except BaseException as error:
            if self.inside is None:
                raise
            self.inside.failed(error)
        if self.inside is None:
            self._finish()

    def _debugger(self) -> str | None:
        """Why the test cannot be debugged, if that is asked for."""
        for option, name in (("usepdb", "--pdb"), ("trace", "--trace")):
            if self.config.getoption(option, False):
                return (
                    f"{name} cannot be used with a test in a container, which has no terminal to "
                    f"debug it at. Leave out {name}, or the marker minidocker"
                )
        return None

    def _protocol(self) -> None:
        """What pytest does with a test: outside until `split`, and inside from there on."""
        item: Any = self.item
        if hasattr(item, "_request") and not item._request:
            item._initrequest()
        report = call_and_report(item, "setup", log=False)
        if self.inside is None:
            # It was skipped, or failed, on the way to its container.
            self.outside.reports.append(report)
            return
        self.inside.send_report(report, "setup")
        if report.passed:
            only = self.config.getoption("setuponly", False)
            if self.config.getoption("setupshow", False):
                show_test_item(item, add_space=not only)
            if not only:
                self.inside.send_report(call_and_report(item, "call", log=False), "call")
        report = call_and_report(item, "teardown", log=False, nextitem=None)
        self.inside.send_report(report, "teardown")
        self.inside.send_the_rest()

    # --- the hook pytest_runtest_setup -----------------------------------------------------------

    def split(self) -> None:
        """Set up what is shared, and become two.

        Returns inside. Outside, it leaves the hooks when the test has ended.
        """
        spec, options, timeout = self._asked_for()
        _set_up_shared(self.item)
        additions = xml_additions(self.item)
        flush(self.config)
        alarm, watchdog = Alarm(), Watchdog(self.config)
        try:
            forked = fork(spec, timeout=timeout)
        except (SpawnError, SpecError, CallTimeout) as error:
            alarm.go_on()
            watchdog.go_on()
            unavailable(self.config, error, options, WHERE)
        if isinstance(forked, Copy):
            self.inside = Inside(self.item, forked.channel, additions)
            self.inside.enter()
            alarm.go_on()
            watchdog.go_on()
            return
        with alarm.later():
            self.outside.listen(forked, timeout)
        watchdog.go_on()
        raise _Elsewhere("the test has been run in its container")

    def _asked_for(self) -> tuple[Spec, dict[str, Any], float | None]:
        """The container that the markers describe, their options, and the test's timeout."""
        if sys.platform != "linux":
            refused = UnsupportedPlatformError("namespaces are a thing of Linux")
            unavailable(self.config, refused, {}, WHERE)
        try:
            options = marked(self.item, "minidocker")
            timeout = _seconds(options.pop("timeout", None))
            spec = Spec.of(options.pop("spec", None), options)
        except SpecError as error:
            unavailable(self.config, error, {}, WHERE)
        return spec, options, timeout

    # --- afterwards, outside ---------------------------------------------------------------------

    def _finish(self) -> None:
        item: Any = self.item
        outside = self.outside
        session = item.session
        outside.add_failure()
        # What has been written meanwhile is in the reports.
        del item._report_sections[:]
        replay_warnings(outside.warnings)
        if outside.coverage is not None:
            coverage.add(outside.coverage)
        if outside.junitxml is not None:
            xml_apply(item, outside.junitxml)
        for name, value in outside.session.items():
            if value and not getattr(session, name):
                setattr(session, name, value)
        teardown = [report for report in outside.reports if report.when == "teardown"]
        for report in outside.reports:
            if report.when != "teardown":
                outside.log(report)
        if outside.ends_run is not None:
            raise outside.ends_run
        nextitem = None if session.shouldfail or session.shouldstop else self.nextitem
        shared = _tear_down_shared(item, nextitem)
        if not teardown or shared.failed:
            teardown.append(shared)
        else:
            teardown[-1].duration += shared.duration
            join_sections(teardown[-1], shared)
        for report in teardown:
            item.ihook.pytest_runtest_logreport(report=report)
        if hasattr(item, "_request"):
            item._request = False
            item.funcargs = None


def _seconds(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise SpecError("give seconds, more than 0, or None", option="timeout", value=timeout)
    return float(timeout)


# --- shared fixtures -----------------------------------------------------------------------------


def _set_up_shared(item: Any) -> None:
    """Set up what the test shares with others: its collectors, and fixtures of a wider scope.

    What fails here is remembered by pytest, and fails again, with its traceback, inside.
    """
    state = item.session._setupstate
    try:
        state.setup(item.parent)
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            return
        # pytest asks that the test is being set up where a fixture is.
        state.stack[item] = ([], None)
        for name in item.fixturenames:
            definitions = info.name2fixturedefs.get(name)
            if definitions and _scope(item, name, definitions[-1]) != "function":
                value = item._request.getfixturevalue(name)
                if name == "tmp_path_factory":
                    # Else every container would make, and number, one of its own.
                    value.getbasetemp()
    except Exit:
        # An Exception, too, but the end of the run.
        raise
    except TEST_OUTCOME:
        return
    finally:
        state.stack.pop(item, None)


def _scope(item: Any, name: str, definition: Any) -> str:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and name in callspec.params:
        return str(callspec._arg2scope[name].value)
    return str(definition.scope)


def _tear_down_shared(item: Any, nextitem: pytest.Item | None) -> pytest.TestReport:
    """Tear down what no later test shares, and report it as this test's teardown."""
    capturing = item.config.pluginmanager.getplugin("capturemanager")
    logging = item.config.pluginmanager.getplugin("logging-plugin")

    def tear_down() -> None:
        with contextlib.ExitStack() as stack:
            # Where the setup was begun outside.
            if logging is not None and caplog_records_key in item.stash:
                stack.enter_context(logging._runtest_for(item, "teardown"))
            if capturing is not None:
                stack.enter_context(capturing.item_capture("teardown", item))
            item.session._setupstate.teardown_exact(nextitem)

    call = pytest.CallInfo.from_call(
        tear_down, when="teardown", reraise=get_reraise_exceptions(item.config)
    )
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report
