"""Run the command line as users do: as a process, or as a job at a terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

CLI = (sys.executable, "-m", "minidocker")
TIMEOUT = 60.0

#: A command that prints "ready" and then waits, with no signal handlers. A shell that executes
#: sleep would not do: as PID 1 it loses a signal that arrives before the exec.
READY_THEN_SLEEP = (
    *(sys.executable, "-I", "-S", "-c"),
    (
        "import signal as s, time; s.signal(s.SIGINT, s.SIG_DFL);"
        "print('ready', flush=True); time.sleep(100)"
    ),
)


def captured(command: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run a command to its end and capture its output as text; `options` are subprocess.run's."""
    options = {"capture_output": True, "text": True, "timeout": TIMEOUT, "check": False, **options}
    return subprocess.run(command, **options)  # noqa: PLW1510 - it is among the options


def cli(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run a command line to its end, as `captured` does."""
    return captured([*CLI, *arguments], **options)


def start(*arguments: str, **options: Any) -> "subprocess.Popen[Any]":
    """Start a command line; `options` are subprocess.Popen's."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([*CLI, *arguments], **options)


class Window:
    """A terminal window: a pseudo terminal, and a program that leads its session.

    When the program has ended, `status` is its exit status (128+n for a signal).
    """

    def __init__(self, program: Sequence[str], *, rows: int = 24, columns: int = 80) -> None:
        self.seen = b""
        self.status: int | None = None
        master, slave = pty.openpty()
        self.master = master
        # An open slave keeps the terminal's attributes readable after the program has exited.
        self.slave = slave
        self.resize(rows, columns)
        self.attributes_before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            # The program needs a controlling terminal, and only a session leader can take one.
            [sys.executable, "-c", _TAKE_TERMINAL, *program],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", "PS1": "outer$ "},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the kernel sends SIGWINCH to the foreground group."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str | bytes) -> None:
        """Type keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def expect(self, pattern: str, timeout: float = TIMEOUT) -> "re.Match[bytes]":
        """Wait until the output matches `pattern`, and consume it up to the end of the match."""
        wanted = re.compile(pattern.encode(), re.DOTALL)
        deadline = time.monotonic() + timeout
        while True:
            found = wanted.search(self.seen)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            if not self._read(deadline):
                raise AssertionError(f"no {pattern!r} in {timeout} s, but {self.seen!r}")

    def _read(self, deadline: float) -> bool:
        remaining = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([self.master], [], [], remaining)
        if ready:
            self.seen += os.read(self.master, 65536)
        return bool(ready)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait for the program to end, reading its output, and return its exit status."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {timeout} s, with {self.seen!r}")
            self._read(time.monotonic() + 0.02)
        while self._read(0.0):
            pass
        status = self.process.returncode
        self.status = 128 - status if status < 0 else status
        return self.status

    @property
    def attributes(self) -> list[Any]:
        """The attributes of the terminal, as termios.tcgetattr returns them."""
        return termios.tcgetattr(self.slave)

    @property
    def is_raw(self) -> bool:
        """Whether the terminal passes keys on one by one and unchanged."""
        return not self.attributes[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
