"""The namespaces of a process."""

from __future__ import annotations

import errno
import html
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from minidocker._errors import SpecError, UnsupportedPlatformError
from minidocker._inspect import kernel_text
from minidocker._spec.names import KINDS

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from minidocker._inspect.html import PrettyPrinter
    from minidocker._spec.names import Kind
    from minidocker._spec.options import HasPid
else:
    Kind = str

__all__ = ["ISOLATES", "Namespaces", "namespaces"]

_HEAD = ("kind", "inode", "isolates")

ISOLATES: dict[Kind, str] = {
    "pid": "process ids",
    "net": "interfaces, addresses, routes, ports",
    "mount": "mount points",
    "uts": "host name and NIS domain name",
    "ipc": "System V IPC, POSIX message queues",
    "user": "user and group ids, capabilities",
    "cgroup": "root of the control group tree",
    "time": "monotonic and boot-time clocks",
}
"""What each kind isolates, in a few words."""


class Namespaces(Mapping[Kind, int]):
    """The namespaces of a process: kind → inode number.

    Equal numbers mean the same namespace (namespaces(7)). The kernel reuses a number only after its
    namespace has ended. A kind that the kernel does not support is missing.

    ``str()`` is a table, and so is the value in Jupyter.
    """

    __slots__ = ("_inodes",)

    def __init__(self, inodes: Mapping[str, int]) -> None:
        self._inodes = {kind: inodes[kind] for kind in KINDS if kind in inodes}

    def __getitem__(self, kind: Kind) -> int:
        return self._inodes[kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._inodes)

    def __len__(self) -> int:
        return len(self._inodes)

    def __hash__(self) -> int:
        return hash(frozenset(self._inodes.items()))

    def shared_with(self, other: Mapping[Kind, int]) -> set[Kind]:
        """Return the kinds of namespace that both share.

        Args:
            other: the namespaces of another process.
        """
        return {kind for kind, inode in self.items() if other.get(kind) == inode}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inodes!r})"

    def __str__(self) -> str:
        rows = [_HEAD]
        rows += [(kind, str(inode), ISOLATES[kind]) for kind, inode in self.items()]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(
            f"{kind:<{widths[0]}}  {inode:>{widths[1]}}  {isolates}"
            for kind, inode, isolates in rows
        )

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        # Set no colours, for light and dark pages.
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in _HEAD)
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(kind)}</td>'
            f'<td style="text-align:right"><code>{inode}</code></td>'
            f'<td style="text-align:left">{html.escape(ISOLATES[kind])}</td></tr>'
            for kind, inode in self.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def namespaces(pid: Literal["self"] | int | HasPid = "self") -> Namespaces:
    """Return the namespaces of a process.

    Args:
        pid: ``"self"`` for the calling thread (after :func:`minidocker.linux.unshare` threads of
            one process may differ); a process id in the caller's PID namespace, for the main thread
            of that process; or an object with a ``pid``, such as a :class:`minidocker.Popen` or a
            :class:`minidocker.Container`.

    Raises:
        ProcessLookupError: there is no such process, or it has ended.
        PermissionError: it belongs to another user, or has more privileges than the caller.
        FileNotFoundError: /proc is not mounted.
        SpecError: ``pid`` is a number below 1, or another string than "self".
    """
    number = None if pid == "self" else _number(pid)
    if sys.platform != "linux":
        raise UnsupportedPlatformError(f"namespaces exist only on Linux, not on {sys.platform}")
    try:
        return Namespaces(_core.read_namespaces(number))
    except OSError as error:
        raise _explained(error, number) from None


def _number(pid: object) -> int:
    number = getattr(pid, "pid", pid)
    if isinstance(number, str):
        raise SpecError('give "self" or a number', option="pid", value=pid)
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f'pid is "self", an int or an object with a pid, not {pid!r}')
    if not 1 <= number < 2**31:
        raise SpecError(
            "process ids begin with 1: give a number from 1 to 2147483647",
            option="pid",
            value=number,
        )
    return number


def _explained(error: OSError, pid: int | None) -> OSError:
    who = "the caller" if pid is None else f"process {pid}"
    number = error.errno
    # The kernel hides a process that is ending from every plain user.
    if number in (errno.EACCES, errno.EPERM) and pid is not None and _is_ending(pid):
        number = errno.ESRCH
    match number:
        case errno.ESRCH:
            reason = (
                f"{who} does not exist or has ended. Remedy: pass the pid of a running process, "
                "as the caller's PID namespace shows it"
            )
        case errno.EACCES | errno.EPERM:
            reason = (
                f"{who} belongs to another user or has more privileges than the caller. "
                "Remedy: run this as root, or as the user who started it"
            )
        case errno.ENOENT:
            reason = "/proc is not mounted. Remedy: mount -t proc proc /proc"
        case _:
            return error
    return OSError(number, reason)


def _is_ending(pid: int) -> bool:
    # include/linux/sched.h
    exiting = 0x4
    try:
        # proc(5): the flags are the seventh field after the name.
        flags = kernel_text.words(kernel_text.read(f"/proc/{pid}/stat").rpartition(")")[2])[6]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(int(flags) & exiting)
