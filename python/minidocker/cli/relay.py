"""Pipes between a command that is PID 1 and the readers of its output.

A process that writes to a pipe without a reader gets SIGPIPE, which ends it. The kernel does not
send that signal to PID 1 unless it handles it (pid_namespaces(7)): ``yes`` would print an error and
exit with status 1, and a shell's loop would run for ever. A command that is PID 1 therefore writes
to a pipe of minidocker's own. When the reader of the caller's pipe has gone, the supervisor sends
the signal before a write of the command can fail.
"""

from __future__ import annotations

import errno
import os
import select
import stat

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 20
_NO_SPLICE = (errno.ENOSYS, errno.EPERM, errno.EINVAL)
"""The errors of splice(2) under a filter, and in kernels that cannot splice these descriptors."""


class Relay:
    """A pipe whose contents are passed on to a pipe of the caller.

    Args:
        target: the descriptor of the caller's pipe.

    Attributes:
        writer: the command's end, to be closed after the command has started.
        drained: whether nothing is left to pass on.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._source, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._source, False)
        self._full = False
        self._finished = False
        self._splices = True
        self.drained = False

    def started(self) -> None:
        """Close the command's end here: the pipe ends with the command."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def finish(self) -> None:
        """Pass on what the pipe still holds, whether or not a process has the other end open."""
        self._finished = True

    def discard(self) -> None:
        """Pass nothing more on."""
        self.drained = True

    def refuse(self) -> None:
        """Close the pipe: from now on, the command's writes fail with EPIPE."""
        self.discard()
        if self._source >= 0:
            os.close(self._source)
            self._source = -1

    def close(self) -> None:
        """Close both ends."""
        self.started()
        self.refuse()

    def timeout(self) -> float | None:
        """Return the seconds until :meth:`handle` is due without an event, None for never."""
        return 0.0 if self._finished and not self._full and not self.drained else None

    def register(self, poll: select.poll) -> None:
        """Register the descriptor and event to wait for."""
        if self.drained:
            return
        if self._full:
            poll.register(self._target, select.POLLOUT)
        else:
            poll.register(self._source, select.POLLIN)

    def handle(self, ready: dict[int, int]) -> None:
        """Pass on as much as the caller's pipe accepts.

        Raises:
            BrokenPipeError: the reader has gone, and there is something to pass on.
        """
        waited_for = self._target if self._full else self._source
        if self.drained or (waited_for not in ready and self.timeout() is None):
            return
        try:
            self._full = False
            self.drained = self._move() == 0
        except BlockingIOError:
            self._full = _is_ready(self._source, select.POLLIN)
            # Without a byte in it, the pipe of a command that has ended is empty for good.
            self.drained = self._finished and not self._full

    def _move(self) -> int:
        """Move bytes and return their number, 0 at the end of the pipe."""
        if self._splices:
            try:
                return os.splice(self._source, self._target, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
                self._splices = False
        # A pipe that is ready accepts PIPE_BUF bytes without blocking.
        if not _is_ready(self._target, select.POLLOUT):
            raise BlockingIOError
        return os.write(self._target, os.read(self._source, select.PIPE_BUF))


def _is_ready(fd: int, event: int) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def relays() -> dict[str, Relay]:
    """Return a relay for each standard stream that is a pipe, by its keyword of `Popen`.

    Standard output and standard error share one if they are the same pipe, so that what the command
    writes keeps its order.
    """
    found: dict[str, Relay] = {}
    by_file: dict[Any, Relay] = {}
    for fd, keyword in ((1, "stdout"), (2, "stderr")):
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode):
            file = (status.st_dev, status.st_ino)
            if file not in by_file:
                by_file[file] = Relay(fd)
            found[keyword] = by_file[file]
    return found
