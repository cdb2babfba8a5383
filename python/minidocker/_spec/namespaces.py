"""The choice of a container's new namespaces."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Self

from minidocker._errors import SpecError
from minidocker._flags import CloneFlags
from minidocker._spec.names import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NamespaceOptions"]

# clone(2) calls a mount namespace NEWNS, because it was the first kind.
_FLAGS = {kind: CloneFlags["NEWNS" if kind == "mount" else f"NEW{kind.upper()}"] for kind in KINDS}

_IN_ALL: dict[Kind, bool] = {kind: kind != "time" for kind in KINDS}


@functools.lru_cache(maxsize=256)
def _flags(options: NamespaceOptions) -> CloneFlags:
    # Every launch needs the flags, and the operators of enum are slow, so they are cached.
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
        return _flags(self)

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
