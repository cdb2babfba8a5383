# The compiled half of minidocker. It is private; the package above it has the public names.

import os
from collections.abc import Mapping, Sequence
from typing import Self, final

__all__ = [
    "Command",
    "Confine",
    "DeadlineReached",
    "Process",
    "Spec",
    "__version__",
    "call_count",
    "chdir",
    "chroot",
    "execv",
    "explain_missing",
    "fork",
    "getgid",
    "getpid",
    "getppid",
    "getuid",
    "hold",
    "mount",
    "pivot_root",
    "plan_lines",
    "prepare_error",
    "probe",
    "probe_landlock_version",
    "probe_root_is_a_mount",
    "probe_watchdog",
    "read_namespaces",
    "register_at_fork",
    "release",
    "setdomainname",
    "setgid",
    "sethostname",
    "setns",
    "setuid",
    "spawn",
    "umount2",
    "unshare",
    "waitpid",
    "warn_of_entering",
    "warn_of_mounts",
    "warn_of_variables",
]

__version__: str

# The system calls of minidocker.linux (pybind/src/linux.rs). Flags are plain integers; errors are
# OSError.

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

# The namespaces of a process (pybind/src/namespaces.rs).

def read_namespaces(pid: int | None) -> dict[str, int]: ...

# Containers (pybind/src/container.rs). They raise the package's SpecError and SpawnError.

@final
class Confine:
    def __new__(
        cls,
        *,
        profile: str,
        cap_add: Sequence[str],
        cap_drop: Sequence[str],
        no_new_privileges: bool | None,
        seccomp: tuple[str, str | None, Sequence[str], Sequence[str], str] | None,
        ulimits: Sequence[tuple[str, int | None, int | None]],
    ) -> Self: ...

@final
class Spec:
    def __new__(
        cls,
        *,
        namespaces: int,
        hostname: str | None,
        domainname: str | None,
        uid_map: list[tuple[int, int, int]] | str | None,
        gid_map: list[tuple[int, int, int]] | str | None,
        network: str | int | None,
        rootfs: bytes | None,
        mounts: Sequence[Mapping[str, object]],
        shown: Sequence[bytes],
        named: tuple[int | None, int | None],
        read_only: bool,
        overlay: bool | bytes,
        confine: Confine | None,
        init: bool,
        die_with_parent: bool,
        monotonic: tuple[int, int] | None,
        boottime: tuple[int, int] | None,
    ) -> Self: ...
    def inherits_variable(self, name: bytes, value: bytes) -> bool: ...

@final
class Command:
    def __new__(
        cls,
        *,
        candidates: Sequence[bytes],
        argv: Sequence[bytes],
        envp: Sequence[bytes] | None,
        cwd: bytes | None,
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        close_fds: bool,
        restore_signals: bool,
        umask: int | None,
        new_session: bool,
        process_group: int | None,
        terminal: bool,
        user: int | None,
        group: int | None,
        groups: Sequence[int] | None,
    ) -> Self: ...

@final
class Process:
    @property
    def pid(self) -> int: ...
    @property
    def leads_session(self) -> bool: ...
    @property
    def is_ours(self) -> bool: ...
    def send_signal(self, signal: int) -> None: ...
    def wait(
        self, block: bool
    ) -> tuple[bool, int | None, tuple[float, float, int | None] | None] | None: ...

class DeadlineReached(Exception): ...

def spawn(
    spec: Spec,
    command: Command | None,
    *,
    enter: int | None = None,
    timeout: float | None = None,
    trace: int | None = None,
    inject: tuple[int, int] | None = None,
    owner: object = None,
) -> Process: ...
def fork(
    spec: Spec,
    command: Command,
    owner: object,
    *,
    timeout: float | None = None,
    inject: tuple[int, int] | None = None,
) -> bool: ...
def plan_lines(
    spec: Spec, command: Command | None, *, enter: int | None = None
) -> list[tuple[str, str, str, str | None]]: ...
def prepare_error(errno: int) -> OSError: ...
def explain_missing(
    spec: Spec, path: bytes, *, is_program: bool = False
) -> tuple[str, str] | None: ...
def call_count(
    spec: Spec, command: Command | None, *, enter: int | None = None, fork: bool = False
) -> int: ...
def warn_of_entering(spec: Spec, command: Command) -> None: ...
def warn_of_mounts(spec: Spec) -> None: ...
def warn_of_variables(spec: Spec) -> None: ...
def hold(fds: Sequence[int]) -> None: ...
def release(fds: Sequence[int]) -> None: ...
def register_at_fork() -> None: ...

# The trials of the doctor (pybind/src/probe.rs).

def probe(
    name: str,
    *,
    user_namespace: bool = True,
    path: bytes | None = None,
    timeout: float = 2.0,
) -> tuple[str, str, int, str | None] | None: ...
def probe_root_is_a_mount() -> bool | None: ...
def probe_landlock_version() -> int | None: ...
def probe_watchdog(*, timeout: float = 2.0) -> None: ...
