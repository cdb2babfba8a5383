# The compiled half of minidocker: private. Everything public is in the package above it.

import os
from collections.abc import Sequence

__all__ = [
    "__version__",
    "chdir",
    "chroot",
    "execv",
    "getgid",
    "getpid",
    "getppid",
    "getuid",
    "mount",
    "pivot_root",
    "read_namespaces",
    "setdomainname",
    "setgid",
    "sethostname",
    "setns",
    "setuid",
    "umount2",
    "unshare",
    "waitpid",
]

__version__: str

# The single system calls (pybind/src/linux.rs). Flags are plain integers; errors are OSError.

def unshare(flags: int) -> None: ...
def setns(fd: int, nstype: int) -> None: ...
def chroot(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None: ...
def chdir(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None: ...
def mount(
    source: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None,
    target: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    filesystemtype: str | bytes | None,
    mountflags: int,
    data: str | bytes | None,
) -> None: ...
def umount2(target: str | bytes | os.PathLike[str] | os.PathLike[bytes], flags: int) -> None: ...
def pivot_root(
    new_root: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    put_old: str | bytes | os.PathLike[str] | os.PathLike[bytes],
) -> None: ...
def sethostname(name: str | bytes) -> None: ...
def setdomainname(name: str | bytes) -> None: ...
def getpid() -> int: ...
def getppid() -> int: ...
def getuid() -> int: ...
def getgid() -> int: ...
def setuid(uid: int) -> None: ...
def setgid(gid: int) -> None: ...
def execv(
    pathname: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    argv: Sequence[str | bytes | os.PathLike[str] | os.PathLike[bytes]],
) -> None: ...
def waitpid(pid: int, options: int) -> tuple[int, int]: ...

# The namespaces that a process is in (pybind/src/namespaces.rs).

def read_namespaces(pid: int | None) -> dict[str, int]: ...
