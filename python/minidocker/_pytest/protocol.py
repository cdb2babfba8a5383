"""A test in its own container.

Pytest forks in the middle of a test's setup. Before the fork, fixtures of a wider scope than the
test are set up outside, once, as their scope promises. After it, the test's own fixtures are set
up, used and torn down inside. The copy continues in the same hooks, so capturing, logging, xfail
and all other plugins work as in any test. It sends its reports and ends; the pytest outside leaves
the hooks and logs the reports.
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
from minidocker._pytest.inside import Inside, flush
from minidocker._pytest.outside import Alarm, Outside, Watchdog
from minidocker._pytest.results import (
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


class _RanInside(Exit):
    """Leaves the hooks outside after the test has run inside. No hook reports this exception."""


class ContainedTest:
    """One test that runs in its own container.

    Args:
        item: the test.
        nextitem: the next test, or None.
    """

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self.item = item
        self.nextitem = nextitem
        self.config = item.config
        self.outside = Outside(item)
        self.inside: Inside | None = None
        """The copy's side, in the copy; None in the pytest outside."""

    def run(self, splitter: pytest.StashKey[Callable[[], None]]) -> None:
        """Run the test and log its reports: the hook ``pytest_runtest_protocol``.

        Args:
            splitter: the key under which the item's stash has `split`, for the hook of its setup.
        """
        item = self.item
        place = {"nodeid": item.nodeid, "location": item.location}
        item.ihook.pytest_runtest_logstart(**place)
        item.stash[splitter] = self.split
        try:
            self._run()
        finally:
            # The copy must never return to the frames of the caller.
            if self.inside is not None:
                self.inside.end()
            del item.stash[splitter]
        item.ihook.pytest_runtest_logfinish(**place)

    def _run(self) -> None:
        try:
            if (refused := self._debugger_error()) is None:
                self._protocol()
            else:
                # Bypass the hooks, or pytest would start the debugger for this failure.
                self.outside.reports.append(report_failure(self.item, "setup", refused, ()))
        except _RanInside:
            pass
        except BaseException as error:
            if self.inside is None:
                raise
            self.inside.failed(error)
        if self.inside is None:
            self._finish()

    def _debugger_error(self) -> str | None:
        """Return an error if a debugger is requested, which a contained test cannot use."""
        for option, name in (("usepdb", "--pdb"), ("trace", "--trace")):
            if self.config.getoption(option, False):
                return (
                    f"{name} cannot be used with a test in a container, which has no terminal for "
                    f"a debugger. Leave out {name}, or the marker minidocker"
                )
        return None

    def _protocol(self) -> None:
        """Run the phases of a test as pytest does: outside until `split`, inside after it."""
        item: Any = self.item
        if hasattr(item, "_request") and not item._request:
            item._initrequest()
        report = call_and_report(item, "setup", log=False)
        if self.inside is None:
            # The test was skipped or failed before its container started.
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
        self.inside.send_end()

    # --- the hook pytest_runtest_setup -----------------------------------------------------------

    def split(self) -> None:
        """Set up shared fixtures, and fork into a container.

        Return in the copy inside. Outside, wait for the end of the test and leave the hooks by an
        exception.
        """
        spec, options, timeout = self._requested()
        _set_up_shared(self.item)
        additions = xml_additions(self.item)
        flush(self.config)
        alarm, watchdog = Alarm(), Watchdog(self.config)
        try:
            forked = fork(spec, timeout=timeout)
        except (SpawnError, SpecError, CallTimeout) as error:
            alarm.resume()
            watchdog.resume()
            unavailable(self.config, error, options, WHERE)
        if isinstance(forked, Copy):
            self.inside = Inside(self.item, forked.channel, additions)
            self.inside.enter()
            alarm.resume()
            watchdog.resume()
            return
        with alarm.delayed():
            self.outside.listen(forked, timeout)
        watchdog.resume()
        raise _RanInside("the test has been run in its container")

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

    # --- afterwards, outside ---------------------------------------------------------------------

    def _finish(self) -> None:
        item: Any = self.item
        outside = self.outside
        session = item.session
        outside.add_failure()
        # The reports contain the output of the test.
        del item._report_sections[:]
        if (warning := outside.coverage.add()) is not None:
            outside.warn(warning)
        replay_warnings(outside.warnings)
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

    Pytest remembers a failure here, and raises it again, with its traceback, inside.
    """
    state = item.session._setupstate
    try:
        state.setup(item.parent)
        info = getattr(item, "_fixtureinfo", None)
        if info is None:
            return
        # Pytest requires that the test of a fixture is being set up.
        state.stack[item] = ([], None)
        for name in item.fixturenames:
            definitions = info.name2fixturedefs.get(name)
            if definitions and _scope(item, name, definitions[-1]) != "function":
                value = item._request.getfixturevalue(name)
                if name == "tmp_path_factory":
                    # Otherwise every container would make another numbered directory.
                    value.getbasetemp()
    except Exit:
        # TEST_OUTCOME includes Exit, which ends the run.
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
    """Tear down the fixtures that no later test shares; return the report of this teardown."""
    capturing = item.config.pluginmanager.getplugin("capturemanager")
    logging = item.config.pluginmanager.getplugin("logging-plugin")

    def tear_down() -> None:
        with contextlib.ExitStack() as stack:
            # This key exists only if the setup began outside.
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
