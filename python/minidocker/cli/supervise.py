"""Supervision of a command: forwards signals, enforces the timeout and serves the terminal.

One loop waits for all events: the end of the command (a pidfd), signals (the wake-up descriptor of
:mod:`signal`), the terminal and the timeout.
"""

from __future__ import annotations

import os
import select
import signal
import time

from minidocker._run import timeouts
from minidocker.cli.errors import complain

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence
    from types import FrameType
    from typing import Self

    from minidocker.cli.relay import Relay
    from minidocker.cli.terminal import InputTerminal, Terminal

# Signals that are not forwarded. SIGKILL and SIGSTOP cannot be caught. The kernel sends SIGSEGV to
# SIGSYS for a fault of this process, SIGCHLD and SIGURG for its children and sockets, and SIGXCPU
# and SIGXFSZ for its limits. The interpreter ignores SIGPIPE. SIGTTIN and SIGTTOU must stop this
# process when it is a background job. SIGWINCH is forwarded in another way: the supervisor resizes
# the command's terminal, which sends one.
_KEPT = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGURG,
    signal.SIGXCPU,
    signal.SIGXFSZ,
}
_ENDING = (signal.SIGINT, signal.SIGTERM)
_CONTINUED = bytes([signal.SIGCONT])
_HANGING_UP = (*_ENDING, signal.SIGHUP, signal.SIGQUIT)

_HANGUP_PAUSE = 0.5
"""Seconds between two SIGHUPs to a shell that is still alive after SIGTERM."""
# As in docker, the third SIGINT or SIGTERM kills the command.
_PATIENCE = 3
# The number of times to check a blocked signal, and the seconds between two checks.
_BLOCKED_CHECKS, _BLOCKED_PAUSE = 10, 0.001
# Seconds between the hangup of its terminal and the SIGKILL to the command.
_HANGUP_GRACE = 2.0
# Seconds after --timeout in which the readers may take what the command has written.
_READER_GRACE = 2.0


class Signals:
    """Signals to this process, from before the command starts until it has ended.

    Signals are collected, and a descriptor becomes readable when one arrives. A signal that was
    ignored when minidocker started (``nohup``, a job of a script) stays ignored. No signal can be
    forwarded before the command has started, so a second SIGINT or SIGTERM then raises
    :exc:`KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[int, object] = {}
        self._old_wakeup = -1
        self._early = 0
        self.started = False

    def __enter__(self) -> Self:
        self._old_wakeup = signal.set_wakeup_fd(self._sender, warn_on_full_buffer=False)
        for signum in signal.valid_signals() - _KEPT:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._receiver)
        os.close(self._sender)

    def _handle(self, signum: int, _frame: FrameType | None) -> None:
        if not self.started and signum in _ENDING:
            self._early += 1
            if self._early > 1:
                raise KeyboardInterrupt

    def fileno(self) -> int:
        """Return a descriptor that is readable after a signal has arrived."""
        return self._receiver

    def take(self) -> bytes:
        """Return the numbers of the signals that arrived since the last call."""
        try:
            return os.read(self._receiver, 4096)
        except BlockingIOError:
            return b""


class Supervisor:
    """The supervisor of one command.

    Args:
        process: the command.
        signals: a context that was entered before the command started.
        terminal: the command's terminal, if it has one.
        input_terminal: the caller's terminal, if the command reads that one.
        relays: the pipes between a command that is PID 1 and the readers of its output.
        new_pid_namespace: whether the container ends with ``process``. If so, signals go to this
            process alone, as in docker; otherwise to its process group, as a terminal sends them.
        is_pid_1: whether the command itself is PID 1 of a new PID namespace. The kernel drops
            signals to PID 1 for which it has no handler.
        timeout: seconds after which the command is killed.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        signals: Signals,
        *,
        terminal: Terminal | None = None,
        input_terminal: InputTerminal | None = None,
        relays: Sequence[Relay] = (),
        new_pid_namespace: bool = False,
        is_pid_1: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._process = process
        self._signals = signals
        self._terminal = terminal
        self._input_terminal = input_terminal
        self._relays = relays
        self._outputs: list[Relay | Terminal] = (
            [*relays] if terminal is None else [*relays, terminal]
        )
        self._new_pid_namespace = new_pid_namespace
        self._deadline = timeouts.deadline_after(timeout)
        self._timeout = timeout
        self._asked = 0
        self._ended = False
        self._hung_up = False
        self._hang_up_again: float | None = None
        if terminal is not None and is_pid_1:
            terminal.on_key = self._key

    def wait(self) -> int:
        """Wait for the end of the command and of its output, and return its return code.

        Any exception kills the command.
        """
        pidfd = os.pidfd_open(self._process.pid)
        try:
            if self._terminal is not None:
                self._terminal.enter()
            self._loop(pidfd)
        except BaseException:
            self._kill()
            raise
        finally:
            os.close(pidfd)
            if self._terminal is not None:
                self._terminal.leave()
            # The command has ended or was killed, so this wait is short.
            returncode = self._process.wait()
        return returncode

    def _loop(self, pidfd: int) -> None:
        while not (self._ended and all(output.drained for output in self._outputs)):
            poll = select.poll()
            poll.register(self._signals, select.POLLIN)
            if not self._ended:
                poll.register(pidfd, select.POLLIN)
            for output in self._outputs:
                output.register(poll)
            ready = dict(poll.poll(self._milliseconds_left()))
            if pidfd in ready:
                # Before the signals: one that arrives now is not for the command.
                self._ended = True
                for output in self._outputs:
                    output.finish()
            self._serve_signals(self._signals.take())
            if self._terminal is not None:
                self._serve(self._terminal, ready)
            for relay in self._relays:
                self._pass_on(relay, ready)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._give_up()
            elif self._hang_up_again is not None and time.monotonic() >= self._hang_up_again:
                self._hang_up()

    def _milliseconds_left(self) -> int | None:
        """Return the argument of poll(2): the time until something is due."""
        now = time.monotonic()
        moments = [self._deadline, None if self._ended else self._hang_up_again]
        for output in self._outputs:
            seconds = output.timeout()
            moments.append(None if seconds is None else now + seconds)
        due = [moment for moment in moments if moment is not None]
        return timeouts.milliseconds_until(min(due, default=None))

    def _serve(self, terminal: Terminal, ready: dict[int, int]) -> None:
        from minidocker.cli.terminal import Hangup

        try:
            terminal.handle(ready)
        except Hangup:
            # A terminal window sends the same signals when it is closed.
            terminal.discard()
            self._hung_up = True
            self._deadline = time.monotonic() + _HANGUP_GRACE
            self._send(signal.SIGHUP)
            self._send(signal.SIGCONT)

    def _pass_on(self, relay: Relay, ready: dict[int, int]) -> None:
        try:
            relay.handle(ready)
        except BrokenPipeError:
            if self._is_dropped(signal.SIGPIPE):
                relay.discard()
                self._send(signal.SIGPIPE)
            else:
                # The command decides: it gets the error, and the signal if it handles it.
                relay.refuse()

    def _give_up(self) -> None:
        """Kill the command at the deadline; if it has ended, discard its unread output."""
        if self._ended:
            self._deadline = None
            if not self._hung_up:
                complain("the rest of the output is discarded: it was not read in time (--timeout)")
            for output in self._outputs:
                output.discard()
            return
        if not self._hung_up:
            complain(f"killed after {self._timeout:g} s (--timeout)")
        self._deadline = time.monotonic() + _READER_GRACE
        self._kill()

    def _serve_signals(self, arrived: bytes) -> None:
        # A shell ends a stopped job by a signal and SIGCONT. In the background, the use of the
        # terminal would stop this process again.
        ends = any(signum in arrived for signum in _HANGING_UP)
        for signum in arrived:
            if signum == signal.SIGCONT:
                self._continue(ends=ends)
            else:
                self._signal(signum)

    def _signal(self, signum: int) -> None:
        if signum == signal.SIGWINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif signum == signal.SIGTSTP:
            self._stop()
        elif self._ended:
            # Only output is left, and the user does not want to wait until it is read.
            if signum in _HANGING_UP:
                for output in self._outputs:
                    output.discard()
        else:
            self._asked += signum in _ENDING
            if self._asked >= _PATIENCE:
                self._kill()
                return
            self._send(signum)
            if self._terminal is not None and signum == signal.SIGTERM:
                # An interactive shell ignores SIGTERM; only the hangup of its terminal ends it.
                self._hang_up()

    def _hang_up(self) -> None:
        """Send the signals of a terminal's hangup, and schedule them again.

        A shell that is about to wait for a key records the first SIGHUP and still waits.
        """
        self._send(signal.SIGHUP)
        self._send(signal.SIGCONT)
        self._hang_up_again = time.monotonic() + _HANGUP_PAUSE

    def _stop(self) -> None:
        """Stop the command and this process, as one job of a shell; continue both afterwards."""
        self._send(signal.SIGTSTP)
        if self._terminal is not None:
            self._terminal.leave()
        if self._input_terminal is not None and not self._ended:
            self._input_terminal.stop(self._process.pid)
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        arrived = self._signals.take()
        # SIGTSTP does not stop an orphaned process group, so no SIGCONT follows.
        self._serve_signals(arrived if signal.SIGCONT in arrived else arrived + _CONTINUED)

    def _continue(self, *, ends: bool) -> None:
        if self._terminal is not None and not self._ended and not ends:
            self._terminal.resize()
            self._terminal.enter()
        if self._input_terminal is not None:
            may_end = self._ended or ends
            if not may_end and not self._input_terminal.may_continue(self._process.pid):
                # Another SIGCONT has ended this stop, and is served next.
                return
            self._input_terminal.resume()
        self._send(signal.SIGCONT)

    def _key(self, signum: int) -> None:
        r"""Send the signal of Ctrl-C or Ctrl-\ to a command that is PID 1.

        The terminal has sent it already, and the kernel may have dropped it.
        """
        in_foreground = self._terminal and self._terminal.foreground() == self._process.pid
        if in_foreground and self._is_dropped(signum):
            self._send(signum)

    def _is_dropped(self, signum: int) -> bool:
        """Return whether the kernel drops a signal to a command that is PID 1.

        It drops one that PID 1 does not handle.
        """
        from minidocker._inspect import proc

        for _ in range(_BLOCKED_CHECKS):
            try:
                fields = proc.status(self._process.pid)
            except ProcessLookupError:
                return False
            caught, ignored, blocked = (
                int(fields[name], 16) >> (signum - 1) & 1 for name in ("SigCgt", "SigIgn", "SigBlk")
            )
            if caught or ignored:
                return False
            if not blocked:
                return True
            # A shell blocks all signals for a moment, and the kernel may have dropped this one; a
            # program with a signalfd blocks it permanently, and will read it.
            time.sleep(_BLOCKED_PAUSE)
        return False

    def _send(self, signum: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self._ended:
            return
        try:
            if self._new_pid_namespace:
                self._process.send_signal(signum)
            else:
                os.killpg(self._process.pid, signum)
        except ProcessLookupError:
            return
        except PermissionError as error:
            complain(
                f"signal {signum} could not be forwarded to process {self._process.pid}: {error}"
            )

    def _kill(self) -> None:
        self._process.kill()
        self._send(signal.SIGKILL)
