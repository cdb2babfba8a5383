"""Descriptors of this process: all are close-on-exec, and above the three standard streams.

The caller may have closed a standard stream. The lowest free number is then 0, 1 or 2, where a
descriptor of this package would be taken for the stream: by the caller's own code, or by a command.
"""

from __future__ import annotations

import fcntl
import os

# gevent's os.close() closes a descriptor later, when another green thread runs.
from posix import close

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    import socket

__all__ = [
    "above_stdio", "available", "close", "empty_input", "pidfd_open", "pipe", "receive",
    "socket_pair",
]  # fmt: skip


def above_stdio(fd: int) -> int:
    """Return the descriptor, or a copy above 2 in its place if it is 0, 1 or 2."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        close(fd)


def available(fd: int) -> int:
    """Return how many bytes a pipe or a stream socket holds for reading: FIONREAD, ioctl(2)."""
    import array  # noqa: PLC0415 - a command needs neither
    import termios  # noqa: PLC0415 - as above

    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def empty_input() -> int:
    """Return a descriptor without input: /dev/null, or a pipe without a writer in its place.

    In an outer container that mounts /dev with nodev, /dev/null does not open.

    Raises:
        OSError: no descriptor is available.
    """
    try:
        return above_stdio(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        reader, writer = pipe()
        close(writer)
        return reader


def pidfd_open(pid: int) -> int:
    """Return a descriptor of a process, for poll(2) and signals.

    Raises:
        ProcessLookupError: there is no such process.
        OSError: no descriptor is available.
    """
    return above_stdio(os.pidfd_open(pid))


def pipe(flags: int = 0) -> tuple[int, int]:
    """Return the read end and the write end of a pipe: pipe2(2).

    Raises:
        OSError: no descriptor is available.
    """
    return _both_above_stdio(*os.pipe2(flags | os.O_CLOEXEC))


def socket_pair(
    kind: socket.SocketKind | None = None,
) -> tuple[socket.socket, socket.socket]:
    """Return two connected Unix sockets, by default stream sockets: socketpair(2).

    Raises:
        OSError: no descriptor is available.
    """
    import socket  # noqa: PLC0415 - a command needs none, and the import is slow

    one, other = socket.socketpair(socket.AF_UNIX, kind or socket.SOCK_STREAM)
    fds = _both_above_stdio(one.detach(), other.detach())
    return socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1])


def receive(connection: socket.socket, size: int, count: int) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors, at most so many; recvmsg(2), unix(7).

    Raises:
        OSError: the connection is broken.
    """
    import socket  # noqa: PLC0415 - as above

    data, fds, _, _ = socket.recv_fds(connection, size, count)
    return data, [above_stdio(fd) for fd in fds]


def _both_above_stdio(one: int, other: int) -> tuple[int, int]:
    try:
        one = above_stdio(one)
    except OSError:
        close(other)
        raise
    try:
        return one, above_stdio(other)
    except OSError:
        close(one)
        raise
