"""The choice of a container's new namespaces."""

from __future__ import annotations

import functools

from minidocker._errors import SpecError
from minidocker._record import record, replace
from minidocker._spec.names import KINDS

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from minidocker._flags import CloneFlags
    from minidocker._spec.names import Kind

__all__ = ["NamespaceOptions"]

_BITS: dict[Kind, int] = {
    "pid": 0x2000_0000,
    "net": 0x4000_0000,
    "mount": 0x0002_0000,
    "uts": 0x0400_0000,
    "ipc": 0x0800_0000,
    "user": 0x1000_0000,
    "cgroup": 0x0200_0000,
    "time": 0x0000_0080,
}
"""The numbers of `CloneFlags`, an enumeration that is slow to import and to add up."""

_IN_ALL: dict[Kind, bool] = {kind: kind != "time" for kind in KINDS}


@functools.lru_cache(maxsize=256)
def _sum(options: NamespaceOptions) -> int:
    return sum(_BITS[kind] for kind in options)


@record(frozen=True, kw_only=True)
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

    ``NamespaceOptions()`` equals :meth:`all`. A keyword changes one kind and leaves the others
    isolated: ``NamespaceOptions(net=False)`` shares the network and nothing else. Begin with
    :meth:`none` to share the rest instead: ``NamespaceOptions.none().with_uts()``.

    A value is immutable. It can be compared, hashed and pickled; iterating over it yields the names
    of the new kinds in the order above.

    Raises:
        SpecError: a value is neither True nor False.
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
                    "it is not a bool: give True (a new namespace) or False (the caller's)",
                    option=kind,
                    value=value,
                )

    @classmethod
    def all(cls) -> Self:
        """Return the seven kinds pid, net, mount, uts, ipc, user and cgroup; not time."""
        return cls()

    @classmethod
    def none(cls) -> Self:
        """Return the empty set: every namespace is the caller's."""
        return cls(**dict.fromkeys(KINDS, False))

    @property
    def flags(self) -> CloneFlags:
        """The ``CLONE_NEW*`` flags of the kinds that are new."""
        from minidocker._flags import CloneFlags  # noqa: PLC0415 - see _BITS

        return CloneFlags(self._bits())

    def _bits(self) -> int:
        """Return the flags as a number, cached because every launch needs it."""
        return _sum(self)

    def __iter__(self) -> Iterator[Kind]:
        return (kind for kind in KINDS if getattr(self, kind))

    def __repr__(self) -> str:
        # An expression for the value, beginning with none() or all(), whichever is shorter.
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
        return replace(self, pid=True)

    def without_pid(self) -> Self:
        """Return the same with the caller's PID namespace."""
        return replace(self, pid=False)

    def with_net(self) -> Self:
        """Return the same with a new network namespace."""
        return replace(self, net=True)

    def without_net(self) -> Self:
        """Return the same with the caller's network namespace."""
        return replace(self, net=False)

    def with_mount(self) -> Self:
        """Return the same with a new mount namespace."""
        return replace(self, mount=True)

    def without_mount(self) -> Self:
        """Return the same with the caller's mount namespace."""
        return replace(self, mount=False)

    def with_uts(self) -> Self:
        """Return the same with a new UTS namespace."""
        return replace(self, uts=True)

    def without_uts(self) -> Self:
        """Return the same with the caller's UTS namespace."""
        return replace(self, uts=False)

    def with_ipc(self) -> Self:
        """Return the same with a new IPC namespace."""
        return replace(self, ipc=True)

    def without_ipc(self) -> Self:
        """Return the same with the caller's IPC namespace."""
        return replace(self, ipc=False)

    def with_user(self) -> Self:
        """Return the same with a new user namespace."""
        return replace(self, user=True)

    def without_user(self) -> Self:
        """Return the same with the caller's user namespace."""
        return replace(self, user=False)

    def with_cgroup(self) -> Self:
        """Return the same with a new cgroup namespace."""
        return replace(self, cgroup=True)

    def without_cgroup(self) -> Self:
        """Return the same with the caller's cgroup namespace."""
        return replace(self, cgroup=False)

    def with_time(self) -> Self:
        """Return the same with a new time namespace."""
        return replace(self, time=True)

    def without_time(self) -> Self:
        """Return the same with the caller's time namespace."""
        return replace(self, time=False)
