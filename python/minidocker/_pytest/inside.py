"""The copy of pytest that runs one test, inside the test's container."""

from __future__ import annotations

import contextlib
import faulthandler
import json.encoder
import os
import pdb  # noqa: T100 - only to replace its set_trace
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import pytest
from _pytest.runner import call_and_report

from minidocker._functions import fork, worker
from minidocker._pytest import plugins
from minidocker._pytest.files import make_basetemp
from minidocker._pytest.kept import Kept
from minidocker._pytest.results import (
    CLOSED,
    LARGEST_MESSAGE,
    encode,
    packed_warnings,
    shares_terminal,
)
from minidocker._pytest.shared import keep_shared

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inside", "flush"]


class Inside:
    """The copy's side of a contained test: runs the phases, and sends their results.

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
        self._channel = _Channel(channel)
        self._additions = additions
        self._warnings: list[warnings.WarningMessage] | None = None
        self._pack_plugins: Callable[[], dict[str, Any]] = dict
        self._initial_requests = self._requests()
        self._shown_at_once = shares_terminal(self.config)
        self._call: pytest.CallInfo[None] | None = None

    def _requests(self) -> dict[str, Any]:
        """Return the session attributes by which a test can end the run."""
        session = self.item.session
        return {name: getattr(session, name) for name in ("shouldfail", "shouldstop")}

    def enter(self) -> None:
        """Detach this process from the state that belongs to the caller."""
        fork.forget_callers_state()
        # Empty the descriptor only: reading pytest's sys.stdin raises an error with the reason.
        null = Kept.open(os.devnull, os.O_RDWR)
        for descriptor in (0, *_descriptors_of_worker(self.config)):
            Kept.dup2(null, descriptor)
        Kept.close(null)
        if faulthandler.is_enabled():
            # Write the traceback of a crash to the captured standard error.
            faulthandler.enable(2)
        self._pack_plugins = plugins.start_in_copy(self.item)
        if self.config.pluginmanager.has_plugin("warnings"):
            self._warnings = warnings.catch_warnings(record=True).__enter__()
        keep_shared(self.item.session)
        make_basetemp(self.config)
        # Subtests log reports of their own.
        relays: list[Any] = [self.config.hook, self.item.ihook]
        for hooks in relays:
            hooks.pytest_runtest_logreport = self._send_subtest
        pdb.set_trace = sys.breakpointhook = _no_debugger
        os._exit = self._send_output_and_exit

    def end_forked_process(self) -> None:
        """End a process that the test forked and that returns into pytest."""
        self._channel.end_other_process()

    def made(self, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Take a report that pytest has made. After that of the setup, run the other phases.

        The copy must not return from the setup to the frames of its caller, which are those of
        another plugin, perhaps, and would run the test again or log its report.
        """
        if call.when == "setup":
            try:
                self._send_phase("setup", call, report)
                self._run_phases()
            except BaseException as error:  # noqa: BLE001 - the copy ends here in any case
                self.fail(error)
            self.end()
        self._call = call

    def _run_phases(self) -> None:
        """Run the phases that the pytest outside asks for."""
        while (phase := self._channel.read_request()) is not None:
            more = {"nextitem": None} if phase == "teardown" else {}
            report = call_and_report(self.item, phase, log=False, **more)
            assert self._call is not None
            self._send_phase(phase, self._call, report)
            if phase == "teardown":
                return

    def _send_phase(
        self, phase: str, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        flush(self.config)
        raised = None
        if call.excinfo is not None:
            kind = call.excinfo.type
            raised = [str(kind.__module__), str(kind.__qualname__), _text(call.excinfo.value)]
        message = {"phase": phase, "report": encode(self.config, report), "raised": raised}
        if (additions := self._additions()) is not None:
            message["junitxml"] = additions
        requests = self._requests()
        changed = {
            name: value if isinstance(value, str) else bool(value)
            for name, value in requests.items()
            if value != self._initial_requests[name]
        }
        if changed:
            message["session"] = changed
        if phase == "teardown":
            if self._warnings:
                message["warnings"] = packed_warnings(self._warnings)
            message["plugins"] = self._pack_plugins()
        self._channel.send(message)

    def _send_subtest(self, report: pytest.TestReport) -> None:
        """Replace the hook ``pytest_runtest_logreport``."""
        flush(self.config)
        self._channel.send({"subtest": encode(self.config, report)})
        if self._shown_at_once:
            self._channel.read()

    def fail(self, error: BaseException) -> None:
        """Send an exception that no report contains."""
        if isinstance(error, pytest.exit.Exception):
            self._channel.send({"exit": [str(error.msg), error.returncode]})
        elif isinstance(error, KeyboardInterrupt):
            self._channel.send({"interrupt": True})
        else:
            self._channel.send({"failed": "".join(traceback.format_exception(error))})

    def end(self) -> NoReturn:
        """End this process as an interpreter does."""
        os._exit = Kept.exit_process
        code = 1
        try:
            worker.run_exit_functions()
            flush(self.config)
            code = 0
        except BaseException:  # noqa: BLE001 - the copy ends here in any case
            traceback.print_exc()
        finally:
            Kept.exit_process(code)

    def _send_output_and_exit(self, status: int) -> NoReturn:
        """Replace ``os._exit``: send the output captured in memory before this process exits."""
        try:
            if self._channel.is_ours():
                self._channel.send({"output": self._captured()})
        finally:
            Kept.exit_process(status)

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


class _Channel:
    """The channel to the pytest outside, which works while a test has replaced other functions.

    A test may also close the descriptor, or replace its file. Then nothing can be sent, and the
    process ends: the pytest outside reports a failure.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._file = self._identity()
        self._pid = Kept.getpid()
        # `json.dumps` is not used, because a test may replace it, or a class that it uses.
        markers: dict[int, Any] = {}
        self._encode: Any = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
            markers, str, Kept.quote, None, ":", ",", False, False, False
        )

    def _identity(self) -> tuple[int, int]:
        status = Kept.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def is_ours(self) -> bool:
        """Return whether this process may send: it is the test's own, and has the channel."""
        try:
            return Kept.getpid() == self._pid and self._identity() == self._file
        except OSError:
            return False

    def end_other_process(self) -> None:
        """End this process if it is not the one that has this channel."""
        if Kept.getpid() != self._pid:
            Kept.exit_process(CLOSED)

    def _check(self) -> None:
        if not self.is_ours():
            Kept.exit_process(CLOSED)
        Kept.set_blocking(self._descriptor, True)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self._check()
        text = "".join((*self._encode(message, 0), "\n"))
        if len(text) > LARGEST_MESSAGE:
            reason = f"the report has {len(text)} bytes, and may have {LARGEST_MESSAGE}"
            text = "".join((*self._encode({"failed": reason}, 0), "\n"))
        data = memoryview(text.encode())
        while data:
            data = data[Kept.write(self._descriptor, data) :]

    def read(self) -> bytes:
        """Wait for one byte, and return it."""
        self._check()
        return Kept.read(self._descriptor, 1)

    def read_request(self) -> Literal["call", "teardown"] | None:
        """Return the next phase to run, or None if the pytest outside has closed the channel."""
        letter = self.read()
        if letter == b"c":
            return "call"
        return "teardown" if letter == b"t" else None


def _descriptors_of_worker(config: Any) -> list[int]:
    """Return the descriptors by which a worker of pytest-xdist reports the results of all tests."""
    if not hasattr(config, "workerinput"):
        return []
    channels = [getattr(plugin, "channel", None) for plugin in config.pluginmanager.get_plugins()]
    connections = [channel.gateway._io for channel in channels if channel is not None]
    return [
        getattr(connection, name).fileno()
        for connection in connections
        for name in ("infile", "outfile", "sock")
        if hasattr(connection, name)
    ]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise anything
        return f"<{type(error).__qualname__} whose str() raises>"


def _no_debugger(*_: Any, **__: Any) -> NoReturn:
    pytest.fail(
        "a test in a container has no terminal for a debugger: leave out the marker minidocker, "
        "or give -p no:minidocker"
    )


def flush(config: pytest.Config) -> None:
    """Flush all buffers: a copy of them would be written twice, or never."""
    if config.pluginmanager.has_plugin("terminalreporter"):
        config.get_terminal_writer().flush()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # The stream may be None or closed, or its reader gone: then there is nothing to flush.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]
