"""Pseudo terminals for ``-t``.

The command's end is an ordinary terminal. The command has a session of its own and this is its
controlling terminal, so a shell inside has job control. With ``-i``, the caller's terminal is in
raw mode while the command runs: every key is passed on, and the command's terminal interprets it.
Only a write to the caller's output can block, and only if several processes fill it at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time

from minidocker._errors import device_error
from minidocker._run.session import StoppedSession
from minidocker.cli.parser import UsageError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CHUNK = 65536
# PIPE_BUF: a pipe that is ready accepts this many bytes without blocking.
_OUTPUT_CHUNK = 4096
_DEFAULT_SIZE = (24, 80)
# Seconds between checks whether the command read the end of file: short at first, then longer.
_FIRST_EOF_PAUSE, _LAST_EOF_PAUSE = 0.01, 1.0

# Positions in the list that termios.tcgetattr returns.
_LFLAG, _CC = 3, 6


class Hangup(Exception):
    """The reader of the caller's output has closed it."""


class InputTerminal:
    """The caller's terminal as the standard input of a command without a terminal of its own.

    A background job stops when it reads its terminal. The command cannot: it has a session of its
    own, and would take the input of the shell. This process therefore stops in the background, and
    the command's processes with it.

    Args:
        fd: the terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stopped: StoppedSession | None = None

    def await_foreground(self) -> None:
        """Stop, as a background job of a shell, until the shell continues it in the foreground.

        Nothing happens if the terminal is not this session's.

        Raises:
            OSError: the terminal was closed.
            UsageError: no shell can continue this process.
        """
        while not self._drain():
            pass

    def _drain(self) -> bool:
        """Return True in the foreground; in the background stop, and return False afterwards."""
        try:
            # In the background, the kernel sends SIGTTOU for each call that affects a terminal.
            # Beside that, this one only waits for pending output.
            termios.tcdrain(self._fd)
        except termios.error as error:
            if error.args[0] == errno.EINTR:
                return False
            if error.args[0] == errno.EIO and not _in_foreground(self._fd):
                raise UsageError(
                    "this process is in the background of its terminal, and no shell can bring it "
                    "to the foreground; leave out -i, or redirect standard input"
                ) from None
            raise _os_error(error) from None
        return True

    def stop(self, pid: int) -> None:
        """Stop a command and all its processes, some of which may ignore SIGTSTP."""
        if self._stopped is None:
            self._stopped = StoppedSession(pid)

    def may_continue(self, pid: int) -> bool:
        """Return whether the command may read the terminal; if not, stop it and this process.

        Raises:
            UsageError: no shell can continue this process.
        """
        if not _in_foreground(self._fd):
            self.stop(pid)
        try:
            return self._drain()
        except OSError:
            # The terminal was closed, so no input is left to take.
            return True

    def resume(self) -> None:
        """Continue the command's processes."""
        if self._stopped is not None:
            self._stopped.resume()
            self._stopped = None


def _os_error(error: termios.error) -> OSError:
    number, reason = error.args
    return OSError(number, f"cannot use the terminal on standard input: {reason}")


class Terminal:
    """A pseudo terminal between the caller's standard streams and a command.

    Args:
        interactive: whether the caller's standard input is passed on.

    Attributes:
        slave: the command's end. It stays open here until :meth:`finish`: a command may close it
            and open ``/dev/tty`` later.
        drained: whether all of the command's output was passed on.
    """

    def __init__(self, *, interactive: bool) -> None:
        self._caller = next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)
        self._master, self.slave = _open_terminal()
        self._input: int | None = 0 if interactive else None
        self._raw_fd = 0 if interactive and os.isatty(0) else None
        self._saved: list[Any] | None = None
        self._is_raw = False
        self._to_command = b""
        self._to_caller = b""
        # When to type end of file again; None while there is input.
        self._next_eof: float | None = None
        self._eof_pause = _FIRST_EOF_PAUSE
        self._slave_open = True
        self.drained = False
        #: Called with the signal that the command's terminal sent for a key.
        self.on_key: Callable[[int], None] | None = None
        os.set_blocking(self._master, False)
        try:
            if self._caller is not None:
                termios.tcsetattr(self.slave, termios.TCSANOW, termios.tcgetattr(self._caller))
            self.resize()
        except termios.error as error:
            self.close()
            raise _os_error(error) from None

    def resize(self) -> None:
        """Set the size of the command's terminal to that of the caller's."""
        if self._caller is None:
            size = struct.pack("HHHH", *_DEFAULT_SIZE, 0, 0)
        else:
            try:
                size = fcntl.ioctl(self._caller, termios.TIOCGWINSZ, bytes(8))
            except OSError:
                return  # EIO: its window was closed
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def enter(self) -> None:
        """Put the caller's terminal into raw mode, and read it from now on.

        The kernel stops a background process here (SIGTTOU). Call this again when the process is
        continued: the terminal has not changed, and the process may still be in the background.
        """
        if self._raw_fd is None:
            return
        self._is_raw = False
        try:
            attributes = termios.tcgetattr(self._raw_fd)
            termios.tcsetattr(self._raw_fd, termios.TCSANOW, _raw(attributes))
        except termios.error as error:
            # EIO: the window was closed, and SIGHUP follows.
            if error.args[0] in (errno.EINTR, errno.EIO):
                return
            raise _os_error(error) from None
        self._is_raw = True
        if self._saved is None:
            self._saved = attributes

    def leave(self) -> None:
        """Restore the caller's terminal, unless another process group is now in its foreground."""
        self._is_raw = False
        if self._raw_fd is None or self._saved is None:
            return
        saved, self._saved = self._saved, None
        if _in_foreground(self._raw_fd):
            # EIO: the window was closed. EINTR: another process group took the foreground just now.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._raw_fd, termios.TCSANOW, saved)

    def finish(self) -> None:
        """Close the command's end, so that the output ends after the buffered rest."""
        self._input = self._next_eof = None
        self._to_command = b""
        if self._slave_open:
            self._slave_open = False
            os.close(self.slave)

    def close(self) -> None:
        """Restore the caller's terminal and hang up the command's."""
        self.leave()
        self.finish()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def discard(self) -> None:
        """Discard all output that was not passed on yet."""
        self._to_caller = b""
        self.drained = True

    def timeout(self) -> float | None:
        """Return the seconds until :meth:`handle` is due without an event, None for never."""
        if not self._slave_open:
            # The rest can be read without waiting, once the caller took the pending output.
            return None if self._to_caller else 0.0
        if self._next_eof is None:
            return None
        return max(0.0, self._next_eof - time.monotonic())

    def foreground(self) -> int:
        """Return the process group in the foreground of the command's terminal, 0 for none."""
        try:
            return os.tcgetpgrp(self._master)
        except OSError:
            return 0

    def register(self, poll: select.poll) -> None:
        """Register the descriptors and events to wait for."""
        events = select.POLLOUT if self._to_command else 0
        if not self._to_caller and not self.drained:
            events |= select.POLLIN
        if events:
            poll.register(self._master, events)
        if self._to_caller:
            poll.register(1, select.POLLOUT)
        source = self._readable_input()
        if source is not None:
            poll.register(source, select.POLLIN)

    def handle(self, ready: dict[int, int]) -> None:
        """Pass on input and output as far as the descriptors are ready.

        Raises:
            Hangup: the reader of the caller's output has closed it.
        """
        if self._to_caller and 1 in ready:
            self._write_to_caller()
        source = self._readable_input()
        if source is not None and source in ready:
            self._read_from_caller(source)
        if self._next_eof is not None and not self._to_command and self.timeout() == 0.0:
            self._type_end_of_file()
        if self._to_command:
            self._write_to_command()
        if not self._to_caller and not self.drained:
            self._read_from_command()

    def _readable_input(self) -> int | None:
        """Return the descriptor to read input from, None if none is to be read now."""
        # The kernel would stop a background process that reads its terminal.
        if self._to_command or (self._raw_fd is not None and not self._is_raw):
            return None
        return self._input

    def _read_from_command(self) -> None:
        try:
            self._to_caller = os.read(self._master, _CHUNK)
        except BlockingIOError:
            # The kernel reports this only after all data written to the other end was read.
            self.drained = not self._slave_open
        except OSError:
            # EIO: every process has closed the other end, and all data was read.
            self.drained = True

    def _write_to_caller(self) -> None:
        try:
            written = os.write(1, self._to_caller[:_OUTPUT_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise Hangup from None
        except OSError as error:
            if error.errno == errno.EIO:
                raise Hangup from None
            raise
        self._to_caller = self._to_caller[written:]

    def _read_from_caller(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: the terminal was hung up
        if data:
            self._to_command = data
        else:
            self._input = None
            self._next_eof = time.monotonic()

    def _type_end_of_file(self) -> None:
        """Type the key for end of file if the command has read all input.

        A terminal has no end of file: the key ends only the current read (termios(3), VEOF), and it
        is lost when a shell changes the terminal's mode before it reads on. Typing the key again
        after each read gives every reader an end of file, as a file does.
        """
        self._next_eof = time.monotonic() + self._eof_pause
        self._eof_pause = min(2 * self._eof_pause, _LAST_EOF_PAUSE)
        unread = select.poll()
        unread.register(self.slave, select.POLLIN)
        if not unread.poll(0):
            key = termios.tcgetattr(self.slave)[_CC][termios.VEOF]
            assert isinstance(key, bytes)
            self._to_command = key

    def _write_to_command(self) -> None:
        try:
            written = os.write(self._master, self._to_command)
        except BlockingIOError:
            return
        except OSError:
            # EIO: no process has the other end open, so this input has no reader.
            self._to_command = b""
            return
        sent, self._to_command = self._to_command[:written], self._to_command[written:]
        if self.on_key is not None and self._slave_open:
            self._report_keys(sent, self.on_key)

    def _report_keys(self, sent: bytes, on_key: Callable[[int], None]) -> None:
        attributes = termios.tcgetattr(self.slave)
        if not attributes[_LFLAG] & termios.ISIG:
            return
        keys = attributes[_CC]
        for position, signum in ((termios.VINTR, signal.SIGINT), (termios.VQUIT, signal.SIGQUIT)):
            if keys[position] != b"\0" and keys[position] in sent:
                on_key(signum)


def _in_foreground(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return True  # ENOTTY: this session does not control it, so the kernel does not stop us


def _raw(attributes: list[Any]) -> list[Any]:
    """Return terminal attributes in raw mode, as cfmakeraw(3) and, since Python 3.12, tty do."""
    iflag, oflag, cflag, lflag, *speeds, control = attributes
    control = list(control)
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    control[termios.VMIN], control[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, *speeds, control]


def _open_terminal() -> tuple[int, int]:
    try:
        return os.openpty()
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.ENOENT):
            raise
        raise device_error(error.errno, "/dev/ptmx") from None
