"""The system calls that containers are made of, one by one.

They do what their manual pages say to the **calling** process (or thread), nothing more and nothing
less, and take the parameter names of the manual pages as keywords::

    from minidocker import linux
    from minidocker.linux import CloneFlags

    pid = linux.fork()
    if pid == 0:
        linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWUTS)
        linux.sethostname("mycontainer")
        linux.execv("/bin/hostname", ["hostname"])
    linux.waitpid(pid).returncode

Every call raises :class:`OSError` with ``errno``, of the subclass that Python has for it
(:class:`PermissionError`, :class:`FileNotFoundError`, …), and with ``filename`` where the call is
about a path. A note on the exception shows the call with its arguments and, for the failures that
people meet most, what to do.

Paths and strings are :class:`str` (encoded with ``surrogateescape``, as :func:`os.fsencode` does),
:class:`bytes` or :class:`os.PathLike`; one with a NUL in it is a :class:`ValueError`. Calls that
may wait let other threads run.

To run something in a container use :func:`minidocker.run`: it does all of this in a new process,
and changes nothing in yours.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar

from minidocker._errors import UnsupportedPlatformError
from minidocker._flags import CloneFlags, MountFlags, UmountFlags

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

if sys.platform == "linux":
    from minidocker import _core
else:

    class _Absent:
        def __getattr__(self, name: str) -> object:
            raise UnsupportedPlatformError(
                f"{name} is a system call of Linux, and this is {sys.platform}: "
                "use a Linux machine, a virtual one or WSL 2"
            )

    _core = _Absent()

__all__ = [
    "CloneFlags",
    "MountFlags",
    "StrOrBytesPath",
    "UmountFlags",
    "WaitResult",
    "chdir",
    "chroot",
    "execv",
    "fork",
    "getgid",
    "getpid",
    "getppid",
    "getuid",
    "mount",
    "pivot_root",
    "setdomainname",
    "setgid",
    "sethostname",
    "setns",
    "setuid",
    "umount2",
    "unshare",
    "waitpid",
]

StrOrBytesPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A path, in each form that :mod:`os` accepts."""


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class WaitResult(NamedTuple):
    """What :func:`waitpid` tells: the tuple of :func:`os.waitpid`, with the meaning at hand."""

    pid: int
    """The child that changed state; 0 where ``WNOHANG`` was given and none did."""
    status: int
    """The wait status, as ``os.WIFEXITED()`` and its like read it."""

    @property
    def returncode(self) -> int | None:
        """Return the exit status, or minus the signal that ended the child, as subprocess tells it.

        None for a child that has not ended: nothing to wait for yet, or stopped, or continued.
        """
        if self.pid == 0 or os.WIFSTOPPED(self.status) or os.WIFCONTINUED(self.status):
            return None
        return os.waitstatus_to_exitcode(self.status)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces of its own.

    See unshare(2).

    A new PID or time namespace is for the children made afterwards: the caller itself stays.

    ``NEWUSER`` is ``EINVAL`` in a process with more than one thread. The threads of a process share
    memory, and with it whatever one of them may do, so all of them have to be in one user namespace
    (the flag implies ``CLONE_THREAD``), and the kernel does not move one thread out. A Jupyter
    kernel always has several threads, and so has whoever imported numpy: call it in the child of
    a :func:`fork`, which has just one.

    Args:
        flags: :class:`CloneFlags` to make new.

    Raises:
        PermissionError: without ``CAP_SYS_ADMIN``. ``NEWUSER`` needs none, and gives it for every
            other flag of the same call.
        OSError: ``EINVAL`` for unknown flags or more than one thread, see above; ``ENOSPC`` where
            ``/proc/sys/user/max_*_namespaces`` or the depth of nesting is reached.
    """
    _call(_core.unshare, flags)


def setns(fd: int | _HasFileno, nstype: int = 0) -> None:
    """Move the calling thread into an existing namespace.

    See setns(2).

    Args:
        fd: an open ``/proc/PID/ns/*`` file, or a pidfd; a number or anything with ``fileno()``.
        nstype: for a namespace file the kind that it has to be, 0 for any; for a pidfd the
            :class:`CloneFlags` of all namespaces to join.

    Raises:
        PermissionError: without ``CAP_SYS_ADMIN`` in the user namespace that owns the one to join,
            or for a user namespace that the caller is in already or has left.
        OSError: ``EINVAL`` for a descriptor of something else, or for a user or mount namespace in
            a process with more than one thread (see :func:`unshare`); ``EBADF`` for a closed one.
    """
    _call(_core.setns, fd if isinstance(fd, int) else fd.fileno(), nstype)


def chroot(path: StrOrBytesPath) -> None:
    """Make ``path`` the root directory of the calling process.

    See chroot(2).

    The working directory stays where it was, and the old root stays mounted: root inside can
    get out again. :func:`pivot_root` is what confines.

    Raises:
        PermissionError: without ``CAP_SYS_CHROOT``.
        OSError: as for any path, with ``filename``.
    """
    _call(_core.chroot, path)


def chdir(path: StrOrBytesPath) -> None:
    """Make ``path`` the working directory of the calling process.

    See chdir(2).

    Raises:
        OSError: as for any path, with ``filename``.
    """
    _call(_core.chdir, path)


def mount(
    source: StrOrBytesPath | None,
    target: StrOrBytesPath,
    filesystemtype: str | bytes | None = None,
    mountflags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """Mount a file system, bind a directory elsewhere, or change a mount.

    See mount(2).

    Args:
        source: a device, a directory to bind, or any name for file systems that have none.
        target: where it is to be seen.
        filesystemtype: ``"proc"``, ``"tmpfs"``, …, None for ``BIND``, ``MOVE`` and changes.
        mountflags: :class:`MountFlags`.
        data: options of the file system: ``"size=16m,mode=755"``.

    Raises:
        PermissionError: without ``CAP_SYS_ADMIN`` in the user namespace that owns the mount
            namespace, or for a file system that may not be mounted there.
        OSError: with ``target`` as ``filename``; what is missing may be ``source`` all the same,
            which the kernel does not tell apart.
    """
    _call(_core.mount, source, target, filesystemtype, mountflags, data)


def umount2(target: StrOrBytesPath, flags: int = 0) -> None:
    """Unmount what is mounted at ``target``.

    See umount2(2).

    Args:
        target: the mount point.
        flags: :class:`UmountFlags`.

    Raises:
        OSError: with ``filename``; ``EBUSY`` while it is in use, ``EINVAL`` where nothing is
            mounted or the mount came locked with a less privileged mount namespace.
    """
    _call(_core.umount2, target, flags)


def pivot_root(new_root: StrOrBytesPath, put_old: StrOrBytesPath) -> None:
    """Make the mount ``new_root`` the root of the mount namespace.

    See pivot_root(2).

    The old root is then at ``put_old``, to be unmounted. ``pivot_root(".", ".")`` in the new root
    puts the old one on top of it, and ``umount2(".", UmountFlags.DETACH)`` takes it away.

    Args:
        new_root: the mount point that becomes ``/``.
        put_old: a directory at or below it.

    Raises:
        OSError: with ``new_root`` as ``filename``; ``EINVAL`` where it is no mount point, or its
            parent mount is shared; ``EBUSY`` where it is on the root's own mount.
    """
    _call(_core.pivot_root, new_root, put_old)


def sethostname(name: str | bytes) -> None:
    """Set the host name of the calling thread's UTS namespace.

    See sethostname(2).

    Args:
        name: at most 64 bytes.

    Raises:
        PermissionError: without ``CAP_SYS_ADMIN`` in the user namespace that owns it.
        OSError: ``EINVAL`` for a longer name.
    """
    _call(_core.sethostname, name)


def setdomainname(name: str | bytes) -> None:
    """Set the NIS domain name of the calling thread's UTS namespace.

    See setdomainname(2).

    Args:
        name: at most 64 bytes.

    Raises:
        PermissionError: without ``CAP_SYS_ADMIN`` in the user namespace that owns it.
        OSError: ``EINVAL`` for a longer name.
    """
    _call(_core.setdomainname, name)


def getpid() -> int:
    """Return the caller's process id, as its own PID namespace has it.

    See getpid(2).
    """
    return _core.getpid()


def getppid() -> int:
    """Return the process id of the parent, 0 where it is outside the PID namespace.

    See getppid(2).
    """
    return _core.getppid()


def getuid() -> int:
    """Return the real user id, 65534 (the overflow id) without a map in the user namespace.

    See getuid(2).
    """
    return _core.getuid()


def getgid() -> int:
    """Return the real group id, 65534 (the overflow id) without a map in the user namespace.

    See getgid(2).
    """
    return _core.getgid()


def setuid(uid: int) -> None:
    """Set the user ids of the calling process, all threads of it.

    See setuid(2).

    Without ``CAP_SETUID`` only the effective one, to the real or the saved one.

    Raises:
        PermissionError: for any other id without that capability.
        OSError: ``EINVAL`` for an id that the user namespace does not map.
        OverflowError: for a number that is no 32-bit id.
    """
    _call(_core.setuid, uid)


def setgid(gid: int) -> None:
    """Set the group ids of the calling process, all threads of it.

    See setgid(2).

    Supplementary groups stay; :func:`os.setgroups` drops them. Do both before :func:`setuid`.

    Raises:
        PermissionError: for an id that is not one's own without ``CAP_SETGID``.
        OSError: ``EINVAL`` for an id that the user namespace does not map.
        OverflowError: for a number that is no 32-bit id.
    """
    _call(_core.setgid, gid)


def fork() -> int:
    """Make a copy of the calling process with this thread only.

    See fork(2).

    It is :func:`os.fork`: the interpreter's own at-fork functions run on both sides, without which
    the child could not go on in Python.

    Returns:
        the pid of the child, and 0 in the child.

    Raises:
        OSError: ``EAGAIN`` where a limit of processes is reached; ``ENOMEM``, also where PID 1 of
            the PID namespace that :func:`unshare` made for children has ended.
    """
    if not hasattr(os, "fork"):
        raise UnsupportedPlatformError(f"there is no fork on {sys.platform}: use a Linux machine")
    return os.fork()


def execv(pathname: StrOrBytesPath, argv: Sequence[StrOrBytesPath]) -> None:
    """Replace the program of the calling process. It returns only by an exception.

    See exec(3).

    Buffered output is not flushed, as with :func:`os.execv`; the environment stays the same.

    Args:
        pathname: the program; ``PATH`` is not searched.
        argv: all arguments, the first of which is the program's name for itself.

    Raises:
        ValueError: for an empty ``argv``.
        OSError: with ``filename``.
    """
    if len(argv) == 0:
        raise ValueError("argv is empty: its first item is the program's own name")
    _call(_core.execv, pathname, argv)


def waitpid(pid: int, options: int = 0) -> WaitResult:
    """Wait for a child to change its state.

    See waitpid(2).

    Args:
        pid: a child, -1 for any, 0 for any of the caller's process group, -N for any of group N.
        options: ``os.WNOHANG``, ``os.WUNTRACED``, ``os.WCONTINUED``.

    Returns:
        pid and status, as :func:`os.waitpid`, and ``.returncode`` as in subprocess. A signal
        handler that raises ends the wait.

    Raises:
        ChildProcessError: where the caller has no such child.
    """
    return WaitResult(*_call(_core.waitpid, pid, options))


_P = ParamSpec("_P")
_R = TypeVar("_R")

_NEEDS_ADMIN = (
    "it needs CAP_SYS_ADMIN; as a plain user call unshare(CloneFlags.NEWUSER | ...) in the same "
    "process first"
)
_64_BYTES = "a name has at most 64 bytes"
_NO_ID = "the user namespace has no such id: write /proc/PID/uid_map and gid_map from outside first"

_REMEDIES = {
    ("unshare", errno.EPERM): (
        "it needs CAP_SYS_ADMIN; as a plain user add CloneFlags.NEWUSER, which needs none "
        "where the machine allows it"
    ),
    ("unshare", errno.EINVAL): (
        "unknown flags, or NEWUSER in a process with more than one thread: "
        "call it in the child of a fork"
    ),
    ("unshare", errno.ENOSPC): "raise the limit in /proc/sys/user/max_*_namespaces",
    ("setns", errno.EPERM): (
        "join the user namespace that owns this one first, and none that the caller is in already"
    ),
    ("setns", errno.EINVAL): (
        "fd has to be a namespace of kind nstype, or a pidfd with nstype; and a user or mount "
        "namespace cannot be joined by one thread of several: call it in the child of a fork"
    ),
    ("chroot", errno.EPERM): (
        "it needs CAP_SYS_CHROOT; as a plain user call unshare(CloneFlags.NEWUSER) first"
    ),
    ("mount", errno.EPERM): (
        "it needs CAP_SYS_ADMIN; as a plain user call "
        "unshare(CloneFlags.NEWUSER | CloneFlags.NEWNS) first"
    ),
    ("mount", errno.ENOENT): "either source or target does not exist",
    ("mount", errno.ENODEV): "the kernel has no such file system; /proc/filesystems lists them",
    ("mount", errno.EINVAL): (
        "source may not be bound (add MountFlags.REC where mounts below it are locked), or target "
        "is no mount point, or data has an unknown option"
    ),
    ("umount2", errno.EPERM): _NEEDS_ADMIN,
    ("umount2", errno.EINVAL): "target is no mount point of this namespace, or is locked in it",
    ("umount2", errno.EBUSY): "something uses it still: end that, or pass UmountFlags.DETACH",
    ("pivot_root", errno.EPERM): _NEEDS_ADMIN,
    ("pivot_root", errno.EINVAL): (
        "new_root has to be a mount point (bind it onto itself), put_old at or below it, and the "
        "mounts private (MountFlags.REC | MountFlags.PRIVATE on /)"
    ),
    ("pivot_root", errno.EBUSY): "new_root is on the mount of the root: bind it onto itself first",
    ("sethostname", errno.EPERM): _NEEDS_ADMIN,
    ("sethostname", errno.EINVAL): _64_BYTES,
    ("setdomainname", errno.EPERM): _NEEDS_ADMIN,
    ("setdomainname", errno.EINVAL): _64_BYTES,
    ("setuid", errno.EPERM): "only with CAP_SETUID can a process become another user",
    ("setuid", errno.EINVAL): _NO_ID,
    ("setgid", errno.EPERM): "only with CAP_SETGID can a process become another group",
    ("setgid", errno.EINVAL): _NO_ID,
    ("execv", errno.ENOENT): "the program, or the interpreter that it names, does not exist",
    (
        "execv",
        errno.EACCES,
    ): "it has to be a regular file with its x bit set, on a mount without NOEXEC",
    ("execv", errno.ENOEXEC): "it is no program: a script begins with #! and its interpreter",
    ("waitpid", errno.ECHILD): "the caller has no such child, or has waited for it already",
}


def _call(call: Callable[_P, _R], *arguments: _P.args, **keywords: _P.kwargs) -> _R:
    try:
        return call(*arguments, **keywords)
    except OSError as error:
        note = f"{call.__name__}({', '.join(map(repr, arguments))})"
        remedy = _REMEDIES.get((call.__name__, error.errno or 0))
        error.add_note(note if remedy is None else f"{note}: {remedy}")
        raise
