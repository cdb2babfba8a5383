"""Which namespaces a container gets of its own, and which ones a process is in."""

from __future__ import annotations

import dataclasses
import errno
import functools
import html
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, Self, get_args

from minidocker._errors import SpecError, UnsupportedPlatformError
from minidocker._flags import CloneFlags

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from minidocker._inspect.html import PrettyPrinter

__all__ = ["Kind", "NamespaceOptions", "Namespaces", "namespaces"]

Kind = Literal["pid", "net", "mount", "uts", "ipc", "user", "cgroup", "time"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_FLAGS: dict[Kind, CloneFlags] = {
    "pid": CloneFlags.NEWPID,
    "net": CloneFlags.NEWNET,
    "mount": CloneFlags.NEWNS,
    "uts": CloneFlags.NEWUTS,
    "ipc": CloneFlags.NEWIPC,
    "user": CloneFlags.NEWUSER,
    "cgroup": CloneFlags.NEWCGROUP,
    "time": CloneFlags.NEWTIME,
}

_IN_ALL: dict[Kind, bool] = {kind: kind != "time" for kind in KINDS}

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


@functools.lru_cache(maxsize=256)
def _flags(options: NamespaceOptions) -> CloneFlags:
    # Remembered, since every start of a container asks and enum's operators are slow.
    flags = CloneFlags(0)
    for kind in options:
        flags |= _FLAGS[kind]
    return flags


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False, slots=True)
class NamespaceOptions:
    """Which namespaces of a container are new; the others are shared with the caller.

    ========  ========================================================  =====================
    name      what it isolates                                          manual page
    ========  ========================================================  =====================
    pid       process ids: the command is PID 1 and sees no other       pid_namespaces(7)
    net       interfaces, addresses, routes, ports, firewall rules      network_namespaces(7)
    mount     mount points: the tree of file systems                    mount_namespaces(7)
    uts       host name and NIS domain name                             uts_namespaces(7)
    ipc       System V IPC objects, POSIX message queues                ipc_namespaces(7)
    user      user and group ids, and the capabilities that they give   user_namespaces(7)
    cgroup    the root of the control group tree                        cgroup_namespaces(7)
    time      the clocks that count since the machine was started       time_namespaces(7)
    ========  ========================================================  =====================

    ``NamespaceOptions()`` is :meth:`all`, and a keyword changes that one kind, so that
    what nobody mentioned stays isolated: ``NamespaceOptions(net=False)`` shares the network and
    nothing else. To begin with nothing, ``NamespaceOptions.none().with_uts()``.

    A value can be iterated over (the names of the kinds that are new, in the order above),
    compared, hashed and pickled; no method changes it.

    Raises:
        SpecError: for anything but True and False.
    """

    pid: bool = True
    net: bool = True
    mount: bool = True
    uts: bool = True
    ipc: bool = True
    user: bool = True
    cgroup: bool = True
    time: bool = False

    def __post_init__(self) -> None:
        for kind in KINDS:
            value = getattr(self, kind)
            if not isinstance(value, bool):
                raise SpecError(
                    "neither True (a new namespace) nor False (the caller's)",
                    option=kind,
                    value=value,
                )

    @classmethod
    def all(cls) -> Self:
        """Return the seven: pid, net, mount, uts, ipc, user, cgroup. Time is asked for by name."""
        return cls()

    @classmethod
    def none(cls) -> Self:
        """Return the empty set: every namespace is the caller's."""
        return cls(**dict.fromkeys(KINDS, False))

    @property
    def flags(self) -> CloneFlags:
        """The ``CLONE_NEW*`` flags of the kinds that are new."""
        return _flags(self)

    def __iter__(self) -> Iterator[Kind]:
        return (kind for kind in KINDS if getattr(self, kind))

    def __repr__(self) -> str:
        # An expression that gives the value back, from whichever end is nearer.
        name = type(self).__name__
        from_none = [f".with_{kind}()" for kind in self]
        from_all = [
            f".{'with' if getattr(self, kind) else 'without'}_{kind}()"
            for kind in KINDS
            if getattr(self, kind) != _IN_ALL[kind]
        ]
        if len(from_none) < len(from_all):
            return f"{name}.none(){''.join(from_none)}"
        return f"{name}.all(){''.join(from_all)}"

    def with_pid(self) -> Self:
        """Return the same with a new PID namespace."""
        return dataclasses.replace(self, pid=True)

    def without_pid(self) -> Self:
        """Return the same with the caller's PID namespace."""
        return dataclasses.replace(self, pid=False)

    def with_net(self) -> Self:
        """Return the same with a new network namespace."""
        return dataclasses.replace(self, net=True)

    def without_net(self) -> Self:
        """Return the same with the caller's network namespace."""
        return dataclasses.replace(self, net=False)

    def with_mount(self) -> Self:
        """Return the same with a new mount namespace."""
        return dataclasses.replace(self, mount=True)

    def without_mount(self) -> Self:
        """Return the same with the caller's mount namespace."""
        return dataclasses.replace(self, mount=False)

    def with_uts(self) -> Self:
        """Return the same with a new UTS namespace."""
        return dataclasses.replace(self, uts=True)

    def without_uts(self) -> Self:
        """Return the same with the caller's UTS namespace."""
        return dataclasses.replace(self, uts=False)

    def with_ipc(self) -> Self:
        """Return the same with a new IPC namespace."""
        return dataclasses.replace(self, ipc=True)

    def without_ipc(self) -> Self:
        """Return the same with the caller's IPC namespace."""
        return dataclasses.replace(self, ipc=False)

    def with_user(self) -> Self:
        """Return the same with a new user namespace."""
        return dataclasses.replace(self, user=True)

    def without_user(self) -> Self:
        """Return the same with the caller's user namespace."""
        return dataclasses.replace(self, user=False)

    def with_cgroup(self) -> Self:
        """Return the same with a new cgroup namespace."""
        return dataclasses.replace(self, cgroup=True)

    def without_cgroup(self) -> Self:
        """Return the same with the caller's cgroup namespace."""
        return dataclasses.replace(self, cgroup=False)

    def with_time(self) -> Self:
        """Return the same with a new time namespace."""
        return dataclasses.replace(self, time=True)

    def without_time(self) -> Self:
        """Return the same with the caller's time namespace."""
        return dataclasses.replace(self, time=False)


class Namespaces(Mapping[Kind, int]):
    """The namespaces that a process is in: kind → inode number.

    Two processes are in the same namespace where the numbers are equal (namespaces(7)); a number is
    used again only after its namespace is gone. A kind that the kernel does not have is missing.

    Printed it is a table; in Jupyter too.
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
        """Return the kinds of which both are in the very same namespace.

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
        # No colour of its own: it is read on a light page and on a dark one.
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in _HEAD)
        rows = "".join(
            f'<tr><td style="text-align:left">{html.escape(kind)}</td>'
            f'<td style="text-align:right"><code>{inode}</code></td>'
            f'<td style="text-align:left">{html.escape(ISOLATES[kind])}</td></tr>'
            for kind, inode in self.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


class _HasPid(Protocol):
    @property
    def pid(self) -> int: ...


def namespaces(pid: Literal["self"] | int | _HasPid = "self") -> Namespaces:
    """Return the namespaces that a process is in.

    Args:
        pid: ``"self"``, the calling thread (after :func:`minidocker.linux.unshare` threads of one
            process may differ); a process id as the caller's PID namespace has it, which means its
            main thread; or anything with a ``pid``, such as a :class:`minidocker.Popen` or a
            :class:`minidocker.Container`.

    Raises:
        ProcessLookupError: there is no such process, or it has ended.
        PermissionError: it belongs to another user, or has more privileges than the caller.
        FileNotFoundError: /proc is not mounted.
        SpecError: ``pid`` is a number below 1, or another string than "self".
    """
    number = None if pid == "self" else _number(pid)
    if sys.platform != "linux":
        raise UnsupportedPlatformError(f"namespaces are a thing of Linux, not of {sys.platform}")
    try:
        return Namespaces(_core.read_namespaces(number))
    except OSError as error:
        raise _explained(error, number) from None


def _number(pid: object) -> int:
    number = getattr(pid, "pid", pid)
    if isinstance(number, str):
        raise SpecError('the only name is "self"; else pass a number', option="pid", value=pid)
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f'pid is "self", an int or an object with a pid, not {pid!r}')
    if not 1 <= number < 2**31:
        raise SpecError("no process has such an id: they begin with 1", option="pid", value=number)
    return number


def _explained(error: OSError, pid: int | None) -> OSError:
    who = "the caller" if pid is None else f"process {pid}"
    match error.errno:
        case errno.ESRCH:
            reason = (
                f"{who} does not exist or has ended. Remedy: look while it runs, "
                "and pass the pid that the caller's own PID namespace has for it"
            )
        case errno.EACCES | errno.EPERM:
            reason = (
                f"{who} belongs to another user or has more privileges than the caller. "
                "Remedy: look as root, or as the user who started it"
            )
        case errno.ENOENT:
            reason = "/proc is not mounted. Remedy: mount -t proc proc /proc"
        case _:
            return error
    return OSError(error.errno, reason)
