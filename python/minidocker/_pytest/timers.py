"""The timers of other plugins, with which they end a test or show where it hangs.

A fork does not inherit them, so both processes start them again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
from typing import TYPE_CHECKING

from _pytest.faulthandler import fault_handler_stderr_fd_key, get_timeout_config_value

from minidocker._pytest.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

__all__ = ["Alarm", "Watchdog"]

ALARM_GRACE = 1.0
"""Seconds between the alarm inside, which should end the test, and the alarm outside."""


class Alarm:
    """The timer of setitimer(2), with which pytest-timeout ends a test. A fork does not inherit it.

    The constructor stops the timer. The copy inside restarts it, so it interrupts the test itself.
    The pytest outside delays it by `ALARM_GRACE`, for a test that does not react, and restarts it
    afterwards if it was not due inside.
    """

    def __init__(self) -> None:
        self._remaining, self._interval = Kept.setitimer(signal.ITIMER_REAL, 0.0)
        self._stopped = Kept.monotonic()

    def resume(self, *, same_clock: bool = True) -> None:
        """Restart the timer with the remaining time.

        Args:
            same_clock: whether this process has the monotonic clock of the constructor. In a new
                time namespace the time since then is unknown, and counts as none.
        """
        if self._remaining:
            self._set(self._left() if same_clock else self._remaining)

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
            Kept.setitimer(signal.ITIMER_REAL, 0.0)
            if (left := self._left()) > 0 or (left := self._interval):
                self._set(left)

    def _left(self) -> float:
        return self._remaining - (Kept.monotonic() - self._stopped)

    def _set(self, seconds: float) -> None:
        # 0 would disarm the timer.
        Kept.setitimer(signal.ITIMER_REAL, max(0.001, seconds), self._interval)


class Watchdog:
    """The thread of `faulthandler.dump_traceback_later`, which shows where a test hangs.

    A fork loses it. In a copy, stopping the lost thread would wait for its end forever, and pytest
    stops it for each test that fails. Therefore the constructor stops the thread before the fork,
    and both processes start that of ``faulthandler_timeout`` again: the test hangs in the copy.
    Another one, such as that of a pytest in whose test this pytest runs, cannot be started again,
    because `faulthandler` does not tell its arguments.

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
