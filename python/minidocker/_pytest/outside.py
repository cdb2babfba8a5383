"""The pytest outside: has a test run its phases in its container, and receives the results."""

from __future__ import annotations

import contextlib
import select
import sys
from socket import AF_UNIX, MSG_NOSIGNAL, SOCK_STREAM
from typing import TYPE_CHECKING, Any

import pytest

from minidocker._functions.unseen import explained
from minidocker._pytest import plugins
from minidocker._pytest.kept import Kept
from minidocker._pytest.results import (
    LARGEST_MESSAGE,
    decode,
    how_it_ended,
    received,
    shares_terminal,
    test_key,
    warn,
)
from minidocker._pytest.shapes import Malformed
from minidocker._pytest.timers import Alarm
from minidocker._run import timeouts

if TYPE_CHECKING:
    from minidocker._functions.fork import ForkedContainer
    from minidocker._functions.function_container import Ended

__all__ = ["Outside"]

GRACE = 5.0
"""Seconds that a container may take to end after its test has sent everything."""
CHUNK = 1 << 16
MOST_BYTES = 1 << 28
MOST_MESSAGES = 50_000
"""The size and the number of the messages that a test may send."""


class _Ended(Exception):
    """The container has ended, and has sent nothing more."""


class _OutOfTime(Exception):
    """The test has used up its time."""


class Outside:
    """The conversation with one test in its container. It reads no more than it has asked for.

    Args:
        item: the test.
        container: its container.
        timeout: the number of seconds that the test may take; None for no limit.
        started: the time of the start, of `time.monotonic`.
    """

    def __init__(
        self,
        item: pytest.Item,
        container: ForkedContainer,
        timeout: float | None,
        started: float,
    ) -> None:
        self.item = item
        self._container: ForkedContainer | None = container
        self._spec = container.spec
        self._timeout = timeout
        self._deadline = None if timeout is None else started + timeout
        self._channel = container.channel
        self._socket = Kept.socket(AF_UNIX, SOCK_STREAM, 0, container.channel)
        self._shown_at_once = shares_terminal(item.config)
        self._messages = 0
        self._received = bytearray()
        self._searched = 0
        self._left = MOST_BYTES
        Kept.set_blocking(self._channel, False)
        self._poll = Kept.poll()
        self._poll.register(self._channel, select.POLLIN)
        self._poll.register(container.ends(), select.POLLIN)

    @property
    def runs(self) -> bool:
        """Whether the container runs."""
        return self._container is not None

    def explain(self, report: pytest.TestReport) -> None:
        """Add a section about a file that the test did not find because it exists outside only."""
        place = getattr(report.longrepr, "reprcrash", None)
        if report.failed and place is not None:
            kind, _, text = place.message.partition(": ")
            line = explained(kind.rpartition(".")[2], text, self._spec)
            if line is not None:
                report.sections.append(("Not shown in the container", line))

    def run_phase(self, phase: str, alarm: Alarm | None = None) -> dict[str, Any]:
        """Have the test run a phase; return the message that ends it, with a decoded report.

        Args:
            phase: ``"setup"``, which has started already, ``"call"`` or ``"teardown"``.
            alarm: the timer that was stopped before the phase; by default it is stopped now.

        Raises:
            pytest.fail.Exception: there is no report; the container has ended.
            pytest.exit.Exception: the test asks for the end of the run; the container has ended.
            KeyboardInterrupt: the same.
        """
        try:
            with (Alarm() if alarm is None else alarm).delayed():
                if phase != "setup":
                    self._send(phase[0])
                return self._receive_phase(phase)
        except Malformed as error:
            self.close()
            reason = f"the test sent malformed data during its {phase}: its container was ended"
            if str(error):
                reason = f"{reason}. {error}"
            raise pytest.fail.Exception(reason, pytrace=False) from None
        except _OutOfTime:
            self.close()
            reason = f"the test had not ended after {self._timeout:g} seconds"
            raise pytest.fail.Exception(reason, pytrace=False) from None
        except _Ended:
            reason = how_it_ended(self._end(), phase)
            raise pytest.fail.Exception(reason, pytrace=False) from None
        except pytest.fail.Exception as error:
            # A plugin's signal handler raised this because the test takes too long.
            self.close()
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        except BaseException:
            self.close()
            raise

    def finish(self) -> None:
        """Wait for the end of the container after the last phase.

        Raises:
            pytest.fail.Exception: its process ended with an error.
        """
        assert self._container is not None
        poll = Kept.poll()
        poll.register(self._container.ends(), select.POLLIN)
        started = Kept.monotonic()
        limit = started + GRACE
        if self._deadline is not None:
            limit = min(limit, self._deadline)
        try:
            in_time = poll.poll(max(0.0, limit - Kept.monotonic()) * 1000)
        except BaseException:
            self.close()
            raise
        if not in_time:
            self.close()
            warn(
                self.item,
                "a thread that the test left running had not ended after "
                f"{Kept.monotonic() - started:.2g} seconds and was killed with its container. "
                "Join it in the test",
            )
            return
        ended = self._end()
        if ended.returncode != 0:
            raise pytest.fail.Exception(how_it_ended(ended, None), pytrace=False)

    def close(self) -> None:
        """Kill and reap the container, if it runs."""
        if self._container is not None:
            container, self._container = self._container, None
            self._socket.detach()
            container.kill()
            container.wait()
            container.close()

    def _end(self) -> Ended:
        """Reap the container, which has ended."""
        assert self._container is not None
        container, self._container = self._container, None
        self._socket.detach()
        try:
            return container.wait()
        finally:
            container.close()

    # --- messages --------------------------------------------------------------------------------

    def _receive_phase(self, phase: str) -> dict[str, Any]:
        while True:
            message = received(self._next_line())
            if "subtest" in message:
                self._show_subtest(message["subtest"])
            elif "output" in message:
                for stream, text in message["output"]:
                    if text:
                        self.item.add_report_section(phase, stream, text)
            elif "exit" in message:
                reason, status = message["exit"]
                # Only a failure is taken from inside.
                usable = status is not None and 0 < status < 256
                raise pytest.exit.Exception(reason, status if usable else None)
            elif "interrupt" in message:
                raise KeyboardInterrupt
            elif "failed" in message:
                raise pytest.fail.Exception(message["failed"], pytrace=False)
            elif message["phase"] != phase:
                raise Malformed
            else:
                message["report"] = decode(self.item, message["report"], phase)
                message["plugins"] = plugins.received(self.item, message.get("plugins", {}))
                return message

    def _show_subtest(self, data: dict[str, Any]) -> None:
        report = decode(self.item, data, "call", subtest=True)
        # Pytest shows a test as failed if one of its subtests failed.
        subtests: Any = sys.modules.get("_pytest.subtests")
        if subtests is not None and isinstance(report, subtests.SubtestReport) and report.failed:
            self.item.config.stash[subtests.failed_subtests_key][test_key(report)] += 1
        capturing: Any = self.item.config.pluginmanager.getplugin("capturemanager")
        with contextlib.ExitStack() as stack:
            if capturing is not None:
                stack.enter_context(capturing.global_and_fixture_disabled())
            self.item.ihook.pytest_runtest_logreport(report=report)
        if self._shown_at_once:
            self._send("\n")

    def _send(self, letter: str) -> None:
        try:
            # Unlike write(2), this cannot raise SIGPIPE.
            self._socket.send(letter.encode(), MSG_NOSIGNAL)
        except BlockingIOError:
            raise Malformed("It does not read the answers") from None
        except (BrokenPipeError, ConnectionResetError):
            # The end of the container shows the reason.
            pass

    def _next_line(self) -> bytes:
        """Return the next message.

        Raises:
            _OutOfTime: the deadline has passed.
            Malformed: the message is too long, or the test sends too much.
            _Ended: the container has ended.
        """
        while True:
            end = self._received.find(b"\n", self._searched)
            if end >= 0:
                self._messages += 1
                if self._messages > MOST_MESSAGES:
                    raise Malformed(f"It sent more than {MOST_MESSAGES} messages")
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                self._searched = 0
                self._check_time()
                return line
            self._searched = len(self._received)
            if self._searched > LARGEST_MESSAGE:
                raise Malformed(f"A message has more than {LARGEST_MESSAGE} bytes")
            self._wait()

    def _check_time(self) -> float | None:
        """Return how many milliseconds to wait, or None if there is no deadline."""
        if self._deadline is None:
            return None
        remaining = self._deadline - Kept.monotonic()
        if remaining <= 0:
            raise _OutOfTime
        return min(remaining * 1000, timeouts.LONGEST_POLL)

    def _wait(self) -> None:
        """Wait for data, and read it."""
        assert self._container is not None
        remaining = self._check_time()
        events = dict(self._poll.poll(remaining))
        if self._channel in events and self._read():
            return
        # Do not wait for the end of the channel: another process may hold a copy of it.
        if self._container.ends() in events and not self._read():
            raise _Ended

    def _read(self) -> bool:
        """Read what the channel has; return False if there is nothing."""
        try:
            data = Kept.read(self._channel, CHUNK)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self._channel)
            return False
        self._left -= len(data)
        if self._left < 0:
            raise Malformed(f"It sent more than {MOST_BYTES} bytes")
        self._received += data
        return True
