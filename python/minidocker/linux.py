"""The system calls that make a container, one function each.

Each does to the **calling** process (or thread) exactly what its manual page says, and takes the
manual page's parameter names as keywords::

    from minidocker import linux
    from minidocker.linux import CloneFlags

    pid = linux.fork()
    if pid == 0:
        linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWUTS)
        linux.sethostname("mycontainer")
        linux.execv("/bin/hostname", ["hostname"])
    linux.waitpid(pid).returncode

A call that fails raises :class:`OSError` with ``errno``, in the subclass that Python has for that
errno (:class:`PermissionError`, :class:`FileNotFoundError`, …). ``filename`` is set if the call
takes a path. A note on the exception shows the call with its arguments and, for common failures,
the remedy.

Paths and strings are :class:`str` (encoded with ``surrogateescape``, as :func:`os.fsencode` does),
:class:`bytes` or :class:`os.PathLike`; one that contains a NUL raises :class:`ValueError`. A call
that may block lets other threads run.

To run a command in a container use :func:`minidocker.run`. It makes these calls in a new process
and changes nothing in the calling one.
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
                f"{name} is a Linux system call, and this machine runs {sys.platform}: "
                "use Linux, a virtual machine or WSL 2"
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
    """The result of :func:`waitpid`: the tuple of :func:`os.waitpid`, and ``returncode``."""

    pid: int
    """The child that changed state; 0 if ``WNOHANG`` was given and no child did."""
    status: int
    """The wait status, for ``os.WIFEXITED()`` and the related functions."""

    @property
    def returncode(self) -> int | None:
        """Return the exit status, or minus the number of the signal that ended the child.

        None if no child has ended: none changed state, or one was stopped or continued.
        """
        if self.pid == 0 or os.WIFSTOPPED(self.status) or os.WIFCONTINUED(self.status):
            return None
        return os.waitstatus_to_exitcode(self.status)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces of its own.

    See unshare(2).

    Only children created later enter a new PID or time namespace; the caller stays in its own.

    ``NEWUSER`` fails with ``EINVAL`` in a process with more than one thread. Threads share their
    memory and so their privileges; all of them must be in the same user namespace (the flag implies
    ``CLONE_THREAD``), and the kernel does not move a single thread. A Jupyter kernel always has
    several threads, and so has a process that imported numpy: call this in the child of a
    :func:`fork`, which has one thread.

    Args:
        flags: the :class:`CloneFlags` of the new namespaces.

    Raises:
        PermissionError: the caller lacks ``CAP_SYS_ADMIN``. ``NEWUSER`` does not need it, and
            grants it for the other flags of the same call.
        OSError: ``EINVAL`` for unknown flags or more than one thread (see above); ``ENOSPC`` if the
            limit in ``/proc/sys/user/max_*_namespaces`` or the depth of nesting is reached.
    """
    _call(_core.unshare, flags)


def setns(fd: int | _HasFileno, nstype: int = 0) -> None:
    """Move the calling thread into an existing namespace.

    See setns(2).

    Args:
        fd: an open ``/proc/PID/ns/*`` file, or a pidfd; an int or an object with ``fileno()``.
        nstype: for a namespace file its expected kind, or 0 for any kind; for a pidfd the
            :class:`CloneFlags` of all namespaces to join.

    Raises:
        PermissionError: the caller lacks ``CAP_SYS_ADMIN`` in the user namespace to join, or in the
            one that owns the namespace to join.
        OSError: ``EINVAL`` for another kind of descriptor, for the user namespace that the caller
            is already in, or for a user or mount namespace in a process with more than one thread
            (see :func:`unshare`); ``EBADF`` for a closed descriptor.
    """
    _call(_core.setns, fd if isinstance(fd, int) else fd.fileno(), nstype)


def chroot(path: StrOrBytesPath) -> None:
    """Make ``path`` the root directory of the calling process.

    See chroot(2).

    The working directory does not change, and the old root stays mounted, so a process with
    ``CAP_SYS_CHROOT`` can escape. :func:`pivot_root` prevents that.

    Raises:
        PermissionError: the caller lacks ``CAP_SYS_CHROOT``.
        OSError: the path does not resolve to a directory; with ``filename``.
    """
    _call(_core.chroot, path)


def chdir(path: StrOrBytesPath) -> None:
    """Make ``path`` the working directory of the calling process.

    See chdir(2).

    Raises:
        OSError: the path does not resolve to a directory; with ``filename``.
    """
    _call(_core.chdir, path)


def mount(
    source: StrOrBytesPath | None,
    target: StrOrBytesPath,
    filesystemtype: str | bytes | None = None,
    mountflags: int = 0,
    data: str | bytes | None = None,
) -> None:
    """Mount a file system, bind a file or directory, or change a mount.

    See mount(2).

    Args:
        source: a device, a file or directory to bind, or any name for a file system without a
            device.
        target: the mount point.
        filesystemtype: ``"proc"``, ``"tmpfs"``, …; None for ``BIND``, ``MOVE`` and changes.
        mountflags: :class:`MountFlags`.
        data: options of the file system: ``"size=16m,mode=755"``.

    Raises:
        PermissionError: the caller lacks ``CAP_SYS_ADMIN`` in the user namespace that owns the
            mount namespace, or the file system may not be mounted there.
        OSError: with ``target`` as ``filename``. For ``ENOENT`` the missing path may also be
            ``source``; the kernel does not distinguish the two.
    """
    _call(_core.mount, source, target, filesystemtype, mountflags, data)


def umount2(target: StrOrBytesPath, flags: int = 0) -> None:
    """Unmount the topmost mount at ``target``.

    See umount2(2).

    Args:
        target: the mount point.
        flags: :class:`UmountFlags`.

    Raises:
        OSError: with ``filename``; ``EBUSY`` if the mount is in use; ``EINVAL`` if ``target`` is
            not a mount point, or if the mount is locked (mount_namespaces(7)).
    """
    _call(_core.umount2, target, flags)


def pivot_root(new_root: StrOrBytesPath, put_old: StrOrBytesPath) -> None:
    """Make the mount ``new_root`` the root of the mount namespace.

    See pivot_root(2).

    The old root moves to ``put_old``, where the caller unmounts it. ``pivot_root(".", ".")`` in the
    new root stacks the old one on top of it, and ``umount2(".", UmountFlags.DETACH)`` removes it.

    Args:
        new_root: the mount point that becomes ``/``.
        put_old: a directory at or below ``new_root``.

    Raises:
        PermissionError: the caller lacks ``CAP_SYS_ADMIN`` in the user namespace that owns the
            mount namespace.
        OSError: with ``new_root`` as ``filename``; ``EINVAL`` if it is not a mount point, or if its
            parent mount is shared; ``EBUSY`` if it is on the mount of the current root.
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
    """Return the caller's process id in its own PID namespace.

    See getpid(2).
    """
    return _core.getpid()


def getppid() -> int:
    """Return the parent's process id, or 0 if the parent is outside the PID namespace.

    See getppid(2).
    """
    return _core.getppid()


def getuid() -> int:
    """Return the real user id, or 65534 (the overflow id) if the user namespace does not map it.

    See getuid(2).
    """
    return _core.getuid()


def getgid() -> int:
    """Return the real group id, or 65534 (the overflow id) if the user namespace does not map it.

    See getgid(2).
    """
    return _core.getgid()


def setuid(uid: int) -> None:
    """Set the user ids of all threads of the calling process.

    See setuid(2).

    Without ``CAP_SETUID`` it sets the effective user id only, to the real or the saved one.

    Raises:
        PermissionError: the caller lacks ``CAP_SETUID``, and ``uid`` is another id.
        OSError: ``EINVAL`` for an id that the user namespace does not map.
        OverflowError: ``uid`` does not fit into 32 bits.
    """
    _call(_core.setuid, uid)


def setgid(gid: int) -> None:
    """Set the group ids of all threads of the calling process.

    See setgid(2).

    Supplementary groups do not change; :func:`os.setgroups` drops them. Do both before
    :func:`setuid`.

    Raises:
        PermissionError: the caller lacks ``CAP_SETGID``, and ``gid`` is neither its real nor its
            saved id.
        OSError: ``EINVAL`` for an id that the user namespace does not map.
        OverflowError: ``gid`` does not fit into 32 bits.
    """
    _call(_core.setgid, gid)


def fork() -> int:
    """Make a copy of the calling process that has the calling thread only.

    See fork(2).

    It is :func:`os.fork`, because the child can run Python only after the interpreter's own at-fork
    functions.

    Returns:
        the pid of the child in the parent, and 0 in the child.

    Raises:
        OSError: ``EAGAIN`` if a limit on the number of processes is reached; ``ENOMEM`` if there is
            no memory, or if PID 1 of the PID namespace that :func:`unshare` made has ended.
    """
    if not hasattr(os, "fork"):
        raise UnsupportedPlatformError(f"{sys.platform} has no fork(2): use Linux")
    return os.fork()


def execv(pathname: StrOrBytesPath, argv: Sequence[StrOrBytesPath]) -> None:
    """Replace the program of the calling process; return only by an exception.

    See exec(3).

    As with :func:`os.execv`, buffered output is not flushed. The environment does not change.

    Args:
        pathname: the path of the program; ``PATH`` is not searched.
        argv: all arguments, beginning with ``argv[0]``, the program's own name.

    Raises:
        ValueError: ``argv`` is empty.
        OSError: the program cannot be executed; with ``filename``.
    """
    if len(argv) == 0:
        raise ValueError("argv is empty: its first item is the program's own name")
    _call(_core.execv, pathname, argv)


def waitpid(pid: int, options: int = 0) -> WaitResult:
    """Wait for a child to change its state.

    See waitpid(2).

    Args:
        pid: the pid of a child; -1 for any child, 0 for any child in the caller's process group,
            -N for any child in process group N.
        options: ``os.WNOHANG``, ``os.WUNTRACED``, ``os.WCONTINUED``.

    Returns:
        pid and status, as from :func:`os.waitpid`, with ``.returncode`` as in `subprocess`. An
        exception from a signal handler ends the wait.

    Raises:
        ChildProcessError: the caller has no such child.
    """
    return WaitResult(*_call(_core.waitpid, pid, options))


_P = ParamSpec("_P")
_R = TypeVar("_R")

_NEEDS_ADMIN = (
    "it needs CAP_SYS_ADMIN; as a plain user call unshare(CloneFlags.NEWUSER | ...) in the same "
    "process first"
)
_64_BYTES = "a name has at most 64 bytes"
_NO_ID = (
    "the user namespace does not map this id: write /proc/PID/uid_map and gid_map from outside "
    "first"
)

_REMEDIES = {
    ("unshare", errno.EPERM): (
        "it needs CAP_SYS_ADMIN; as a plain user add CloneFlags.NEWUSER, which needs none "
        "if the machine allows it"
    ),
    ("unshare", errno.EINVAL): (
        "unknown flags, or NEWUSER in a process with more than one thread: "
        "call it in the child of a fork"
    ),
    ("unshare", errno.ENOSPC): "raise the limit in /proc/sys/user/max_*_namespaces",
    ("setns", errno.EPERM): (
        "first join the user namespace that owns this one; the caller cannot join a user "
        "namespace again that it left"
    ),
    ("setns", errno.EINVAL): (
        "fd must be a namespace of kind nstype, or a pidfd with nstype; a process with several "
        "threads cannot join a user or mount namespace: call setns in the child of a fork"
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
        "source cannot be bound (add MountFlags.REC if mounts below it are locked), target is not "
        "a mount point, or data has an unknown option"
    ),
    ("umount2", errno.EPERM): _NEEDS_ADMIN,
    ("umount2", errno.EINVAL): "target is not a mount point of this namespace, or it is locked",
    ("umount2", errno.EBUSY): (
        "the mount is in use: end the processes that use it, or pass UmountFlags.DETACH"
    ),
    ("pivot_root", errno.EPERM): _NEEDS_ADMIN,
    ("pivot_root", errno.EINVAL): (
        "new_root must be a mount point (bind it onto itself), put_old must be at or below it, and "
        "the mounts must be private (MountFlags.REC | MountFlags.PRIVATE on /)"
    ),
    ("pivot_root", errno.EBUSY): "new_root is on the mount of the root: bind it onto itself first",
    ("sethostname", errno.EPERM): _NEEDS_ADMIN,
    ("sethostname", errno.EINVAL): _64_BYTES,
    ("setdomainname", errno.EPERM): _NEEDS_ADMIN,
    ("setdomainname", errno.EINVAL): _64_BYTES,
    ("setuid", errno.EPERM): "a process needs CAP_SETUID to become another user",
    ("setuid", errno.EINVAL): _NO_ID,
    ("setgid", errno.EPERM): "a process needs CAP_SETGID to change to another group",
    ("setgid", errno.EINVAL): _NO_ID,
    ("execv", errno.ENOENT): "the program, or the interpreter in its #! line, does not exist",
    (
        "execv",
        errno.EACCES,
    ): "it must be a regular file with the x bit set, on a mount without NOEXEC",
    ("execv", errno.ENOEXEC): "it is not a program: begin a script with #! and its interpreter",
    ("waitpid", errno.ECHILD): "the caller has no such child, or has already waited for it",
}


def _call(call: Callable[_P, _R], *arguments: _P.args, **keywords: _P.kwargs) -> _R:
    try:
        return call(*arguments, **keywords)
    except OSError as error:
        note = f"{call.__name__}({', '.join(map(repr, arguments))})"
        remedy = _REMEDIES.get((call.__name__, error.errno or 0))
        error.add_note(note if remedy is None else f"{note}: {remedy}")
        raise
