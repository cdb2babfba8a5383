"""The copy of pytest that runs one test, inside the test's container."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pdb  # noqa: T100 - its set_trace is replaced
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from minidocker._functions import fork, worker
from minidocker._pytest import coverage
from minidocker._pytest.report import encode, packed_warnings, shares_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inside", "flush"]


class Inside:
    """Makes this process the copy, and sends what the test comes to.

    Args:
        item: the test.
        channel: the descriptor of a stream socket to the pytest outside.
        additions: tells what is new for the JUnit file.
    """

    def __init__(
        self, item: pytest.Item, channel: int, additions: Callable[[], dict[str, Any] | None]
    ) -> None:
        self.item: Any = item
        self.config = item.config
        self._channel = channel
        self._additions = additions
        self._warnings: list[warnings.WarningMessage] | None = None
        self._coverage: coverage.Measured | None = None
        self._session = self._requests()
        self._shown_at_once = shares_terminal(self.config)
        self._pid = os.getpid()
        self._exit = os._exit

    def _requests(self) -> dict[str, Any]:
        """What a test may ask of the run."""
        session = self.item.session
        return {name: getattr(session, name) for name in ("shouldfail", "shouldstop")}

    def enter(self) -> None:
        """Let go of what is the caller's."""
        fork.forget_the_callers()
        # pytest's own stand-in for sys.stdin says why it cannot be read.
        fork.empty_input()
        if faulthandler.is_enabled():
            # What it says about a crash goes to where it is captured.
            faulthandler.enable(2)
        self._coverage = coverage.collect_apart()
        if self.config.pluginmanager.has_plugin("warnings"):
            self._warnings = warnings.catch_warnings(record=True).__enter__()
        # What was set up outside is torn down there.
        stack = self.item.session._setupstate.stack
        for node, (_, failure) in list(stack.items()):
            stack[node] = ([], failure)
        # Subtests log reports of their own.
        relays: list[Any] = [self.config.hook, self.item.ihook]
        for hooks in relays:
            hooks.pytest_runtest_logreport = self.send_report
        pdb.set_trace = sys.breakpointhook = _no_debugger
        os._exit = self._exit_with_last_words

    def send_report(self, report: pytest.TestReport, phase: str | None = None) -> None:
        """Send a report; ``phase``: of which it is the end."""
        flush(self.config)
        message = {"report": encode(self.config, report)}
        if phase is not None:
            message["phase"] = phase
        self._send(message)
        if self._shown_at_once:
            os.read(self._channel, 1)

    def _send(self, message: dict[str, Any]) -> None:
        # What a report carries beside pytest's own may be anything.
        data = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while data:
            data = data[os.write(self._channel, data) :]

    def send_the_rest(self) -> None:
        """Send what else has to outlive the container."""
        rest: dict[str, Any] = {}
        if self._warnings:
            rest["warnings"] = packed_warnings(self._warnings)
        if self._coverage is not None:
            rest["coverage"] = self._coverage.packed()
        if (additions := self._additions()) is not None:
            rest["junitxml"] = additions
        if (requests := self._requests()) != self._session:
            rest["session"] = requests
        self._send({**rest, "done": True})

    def failed(self, error: BaseException) -> None:
        """Send an exception that no hook made a report of."""
        if isinstance(error, pytest.exit.Exception):
            self._send({"exit": [error.msg, error.returncode], "done": True})
        elif isinstance(error, KeyboardInterrupt):
            self._send({"interrupt": True, "done": True})
        else:
            self._send({"failed": "".join(traceback.format_exception(error)), "done": True})

    def end(self) -> NoReturn:
        """End this process, as an interpreter does."""
        os._exit = self._exit
        code = 1
        try:
            worker.leave()
            flush(self.config)
            code = 0
        except BaseException:  # noqa: BLE001 - the copy ends here, whatever it is
            traceback.print_exc()
        finally:
            self._exit(code)

    def _exit_with_last_words(self, status: int) -> NoReturn:
        """What a test finds as ``os._exit``: what is captured in memory would be lost."""
        # A process that the test forked has nothing to say here.
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self._send({"output": self._captured()})
        self._exit(status)

    def _captured(self) -> list[list[str]]:
        """What has been captured, but for what files capture that are read outside."""
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
        "a test in a container has no terminal to debug it at: leave out the marker minidocker, "
        "or give -p no:minidocker"
    )


def flush(config: pytest.Config) -> None:
    """Write what is in buffers: in a copy of them it would be written twice, or never."""
    config.get_terminal_writer().flush()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # None, closed, or gone: what cannot be flushed was nobody's to read.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]
