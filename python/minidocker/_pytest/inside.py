"""The copy of pytest that runs one test, inside the test's container."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pdb  # noqa: T100 - only to replace its set_trace
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from minidocker._functions import fork, worker
from minidocker._pytest import coverage
from minidocker._pytest.results import encode, packed_warnings, shares_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inside", "flush"]


class Inside:
    """The copy's side of a contained test: prepares this process and sends the test's results.

    Args:
        item: the test.
        channel: the descriptor of a stream socket to the pytest outside.
        additions: returns the entries that the test added for the JUnit file.
    """

    def __init__(
        self, item: pytest.Item, channel: int, additions: Callable[[], dict[str, Any] | None]
    ) -> None:
        self.item: Any = item
        self.config = item.config
        self._channel = channel
        self._additions = additions
        self._warnings: list[warnings.WarningMessage] | None = None
        self._coverage: coverage.CopyMeasurement | None = None
        self._initial_requests = self._requests()
        self._shown_at_once = shares_terminal(self.config)
        self._pid = os.getpid()
        self._exit = os._exit

    def _requests(self) -> dict[str, Any]:
        """Return the session attributes by which a test can end the run."""
        session = self.item.session
        return {name: getattr(session, name) for name in ("shouldfail", "shouldstop")}

    def enter(self) -> None:
        """Detach this process from the state that belongs to the caller."""
        fork.forget_callers_state()
        # Empty the descriptor only: reading pytest's sys.stdin raises an error with the reason.
        fork.empty_input()
        if faulthandler.is_enabled():
            # Write the traceback of a crash to the captured standard error.
            faulthandler.enable(2)
        self._coverage = coverage.start_in_copy()
        if self.config.pluginmanager.has_plugin("warnings"):
            self._warnings = warnings.catch_warnings(record=True).__enter__()
        # The pytest outside tears down the fixtures that it set up.
        stack = self.item.session._setupstate.stack
        for node, (_, failure) in list(stack.items()):
            stack[node] = ([], failure)
        # Subtests log reports of their own.
        relays: list[Any] = [self.config.hook, self.item.ihook]
        for hooks in relays:
            hooks.pytest_runtest_logreport = self.send_report
        pdb.set_trace = sys.breakpointhook = _no_debugger
        os._exit = self._send_output_and_exit

    def send_report(self, report: pytest.TestReport, phase: str | None = None) -> None:
        """Send a report; ``phase`` is the phase that it ends, None for a report within a phase."""
        flush(self.config)
        message = {"report": encode(self.config, report)}
        if phase is not None:
            message["phase"] = phase
        self._send(message)
        if self._shown_at_once:
            os.read(self._channel, 1)

    def _send(self, message: dict[str, Any]) -> None:
        # A plugin may add any object to a report.
        data = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while data:
            data = data[os.write(self._channel, data) :]

    def send_end(self) -> None:
        """Send the results that are not part of a report, and the end of the messages."""
        rest: dict[str, Any] = {}
        if self._warnings:
            rest["warnings"] = packed_warnings(self._warnings)
        if self._coverage is not None:
            for measured in self._coverage.messages():
                self._send({"coverage": measured})
        if (additions := self._additions()) is not None:
            rest["junitxml"] = additions
        if (requests := self._requests()) != self._initial_requests:
            rest["session"] = requests
        self._send({**rest, "done": True})

    def failed(self, error: BaseException) -> None:
        """Send an exception that no report contains."""
        if isinstance(error, pytest.exit.Exception):
            self._send({"exit": [error.msg, error.returncode], "done": True})
        elif isinstance(error, KeyboardInterrupt):
            self._send({"interrupt": True, "done": True})
        else:
            self._send({"failed": "".join(traceback.format_exception(error)), "done": True})

    def end(self) -> NoReturn:
        """End this process as an interpreter does."""
        os._exit = self._exit
        code = 1
        try:
            worker.run_exit_functions()
            flush(self.config)
            code = 0
        except BaseException:  # noqa: BLE001 - the copy ends here in any case
            traceback.print_exc()
        finally:
            self._exit(code)

    def _send_output_and_exit(self, status: int) -> NoReturn:
        """Replace ``os._exit``: send the output captured in memory before this process exits."""
        # A process that the test forked must not send on the channel.
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self._send({"output": self._captured()})
        self._exit(status)

    def _captured(self) -> list[list[str]]:
        """Return the captured output, except that in files, which the pytest outside reads."""
        capturing: Any = self.config.pluginmanager.getplugin("capturemanager")
        if capturing is None:
            return []
        captured = []
        if capturing._capture_fixture is not None:
            captured.append(capturing._capture_fixture.readouterr())
        if self.config.getoption("capture", None) in ("sys", "tee-sys"):
            captured.append(capturing.read_global_capture())
        return [
            [stream, str(getattr(result, name))]
            for result in captured
            for stream, name in (("stdout", "out"), ("stderr", "err"))
        ]


def _no_debugger(*_: Any, **__: Any) -> NoReturn:
    pytest.fail(
        "a test in a container has no terminal for a debugger: leave out the marker minidocker, "
        "or give -p no:minidocker"
    )


def flush(config: pytest.Config) -> None:
    """Flush all buffers: a copy of them would be written twice, or never."""
    config.get_terminal_writer().flush()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # The stream may be None or closed, or its reader gone: then there is nothing to flush.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]
