"""Parts of the standard library as CPython has them, even after a library has replaced them.

gevent replaces `subprocess.Popen` by a class without the methods that this package overrides.
eventlet deletes `select.poll`. Test doubles do either. This module therefore takes fresh copies.

Both libraries run many green threads in one thread of the system. A `Poll` lets the others run
while one of them waits, and `communicate` of a `Popen` waits with one.
"""

from __future__ import annotations

import math
import os
import select
import subprocess
import sys
import time
from selectors import EVENT_READ, EVENT_WRITE
from types import BuiltinFunctionType, FunctionType, ModuleType, SimpleNamespace

from minidocker._errors import device_error
from minidocker._fd import close, empty_input

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import IO, Any, AnyStr, Self
else:
    AnyStr = str

__all__ = ["LONGEST_POLL", "LONGEST_TIMEOUT", "PlainPopen", "Poll", "has_green_threads"]

_PAUSES = (0.0005, 0.02)
"""Seconds between two looks at the descriptors for the sake of other green threads: the first pause
and the longest one."""

LONGEST_TIMEOUT = 100 * 365 * 86400.0
"""Seconds. A longer timeout is none, and would exceed the range of the kernel's times."""

LONGEST_POLL = 2**31 - 1
"""Milliseconds: poll(2) takes an int, which is 24.8 days. A loop waits for the rest."""


def _fresh(name: str) -> ModuleType:
    """Return another copy of a module, which no library has changed."""
    import importlib.util  # noqa: PLC0415 - only a changed module needs it

    spec = importlib.util.find_spec(name)
    assert spec is not None, "a module of the standard library"
    assert spec.loader is not None, "likewise"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _popen() -> type:
    own = getattr(subprocess.Popen.communicate, "__globals__", None)
    if hasattr(subprocess.Popen, "_try_wait") and own is vars(subprocess):
        return subprocess.Popen
    module = _fresh("subprocess")
    # Its exceptions are those that callers catch.
    for name in ("SubprocessError", "CalledProcessError", "TimeoutExpired"):
        setattr(module, name, getattr(subprocess, name))
    popen: type = module.Popen
    return popen


def _poll_function() -> type:
    own = getattr(select, "poll", None)
    module = select if isinstance(own, BuiltinFunctionType) else _fresh("select")
    poll: type = module.poll
    return poll


if TYPE_CHECKING:
    _Popen = subprocess.Popen
    _Poll = select.poll
else:
    _Popen = _popen()
    _Poll = _poll_function()


def has_green_threads() -> bool:
    """Return whether gevent or eventlet has replaced `time.sleep`."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("time"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and eventlet.is_monkey_patched("time")


class Poll:
    """A `select.poll` during whose wait other green threads run."""

    def __init__(self) -> None:
        self._poll = _Poll()
        self.register = self._poll.register
        self.modify = self._poll.modify
        self.unregister = self._poll.unregister

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        """Wait until a descriptor is ready, or until the time is up; None: no limit."""
        if not has_green_threads():
            return self._poll.poll(milliseconds)
        deadline = math.inf if milliseconds is None else time.monotonic() + milliseconds / 1000
        pause, longest = _PAUSES
        while not (ready := self._poll.poll(0)):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, longest)
        return ready


class _Selector:
    """A selector of `selectors`, as far as `subprocess` uses one."""

    def __init__(self) -> None:
        self._poll = Poll()
        self._keys: dict[int, SimpleNamespace] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.clear()

    def register(self, fileobj: IO[Any], events: int) -> None:
        fd = fileobj.fileno()
        self._keys[fd] = SimpleNamespace(fileobj=fileobj, fd=fd)
        self._poll.register(fd, select.POLLIN if events == EVENT_READ else select.POLLOUT)

    def unregister(self, fileobj: IO[Any]) -> None:
        fd = fileobj.fileno()
        del self._keys[fd]
        self._poll.unregister(fd)

    def get_map(self) -> dict[int, SimpleNamespace]:
        return self._keys

    def select(self, timeout: float | None) -> list[tuple[SimpleNamespace, int]]:
        # subprocess looks at its own clock, so an early return does no harm.
        milliseconds = None if timeout is None else min(max(timeout, 0.0) * 1000, LONGEST_POLL)
        ready = self._poll.poll(milliseconds)
        return [
            (self._keys[fd], EVENT_WRITE if event & select.POLLOUT else EVENT_READ)
            for fd, event in ready
        ]


class PlainPopen(_Popen[AnyStr]):
    """The `subprocess.Popen` of CPython, whose waits let other green threads run."""

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002 - the name that subprocess gives it
        if timeout is None and has_green_threads():
            # Without a timeout, subprocess reads a single pipe with a blocking read(2).
            timeout = LONGEST_TIMEOUT
        return super().communicate(input, timeout)

    def _communicate(self, *given: Any) -> Any:
        original: Any = _Popen._communicate  # type: ignore[attr-defined]
        if has_green_threads():
            names = {**original.__globals__, "_PopenSelector": _Selector}
            original = FunctionType(original.__code__, names)
        return original(self, *given)

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[int, ...]:
        original: Any = _Popen._get_handles  # type: ignore[attr-defined]
        try:
            handles: tuple[int, ...] = original(self, stdin, stdout, stderr)
        except OSError as error:
            if error.errno is None or error.filename != os.devnull:
                raise
            if subprocess.DEVNULL in (stdout, stderr):
                raise device_error(error.errno, os.devnull) from None
            # This is where subprocess keeps the descriptor for DEVNULL: here the standard input.
            self._devnull = empty_input()
            handles = original(self, stdin, stdout, stderr)
        return handles

    def _close_pipe_fds(self, *pipes: int) -> None:
        # At once: see minidocker._fd.close.
        null = getattr(self, "_devnull", -1)
        stdin, input_end, output_end, stdout, error_end, stderr = pipes
        pairs = ((stdin, input_end), (stdout, output_end), (stderr, error_end))
        for fd in {theirs for theirs, ours in pairs if ours >= 0} | {null}:
            if fd >= 0:
                close(fd)
        self._closed_child_pipe_fds = True
