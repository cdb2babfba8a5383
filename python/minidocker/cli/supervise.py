"""Supervision of a command: forwards signals, enforces the timeout and serves the terminal.

One loop waits for all events: the end of the command (a pidfd), signals (the wake-up descriptor of
:mod:`signal`), the terminal and the timeout.
"""

from __future__ import annotations

import math
import os
import select
import signal
import stat
import time

from minidocker.cli.errors import complain

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    import subprocess
    from types import FrameType
    from typing import Self

    from minidocker.cli.terminal import Terminal

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

_HANGUP_PAUSE = 0.5
"""Seconds between two SIGHUPs to a shell that is still alive after SIGTERM."""
# As in docker, the third SIGINT or SIGTERM kills the command.
_PATIENCE = 3
# The number of times to check a blocked signal, and the seconds between two checks.
_BLOCKED_CHECKS, _BLOCKED_PAUSE = 10, 0.001
# Seconds between the hangup of its terminal and the SIGKILL to the command.
_HANGUP_GRACE = 2.0


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
        new_pid_namespace: bool = False,
        is_pid_1: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._process = process
        self._signals = signals
        self._terminal = terminal
        self._new_pid_namespace = new_pid_namespace
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._asked = 0
        self._ended = False
        self._hung_up = False
        self._hang_up_again: float | None = None
        # The kernel sends no SIGPIPE to PID 1, so a shell loop would run forever after its reader
        # closed the pipe. The supervisor sends the signal instead.
        self._watches_reader = is_pid_1 and terminal is None and _is_pipe(1)
        if terminal is not None and is_pid_1:
            terminal.on_key = self._signal_pid_1

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
        terminal = self._terminal
        while not (self._ended and (terminal is None or terminal.drained)):
            poll = select.poll()
            poll.register(self._signals, select.POLLIN)
            if not self._ended:
                poll.register(pidfd, select.POLLIN)
            if self._watches_reader:
                poll.register(1, 0)
            if terminal is not None:
                terminal.register(poll)
            ready = dict(poll.poll(self._milliseconds_left()))
            for signum in self._signals.take():
                self._signal(signum)
            if terminal is not None:
                self._serve(terminal, ready)
            if pidfd in ready and not self._ended:
                self._ended = True
                if terminal is not None:
                    terminal.finish()
            elif self._watches_reader and 1 in ready:
                self._watches_reader = False
                self._send(signal.SIGPIPE)
            elif self._deadline is not None and time.monotonic() >= self._deadline:
                self._give_up()
            elif self._hang_up_again is not None and time.monotonic() >= self._hang_up_again:
                self._hang_up()

    def _milliseconds_left(self) -> float | None:
        seconds = [] if self._terminal is None else [self._terminal.timeout()]
        if not self._ended:
            moments = (self._deadline, self._hang_up_again)
            now = time.monotonic()
            seconds.extend(max(0.0, moment - now) for moment in moments if moment is not None)
        due = [second for second in seconds if second is not None]
        # Round up, or the loop would spin during the last fraction of a millisecond.
        return math.ceil(min(due) * 1000) if due else None

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

    def _give_up(self) -> None:
        """Kill the command at the deadline, unless it has ended."""
        self._deadline = None
        if self._ended:
            return
        if not self._hung_up:
            complain(f"killed after {self._timeout:g} s (--timeout)")
        self._kill()

    def _signal(self, signum: int) -> None:
        if signum == signal.SIGWINCH:
            if self._terminal is not None:
                self._terminal.resize()
        elif signum == signal.SIGTSTP:
            self._stop()
        elif signum == signal.SIGCONT:
            self._continue()
        elif self._ended:
            # Only output is left, and the user does not want to wait until it is read.
            if self._terminal is not None and signum in (*_ENDING, signal.SIGHUP, signal.SIGQUIT):
                self._terminal.discard()
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
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        # SIGTSTP does not stop an orphaned process group, so no SIGCONT follows.
        self._continue()

    def _continue(self) -> None:
        if self._terminal is not None and not self._ended:
            self._terminal.resize()
            self._terminal.enter()
        self._send(signal.SIGCONT)

    def _signal_pid_1(self, signum: int) -> None:
        r"""Send the signal of Ctrl-C or Ctrl-\ to a command that is PID 1.

        The terminal has already sent it, but the kernel drops a signal that PID 1 does not handle.
        """
        pid = self._process.pid
        if self._terminal is None or self._terminal.foreground() != pid:
            return
        from minidocker._inspect import proc

        for _ in range(_BLOCKED_CHECKS):
            try:
                fields = proc.status(pid)
            except ProcessLookupError:
                return
            caught, ignored, blocked = (
                int(fields[name], 16) >> (signum - 1) & 1 for name in ("SigCgt", "SigIgn", "SigBlk")
            )
            if caught or ignored:
                return
            if not blocked:
                self._send(signum)
                return
            # A shell blocks all signals for a moment, and the kernel may have dropped this one; a
            # program with a signalfd blocks it permanently, and will read it.
            time.sleep(_BLOCKED_PAUSE)

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


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
