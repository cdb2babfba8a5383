"""The pytest outside, while a test runs in its container."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key, get_timeout_config_value

from minidocker._pytest.report import decode, how_it_ended, report_failure, shares_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._functions.fork import ForkedContainer

__all__ = ["Alarm", "Outside", "Watchdog"]

PHASES = ("setup", "call", "teardown")
GRACE = 5.0
"""Seconds that a container may take to end once its test has sent everything."""
ALARM_GRACE = 1.0
"""Seconds that a test's own alarm has to end it, before the one outside does."""
CHUNK = 1 << 18


class Outside:
    """What comes out of a container.

    Args:
        item: the test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.reports: list[pytest.TestReport] = []
        self.warnings: list[dict[str, Any]] = []
        self.coverage: str | None = None
        self.junitxml: dict[str, Any] | None = None
        self.session: dict[str, Any] = {}
        self.ends_run: BaseException | None = None
        self._shown_at_once = shares_terminal(item.config)
        self._logged: list[pytest.TestReport] = []
        self._output: list[list[str]] = []
        self._failure: str | None = None
        self._phase: str | None = "setup"
        """The one that is under way; None after the last."""
        self._done = False
        self._duration = 0.0
        self._received = b""

    def listen(self, container: ForkedContainer, timeout: float | None) -> None:
        """Take what the test sends, until its container has ended.

        Args:
            container: it is reaped, and its descriptors are given back.
            timeout: seconds until the container is ended.

        Raises:
            BaseException: a KeyboardInterrupt, or an end of the run that a plugin asks for. The
                container is gone then.
        """
        started = time.monotonic()
        try:
            try:
                in_time = self._receive_all(container, timeout)
            except (Exception, pytest.fail.Exception) as error:
                if isinstance(error, pytest.exit.Exception):
                    raise
                # The handler of a signal, of a plugin that found the test to take too long.
                container.kill()
                container.wait()
                self._failure = str(error)
                return
            if not in_time:
                container.kill()
            ended = container.wait()
            if not in_time and self._done:
                self._warn_of_the_rest()
            elif not in_time:
                self._failure = f"the test had not ended after {timeout:g} seconds"
            elif not self._done or ended.returncode != 0:
                self._failure = self._failure or how_it_ended(ended, self._phase)
        except BaseException:
            container.kill()
            container.wait()
            raise
        finally:
            container.close()
            self._duration = time.monotonic() - started

    def _warn_of_the_rest(self) -> None:
        self.warnings.append(
            {
                "message": f"a thread that the test left running had not ended after {GRACE:g} "
                "seconds, and was ended with its container. Join it in the test",
                "category": ["pytest", "PytestWarning"],
                "filename": str(self.item.path),
                "lineno": (self.item.location[1] or 0) + 1,
            }
        )

    def _receive_all(self, container: ForkedContainer, timeout: float | None) -> bool:
        """Whether the container ended in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(container.channel, select.POLLIN)
        poll.register(container.ends(), select.POLLIN)
        os.set_blocking(container.channel, False)
        graced = False
        while True:
            if self._done and not graced:
                graced, deadline = True, time.monotonic() + GRACE
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = dict(poll.poll(remaining))
            if not events:
                return False
            if container.ends() in events:
                # Its end of the channel may never be seen closed: something else may hold a copy.
                while self._receive(container.channel, more_may_come=False):
                    pass
                return True
            if not self._receive(container.channel, more_may_come=True):
                poll.unregister(container.channel)

    def _receive(self, channel: int, *, more_may_come: bool) -> bool:
        """Read a part of what was sent; False if there is nothing more."""
        try:
            data = os.read(channel, CHUNK)
        except BlockingIOError:
            return more_may_come
        except ConnectionResetError:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(channel, json.loads(line))
        return bool(data)

    def _show(self, report: pytest.TestReport) -> None:
        """Log a report now. That of the teardown waits for what is torn down outside."""
        if report.when == "teardown":
            return
        capturing = self.item.config.pluginmanager.getplugin("capturemanager")
        with contextlib.ExitStack() as stack:
            if capturing is not None:
                stack.enter_context(capturing.global_and_fixture_disabled())
            self.log(report)

    def log(self, report: pytest.TestReport) -> None:
        """Log a report, unless it has been."""
        if report not in self._logged:
            self._logged.append(report)
            self.item.ihook.pytest_runtest_logreport(report=report)

    def _take(self, channel: int, message: dict[str, Any]) -> None:
        if "report" in message:
            report = decode(self.item.config, message["report"])
            self.reports.append(report)
            phase = message.get("phase")
            if phase == "setup" and not report.passed:
                self._phase = "teardown"
            elif phase is not None:
                self._phase = dict(zip(PHASES, (*PHASES[1:], None), strict=True))[phase]
            else:
                _count_subtest(self.item.config, report)
            if self._shown_at_once:
                self._show(report)
                os.write(channel, b"\n")
        self.warnings += message.get("warnings", ())
        self.coverage = message.get("coverage", self.coverage)
        self.junitxml = message.get("junitxml", self.junitxml)
        self.session.update(message.get("session", {}))
        self._output += message.get("output", ())
        self._failure = message.get("failed", self._failure)
        self._done = message.get("done", self._done)
        if "exit" in message:
            self.ends_run = pytest.exit.Exception(*message["exit"])
        elif "interrupt" in message:
            self.ends_run = KeyboardInterrupt()

    def add_failure(self) -> None:
        """Report a test that did not report its own end."""
        if self._failure is None or self.ends_run is not None:
            return
        item: Any = self.item
        phase = self._phase or "teardown"
        # The hooks outside were left in the setup. What they captured and the test has not reported
        # was written in the phase that it has not reported: where files capture it, which the
        # two have in common. What else they have is from before, and in the report of the setup.
        in_common = item.config.getoption("capture", None) == "fd"
        sections = [
            (f"Captured {stream} {phase}", text)
            for _, stream, text in item._report_sections
            if not self.reports or (in_common and stream != "log")
        ]
        sections += [(f"Captured {stream} {phase}", text) for stream, text in self._output if text]
        del item._report_sections[:]
        report = report_failure(item, phase, self._failure, sections)
        reported = sum(earlier.duration for earlier in self.reports)
        report.duration = max(0.0, self._duration - reported)
        self.reports.append(report)


def _count_subtest(config: pytest.Config, report: pytest.TestReport) -> None:
    """Note a subtest that failed: a test fails, where its result is shown, if one of them did."""
    subtests: Any = sys.modules.get("_pytest.subtests")
    if subtests is not None and isinstance(report, subtests.SubtestReport) and report.failed:
        config.stash[subtests.failed_subtests_key][report.nodeid] += 1


class Alarm:
    """The alarm of setitimer(2), by which pytest-timeout ends a test: a fork does not inherit it.

    Made, it stops. Inside, it goes on, so that what it interrupts is the test. Outside it goes off
    a little later, for a test that does not let itself be interrupted, and goes on afterwards if
    it has not been due inside.
    """

    def __init__(self) -> None:
        self._remaining, self._interval = signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._stopped = time.monotonic()

    def go_on(self) -> None:
        """Go off when it would have."""
        if self._remaining:
            self._set(self._left())

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """Go off a little later, meanwhile."""
        if not self._remaining:
            yield
            return
        self._set(self._left() + ALARM_GRACE)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            if (left := self._left()) > 0 or (left := self._interval):
                self._set(left)

    def _left(self) -> float:
        return self._remaining - (time.monotonic() - self._stopped)

    def _set(self, seconds: float) -> None:
        # Not 0, which is never.
        signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds), self._interval)


class Watchdog:
    """The thread of ``faulthandler_timeout``, which shows where a test hangs: a fork loses it.

    What is worse, a copy waits for ever for the thread's end as soon as it is to be stopped, which
    pytest does for each test that fails. So it is stopped first, and goes on inside: there it is
    that the test hangs.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._timeout = 0.0
        descriptor = config.stash.get(fault_handler_stderr_fd_key, None)
        if descriptor is not None and config.pluginmanager.has_plugin("faulthandler"):
            self._descriptor = descriptor
            self._timeout = get_timeout_config_value(config)
        if self._timeout > 0:
            self._exit = _asked_to_exit(config)
            faulthandler.cancel_dump_traceback_later()

    def go_on(self) -> None:
        """Start it again, with all of its time."""
        if self._timeout > 0:
            faulthandler.dump_traceback_later(self._timeout, file=self._descriptor, exit=self._exit)


def _asked_to_exit(config: pytest.Config) -> bool:
    try:
        return bool(config.getini("faulthandler_exit_on_timeout"))
    except ValueError:
        # A pytest that does not have it yet.
        return False
