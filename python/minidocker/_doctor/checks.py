"""The checks, their order and their requirements."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, cast

from minidocker import _core
from minidocker._doctor import causes
from minidocker._doctor.causes import Failure, Problem
from minidocker._doctor.control_groups import CONTROLLERS, try_controller
from minidocker._doctor.examination import Check, Examination
from minidocker._doctor.subordinate import of_subordinate_ids
from minidocker._doctor.surroundings import Surroundings
from minidocker._errors import CommandNotFound, SpawnError
from minidocker._inspect.namespaces import ISOLATES
from minidocker._run.launch import Launch
from minidocker._run.process import Popen, start
from minidocker._spec.names import KINDS
from minidocker._spec.namespaces import NamespaceOptions
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._doctor.report import Report
    from minidocker._spec.names import Kind, Profile

__all__ = ["CHECKS", "examine"]

TIMEOUT = 2.0
"""Seconds that one step may take."""

_LAUNCH = Launch(timeout=TIMEOUT)
_NO_COMMAND = "/minidocker-doctor/no-such-command"
"""A command that does not exist: an error about it shows that all steps before it worked."""

_SCOPES = 6
"""The first version of Landlock that confines signals and abstract sockets to a domain."""


def _linux(examination: Examination) -> str | Problem:
    return examination.surroundings.system


def _proc(examination: Examination) -> str | Problem:
    around = examination.surroundings
    return "of the caller's own PID namespace" if around.proc == "own" else causes.of_proc(around)


def _landlock(examination: Examination) -> str | Problem:
    failure = examination.probe("landlock")
    if failure is not None:
        lacking = failure.errno in (errno.ENOSYS, errno.EOPNOTSUPP) and _lacks_landlock()
        return causes.of_landlock(failure, examination._witness, lacking=lacking)
    # The same call in a probe's child succeeded, so no filter kills this process.
    return f"rules about files and ports, version {_core.probe_landlock_version()}"


def _lacks_landlock() -> bool:
    """Return whether the kernel has no Landlock; false if a seccomp filter may hide it."""
    try:
        return _core.probe_landlock_version() is None
    except OSError:
        return False


def _control_group(controller: str, examination: Examination) -> str | Problem:
    def probe(path: bytes) -> Failure | None:
        return examination.probe("directory", path)

    return try_controller(controller, probe, examination.surroundings)


def _reaches_command(start: Callable[[], Popen[Any]]) -> str | Problem:
    """Start a command that does not exist: only the last step must fail."""
    try:
        process = start()
    except CommandNotFound:
        return ""
    except subprocess.TimeoutExpired:
        return causes.hung()
    except OSError as error:
        return _of_spawn(error)
    process.kill()
    process.wait()
    return ""


def _of_spawn(error: OSError) -> Problem:
    if isinstance(error, TimeoutError):
        return causes.hung()
    hint = error.hint if isinstance(error, SpawnError) else None
    text = str(error) if hint is None else str(error).removesuffix(f". Remedy: {hint}")
    return Problem(text, (hint or "see the rows above for what does not work").rstrip("."))


def _memfd(examination: Examination) -> str | Problem:
    # The caller itself makes the memfd.
    deadly = examination.deadly("memfd_create")
    failure = examination.filter("memfd_create") if deadly else examination.probe("memfd-exec")
    if failure is not None:
        return causes.of_memfd(failure, examination._witness)
    return "the sealed helper: init, joiner, watchdog"


def _devices(examination: Examination) -> str | Problem:
    try:
        os.close(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return causes.of_devices(
            Failure("refused", "open", error.errno or 0, os.devnull), examination._witness
        )
    return "/dev/null can be opened"


def _watchdog(_examination: Examination) -> str | Problem:
    try:
        _core.probe_watchdog(timeout=TIMEOUT)
    except OSError as error:
        return _of_spawn(error)
    return "containers end with the calling process"


def _run(examination: Examination) -> str | Problem:
    def begin() -> Popen[Any]:
        return start(_LAUNCH, [_NO_COMMAND], {"cwd": "/"})

    broken = [row for row in examination.rows.values() if row.essential and not row.works]
    if any(examination.deadly(call) for call in ("clone", "memfd_create")):
        return examination._blocked(broken[0].name)
    found = _reaches_command(begin)
    if isinstance(found, Problem):
        # The row that names the cause has the better remedy.
        return found._replace(remedy=broken[0].remedy or found.remedy) if broken else found
    return "every step of minidocker.run, up to the command"


def _enter(_examination: Examination) -> str | Problem:
    try:
        process = _LAUNCH.spawn(Spec(), None, owner=None)
    except OSError as error:
        return _of_spawn(error)

    def begin() -> Popen[Any]:
        launch = Launch(enter=process.pid, timeout=TIMEOUT)
        return start(launch, [_NO_COMMAND], {"namespaces": NamespaceOptions.none(), "cwd": "/"})

    try:
        found = _reaches_command(begin)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        # Another thread may have reaped it.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
    return found or "running commands in a running container"


def _profile(name: Profile, examination: Examination) -> str | Problem:
    if any(examination.deadly(call) for call in ("clone", "memfd_create")):
        return examination._blocked("run")
    if name == "untrusted":
        failure = examination.probe("landlock")
        if failure is not None and failure.how == "killed":
            # The caller itself asks for the version, and the filter would kill it.
            return examination._blocked("landlock")

    def begin() -> Popen[Any]:
        return start(_LAUNCH, [_NO_COMMAND], {"profile": name, "cwd": "/"})

    found = _reaches_command(begin)
    if isinstance(found, Problem):
        return found
    if name == "docker":
        return "every step, up to the command"
    if not examination.rows["landlock"].works:
        return "every step; this kernel has no Landlock, which only repeats what the mounts enforce"
    if (_core.probe_landlock_version() or 0) < _SCOPES:
        return "every step; this Landlock has no scopes: share no namespace with it"
    return "every step, up to the command"


def _namespace(kind: Kind) -> Check:
    title = "mount namespace" if kind == "mount" else f"{kind.upper()} namespace"
    if kind in ("net", "cgroup", "time"):
        title = {"net": "network namespace"}.get(kind, f"{kind} namespace")
    return Check(
        name=kind,
        title=title,
        detail=ISOLATES[kind],
        essential=kind != "time",
        cause=causes.of_namespace(kind),
    )


CHECKS: tuple[Check, ...] = (
    Check(name="linux", title="Linux", essential=True, attempt=_linux),
    Check(name="proc", title="/proc", essential=True, attempt=_proc),
    Check(
        name="user",
        title="user namespace",
        detail=ISOLATES["user"],
        essential=True,
        cause=causes.of_user,
    ),
    Check(
        name="capabilities",
        title="capabilities inside",
        detail="root inside has the capabilities of root",
        essential=True,
        cause=causes.of_capabilities,
    ),
    *(_namespace(kind) for kind in KINDS if kind != "user"),
    Check(
        name="hostname",
        title="a hostname",
        detail="sethostname",
        needs=("uts",),
    ),
    Check(
        name="fresh-proc",
        title="a fresh /proc",
        detail="showing the new PID namespace",
        essential=True,
        needs=("pid", "mount"),
        cause=causes.of_fresh("/proc"),
    ),
    Check(
        name="fresh-sys",
        title="a fresh /sys",
        detail="showing the new network namespace",
        essential=True,
        needs=("net", "mount"),
        cause=causes.of_fresh("/sys"),
    ),
    Check(
        name="shared-memory",
        title="private shared memory",
        detail="/dev/shm and /dev/mqueue",
        essential=True,
        needs=("ipc", "mount"),
        cause=causes.of_mount,
    ),
    Check(
        name="loopback",
        title="loopback",
        detail="127.0.0.1 and ::1 in the new network",
        essential=True,
        needs=("net",),
    ),
    Check(
        name="ping",
        title="ping",
        detail="ICMP sockets without privileges",
        needs=("net", "pid", "mount", "fresh-proc"),
    ),
    Check(
        name="pidfd",
        title="pidfds",
        detail="pidfd_open and pidfd_send_signal",
        essential=True,
        cause=causes.since("5.3"),
    ),
    Check(
        name="close-range",
        title="closing descriptors",
        detail="close_range with CLOSE_RANGE_CLOEXEC",
        essential=True,
        cause=causes.since("5.11"),
    ),
    Check(
        name="memfd-exec",
        title="executing a memfd",
        essential=True,
        attempt=_memfd,
    ),
    Check(name="devices", title="device files", attempt=_devices),
    Check(
        name="watchdog",
        title="the watchdog",
        essential=True,
        needs=("memfd-exec", "pidfd"),
        attempt=_watchdog,
    ),
    Check(name="run", title="a container", essential=True, attempt=_run),
    Check(
        name="enter",
        title="entering a container",
        needs=("run", "memfd-exec"),
        attempt=_enter,
    ),
    Check(
        name="subordinate-ids",
        title="subordinate ids",
        detail='uid_map="auto"',
        needs=("user",),
        cause=of_subordinate_ids,
    ),
    Check(
        name="overlay",
        title="overlay",
        detail="writes to the root that are thrown away",
        needs=("mount",),
        cause=causes.of_overlay,
    ),
    Check(
        name="pivot-root",
        title="a root of its own",
        detail="pivot_root",
        needs=("mount",),
        cause=causes.of_pivot_root,
    ),
    Check(
        name="read-only",
        title="read-only subtrees",
        detail="mount_setattr",
        needs=("mount",),
        cause=causes.since("5.12"),
    ),
    Check(
        name="devpts",
        title="terminals of its own",
        detail="a new devpts",
        needs=("mount",),
        cause=causes.of_mount,
    ),
    Check(
        name="resolve-in-root",
        title="paths in a root",
        detail="openat2 with RESOLVE_IN_ROOT",
        cause=causes.since("5.6"),
    ),
    Check(
        name="seccomp",
        title="seccomp filters",
        detail="allowed and forbidden system calls",
        cause=causes.of_seccomp,
    ),
    Check(name="landlock", title="Landlock", attempt=_landlock),
    Check(
        name="profile-docker",
        title='profile="docker"',
        needs=("run", "devices", "read-only", "seccomp"),
        attempt=functools.partial(_profile, "docker"),
    ),
    Check(
        name="profile-untrusted",
        title='profile="untrusted"',
        needs=("run", "devices", "read-only", "seccomp"),
        attempt=functools.partial(_profile, "untrusted"),
    ),
    Check(
        name="pidfd-group",
        title="signals to a group by pidfd",
        detail="containers without a PID namespace end whole",
        cause=causes.since("6.9"),
    ),
    Check(
        name="unshare",
        title="unshare",
        detail="namespaces by hand, with minidocker.linux",
        cause=causes.of_unshare,
    ),
    *(
        Check(
            name=f"cgroup-{controller}",
            title=purpose,
            attempt=functools.partial(_control_group, controller),
        )
        for controller, purpose in CONTROLLERS.items()
    ),
)
"""Every check, in order: a check follows those that it needs."""


def _probe(name: str, user_namespace: bool, path: bytes | None) -> Failure | None:
    outcome = _core.probe(name, user_namespace=user_namespace, path=path, timeout=TIMEOUT)
    if outcome is None:
        return None
    how, call, number, filename = outcome
    return Failure(cast("causes.How", how), call, number, filename)


def examine() -> Report:
    """Make every check and return the report."""
    examination = Examination(Surroundings.gather(), _probe)
    for check in CHECKS:
        examination.make(check)
    return examination.report()
