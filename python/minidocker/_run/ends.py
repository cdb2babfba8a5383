"""Waits for the end of a process by a descriptor of it."""

from __future__ import annotations

import errno
import select
import subprocess
import time

from minidocker._fd import close, pidfd_open
from minidocker._unpatched import Poll

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["await_end"]

_POLL_SLICE = 100
"""Milliseconds of one poll(2). A signal that arrives right before the call does not interrupt it,
and Python runs the handler only after the call."""

_REAPING = 0.25
"""The time limit, in seconds, for another thread to reap a process that has ended."""

_NO_PIDFD = {
    errno.ESRCH, errno.EINVAL, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENOMEM,
    errno.ENOSYS, errno.EPERM, errno.EACCES,
}  # fmt: skip
"""The errors of pidfd_open(2), and those of a seccomp filter on this process."""


def await_end(process: subprocess.Popen[Any], timeout: float) -> float:
    """Wait until a process has ended; return the seconds left for reaping it.

    Raises:
        subprocess.TimeoutExpired: the timeout, in seconds, expired.
    """
    try:
        pidfd = pidfd_open(process.pid)
    except OSError as error:
        # The process is already reaped, or no descriptor is available: subprocess waits without
        # one. Any other exception comes from a signal handler.
        if error.errno not in _NO_PIDFD:
            raise
        return timeout
    deadline = time.monotonic() + timeout
    try:
        poll = Poll()
        poll.register(pidfd, select.POLLIN)
        remaining = timeout
        while not poll.poll(min(remaining * 1000, _POLL_SLICE)):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        close(pidfd)
    # Another thread may be reaping it.
    return max(deadline - time.monotonic(), _REAPING)
