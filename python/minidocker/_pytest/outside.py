"""The pytest outside: receives the results of a test that runs in its container."""

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

from minidocker._pytest import coverage
from minidocker._pytest.results import decode, how_it_ended, report_failure, shares_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._functions.fork import ForkedContainer

__all__ = ["Alarm", "Outside", "Watchdog"]

PHASES = ("setup", "call", "teardown")
GRACE = 5.0
"""Seconds that a container may take to end after its test has sent everything."""
ALARM_GRACE = 1.0
"""Seconds between the alarm inside, which should end the test, and the alarm outside."""
CHUNK = 1 << 18


class Outside:
    """The results of one contained test.

    Args:
        item: the test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.reports: list[pytest.TestReport] = []
        self.warnings: list[dict[str, Any]] = []
        self.coverage = coverage.ReceivedCoverage(item.nodeid)
        self.junitxml: dict[str, Any] | None = None
        self.session: dict[str, Any] = {}
        self.ends_run: BaseException | None = None
        self._shown_at_once = shares_terminal(item.config)
        self._logged: list[pytest.TestReport] = []
        self._output: list[list[str]] = []
        self._failure: str | None = None
        self._phase: str | None = "setup"
        """The current phase; None after the last."""
        self._done = False
        self._duration = 0.0
        self._received = b""

    def listen(self, container: ForkedContainer, timeout: float | None) -> None:
        """Receive the test's messages until its container has ended.

        Args:
            container: the container, which is reaped, and whose descriptors are closed.
            timeout: seconds after which the container is killed.

        Raises:
            BaseException: a KeyboardInterrupt, or an end of the run that a plugin requests. The
                container has ended then.
        """
        started = time.monotonic()
        try:
            try:
                in_time = self._receive_all(container, timeout)
            except (Exception, pytest.fail.Exception) as error:
                if isinstance(error, pytest.exit.Exception):
                    raise
                # A plugin's signal handler raised this because the test takes too long.
                container.kill()
                container.wait()
                self._failure = str(error)
                return
            if not in_time:
                container.kill()
            ended = container.wait()
            if not in_time and self._done:
                self._warn_of_thread()
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

    def _warn_of_thread(self) -> None:
        self.warn(
            f"a thread that the test left running had not ended after {GRACE:g} seconds and was "
            "killed with its container. Join it in the test"
        )

    def warn(self, message: str) -> None:
        """Add a warning about the test."""
        self.warnings.append(
            {
                "message": message,
                "category": ["pytest", "PytestWarning"],
                "filename": str(self.item.path),
                "lineno": (self.item.location[1] or 0) + 1,
            }
        )

    def _receive_all(self, container: ForkedContainer, timeout: float | None) -> bool:
        """Receive messages, and return whether the container ended in time."""
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
                # Do not wait for the end of the channel: another process may hold a copy of it.
                while self._receive(container.channel, more_may_come=False):
                    pass
                return True
            if not self._receive(container.channel, more_may_come=True):
                poll.unregister(container.channel)

    def _receive(self, channel: int, *, more_may_come: bool) -> bool:
        """Read and handle one chunk; return False if there is nothing more."""
        try:
            data = os.read(channel, CHUNK)
        except BlockingIOError:
            return more_may_come
        except ConnectionResetError:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._handle(channel, json.loads(line))
        return bool(data)

    def _show(self, report: pytest.TestReport) -> None:
        """Log a report; delay that of the teardown until the teardown outside."""
        if report.when == "teardown":
            return
        capturing = self.item.config.pluginmanager.getplugin("capturemanager")
        with contextlib.ExitStack() as stack:
            if capturing is not None:
                stack.enter_context(capturing.global_and_fixture_disabled())
            self.log(report)

    def log(self, report: pytest.TestReport) -> None:
        """Log a report, unless it was logged already."""
        if report not in self._logged:
            self._logged.append(report)
            self.item.ihook.pytest_runtest_logreport(report=report)

    def _handle(self, channel: int, message: dict[str, Any]) -> None:
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
        if "coverage" in message:
            self.coverage.receive(message["coverage"])
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
        """Add a report for a test that did not report its own end."""
        if self._failure is None or self.ends_run is not None:
            return
        item: Any = self.item
        phase = self._phase or "teardown"
        # The hooks outside were left during the setup. With capture=fd both processes write to the
        # same files, so the sections here are output of the phase that was not reported. All other
        # sections were captured before the fork, and the report of the setup has them.
        shares_files = item.config.getoption("capture", None) == "fd"
        sections = [
            (f"Captured {stream} {phase}", text)
            for _, stream, text in item._report_sections
            if not self.reports or (shares_files and stream != "log")
        ]
        sections += [(f"Captured {stream} {phase}", text) for stream, text in self._output if text]
        del item._report_sections[:]
        report = report_failure(item, phase, self._failure, sections)
        reported = sum(earlier.duration for earlier in self.reports)
        report.duration = max(0.0, self._duration - reported)
        self.reports.append(report)


def _count_subtest(config: pytest.Config, report: pytest.TestReport) -> None:
    """Count a failed subtest: pytest shows a test as failed if one of its subtests failed."""
    subtests: Any = sys.modules.get("_pytest.subtests")
    if subtests is not None and isinstance(report, subtests.SubtestReport) and report.failed:
        config.stash[subtests.failed_subtests_key][report.nodeid] += 1


class Alarm:
    """The timer of setitimer(2), with which pytest-timeout ends a test. A fork does not inherit it.

    The constructor stops the timer. The copy inside restarts it, so it interrupts the test itself.
    The pytest outside delays it by `ALARM_GRACE`, for a test that does not react, and restarts it
    afterwards if it was not due inside.
    """

    def __init__(self) -> None:
        self._remaining, self._interval = signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._stopped = time.monotonic()

    def resume(self) -> None:
        """Restart the timer with the remaining time."""
        if self._remaining:
            self._set(self._left())

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """Delay the timer by `ALARM_GRACE` during the block, and restart it afterwards."""
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
        # 0 would disarm the timer.
        signal.setitimer(signal.ITIMER_REAL, max(0.001, seconds), self._interval)


class Watchdog:
    """The thread of ``faulthandler_timeout``, which shows where a test hangs. A fork loses it.

    In a copy, stopping the lost thread would wait for its end forever, and pytest stops it for each
    test that fails. Therefore the constructor stops the thread before the fork, and the copy starts
    it again: the test hangs there.

    Args:
        config: pytest's configuration.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._timeout = 0.0
        descriptor = config.stash.get(fault_handler_stderr_fd_key, None)
        if descriptor is not None and config.pluginmanager.has_plugin("faulthandler"):
            self._descriptor = descriptor
            self._timeout = get_timeout_config_value(config)
        if self._timeout > 0:
            self._exit = _exits_on_timeout(config)
            faulthandler.cancel_dump_traceback_later()

    def resume(self) -> None:
        """Start the thread again, with the whole timeout."""
        if self._timeout > 0:
            faulthandler.dump_traceback_later(self._timeout, file=self._descriptor, exit=self._exit)


def _exits_on_timeout(config: pytest.Config) -> bool:
    try:
        return bool(config.getini("faulthandler_exit_on_timeout"))
    except ValueError:
        # An older pytest does not have the option.
        return False
