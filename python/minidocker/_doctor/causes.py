"""The cause of a failed check, and one remedy."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Literal, NamedTuple

from minidocker._doctor import outer

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._doctor.surroundings import Surroundings

__all__ = ["Failure", "Problem", "Witness"]

How = Literal["refused", "impossible", "killed", "hung"]
FilteredCall = Literal["clone", "unshare", "mount", "setns", "memfd_create"]


class Problem(NamedTuple):
    """The cause of a failure, and its remedy."""

    cause: str
    remedy: str


class Failure(NamedTuple):
    """The failure of a probe, as the core reports it."""

    how: How
    #: The call with its arguments, or the reason.
    call: str
    #: The error number, or the signal.
    number: int
    filename: str | None

    def __str__(self) -> str:
        match self.how:
            case "refused":
                name = errno.errorcode.get(self.number, str(self.number))
                return f"{self.call}: {os.strerror(self.number)} ({name})"
            case "killed":
                return f"the process that tried it was killed by {_signal_name(self.number)}"
            case "hung":
                return "it took longer than two seconds"
            case _:
                return self.call

    @property
    def errno(self) -> int:
        """The error number, or 0 if the probe failed in another way."""
        return self.number if self.how == "refused" else 0

    @property
    def denied(self) -> bool:
        """Whether permission was denied, rather than something missing."""
        return self.errno in (errno.EPERM, errno.EACCES)


class Witness(NamedTuple):
    """The facts from which causes are derived."""

    surroundings: Surroundings
    #: Tries whether a seccomp filter intercepts that call.
    filtered: Callable[[FilteredCall], bool]


NO_FALLBACK = "minidocker has no fallback for callers without user namespaces"

_LOG = "find in the kernel's log (dmesg) which policy denied it, and allow it there"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _of_filter(failure: Failure, around: Surroundings) -> Problem:
    remedy = outer.remedy(around, "filter") or (
        "let the filter allow clone, unshare, setns and mount (in a systemd unit: "
        "RestrictNamespaces=no)"
    )
    return Problem(f"a seccomp filter around the caller refuses it: {failure}", remedy)


def _of_label(failure: Failure, around: Surroundings) -> Problem:
    remedy = outer.remedy(around, "label") or f"let the policy of {around.label} allow it"
    return Problem(f"the security policy of {around.label} refuses it: {failure}", remedy)


def hung() -> Problem:
    """Return the problem of a step that takes too long."""
    return Problem(
        str(Failure("hung", "", 0, None)),
        "find with strace -f the call that hangs; a dead network file system can cause this",
    )


def general(failure: Failure, witness: Witness) -> Problem:
    """Return the cause of a failure that has no more specific function."""
    around = witness.surroundings
    match failure.how, failure.number:
        case "hung", _:
            return hung()
        case "killed", signal.SIGSYS:
            return _of_filter(failure, around)
        case "killed", _:
            return Problem(
                str(failure), "find the sender of the signal in the kernel's log (dmesg)"
            )
        case "refused", errno.EMFILE:
            remedy = "close some, or raise RLIMIT_NOFILE (ulimit -n)"
            return Problem(f"the process has too many open files: {failure}", remedy)
        case "refused", errno.ENFILE:
            return Problem(f"the system has too many open files: {failure}", "raise fs.file-max")
        case "refused", errno.EAGAIN:
            limit = "the limit of processes (RLIMIT_NPROC, or pids.max of the control group)"
            return Problem(f"{limit} is reached: {failure}", "end some processes or raise it")
        case "refused", errno.ENOMEM:
            return Problem(f"memory is short: {failure}", "end other processes, or add memory")
    if failure.errno == errno.ENOSYS:
        if around.engine == "gVisor":
            remedy = outer.remedy(around, "filter") or _LOG
            return Problem(f"gVisor has no such call: {failure}", remedy)
        if around.seccomp == 2:
            return _of_filter(failure, around)
        return Problem(f"this kernel has no such call: {failure}", "use a newer kernel")
    if failure.denied:
        if around.label is not None:
            return _of_label(failure, around)
        if around.seccomp == 2:
            return _of_filter(failure, around)
    return Problem(str(failure), _LOG)


def of_user(failure: Failure, witness: Witness) -> Problem:
    """Return why a new user namespace, or its id maps, cannot be made."""
    if failure.how == "refused" and not failure.call.startswith("clone"):
        return _of_maps(failure, witness)
    found = _of_clone(failure, witness)
    return found._replace(cause=f"{found.cause}. {NO_FALLBACK}")


def _of_clone(failure: Failure, witness: Witness) -> Problem:
    match failure.errno:
        case errno.ENOSPC | errno.EUSERS:
            return _of_limit("user", failure, witness)
        case errno.EINVAL:
            return _not_built("USER_NS", failure)
        case errno.EPERM | errno.EACCES | errno.ENOSYS if witness.filtered("clone"):
            return _of_filter(failure, witness.surroundings)
        case errno.EPERM | errno.EACCES:
            return _of_no_user(failure, witness)
    return general(failure, witness)


def of_unshare(failure: Failure, witness: Witness) -> Problem:
    """Return why unshare(2) of a user namespace is refused."""
    match failure.errno:
        case errno.ENOSPC | errno.EUSERS:
            return _of_limit("user", failure, witness)
        case errno.EINVAL:
            return _not_built("USER_NS", failure)
        case errno.EPERM | errno.EACCES | errno.ENOSYS if witness.filtered("unshare"):
            return _of_filter(failure, witness.surroundings)
        case errno.EPERM | errno.EACCES:
            return _of_no_user(failure, witness)
    return general(failure, witness)


def _of_no_user(failure: Failure, witness: Witness) -> Problem:
    around = witness.surroundings
    if around.chrooted:
        return Problem(
            f"the caller is in a chroot, where the kernel refuses new user namespaces: {failure}",
            "enter that directory by pivot_root instead of chroot (bwrap --bind DIR / does)",
        )
    if not around.ids_mapped:
        return Problem(
            f"the caller's own ids ({around.uid} and {around.gid}) are not mapped in its user "
            f"namespace: {failure}",
            "map them where that namespace is made (unshare --map-current-user)",
        )
    for name, wrong, right in (
        ("kernel.unprivileged_userns_clone", 0, 1),
        ("kernel.apparmor_restrict_unprivileged_userns", 1, 0),
    ):
        if around.sysctls.get(name) == wrong:
            return Problem(
                f"{name} is {wrong}, so plain users cannot make user namespaces: {failure}",
                f"as root: sysctl -w {name}={right}",
            )
    return general(failure, witness)


def _of_maps(failure: Failure, witness: Witness) -> Problem:
    around = witness.surroundings
    if around.proc != "own":
        return of_proc(around)
    if failure.denied and around.sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == 1:
        return _of_apparmor(failure)
    if not around.dumpable and failure.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
        return Problem(
            "the caller is not dumpable, as after a change of its user id, so that root owns its "
            f"child's files in /proc: {failure}",
            "call prctl(PR_SET_DUMPABLE, 1), or execute a new program after the change",
        )
    if failure.denied and around.is_root_without("SETFCAP"):
        return Problem(
            f"root without CAP_SETFCAP may not map its own id: {failure}",
            outer.remedy(around, "no-setfcap") or "start Python with CAP_SETFCAP",
        )
    if failure.errno == errno.EROFS:
        cause = f"/proc is mounted read-only, so id maps cannot be written: {failure}"
        remedy = outer.remedy(around, "read-only-proc") or "mount -o remount,rw /proc"
        return Problem(cause, remedy)
    return general(failure, witness)


def _of_apparmor(failure: Failure) -> Problem:
    name = "kernel.apparmor_restrict_unprivileged_userns"
    return Problem(
        f"AppArmor lets plain users make user namespaces, but without capabilities ({name} "
        f"is 1, as on Ubuntu since 24.04): {failure}",
        f"as root: sysctl -w {name}=0",
    )


def of_capabilities(failure: Failure, witness: Witness) -> Problem:
    """Return why a user namespace gives no capabilities."""
    around = witness.surroundings
    if failure.denied:
        if around.sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == 1:
            return _of_apparmor(failure)
        if witness.filtered("mount"):
            return _of_filter(failure, around)
    return general(failure, witness)


def _of_limit(kind: str, failure: Failure, witness: Witness) -> Problem:
    name = f"user.max_{kind}_namespaces"
    limit = witness.surroundings.sysctls.get(name)
    if limit == 0:
        cause, value = f"{name} is 0, so such namespaces cannot be made", 15000
    else:
        shown = "of unknown value" if limit is None else f"{limit}"
        cause = (
            f"{name} ({shown}) is reached here or in an outer namespace, or 32 levels of nesting"
        )
        value = max(15000, 2 * (limit or 0))
    remedy = f"as root: sysctl -w {name}={value}"
    if kind == "user":
        remedy = outer.remedy(witness.surroundings, "no-user-namespaces") or remedy
    return Problem(f"{cause}: {failure}", remedy)


def _not_built(option: str, failure: Failure) -> Problem:
    return Problem(
        f"this kernel was built without CONFIG_{option}: {failure}",
        f"boot a kernel that has CONFIG_{option}=y",
    )


_BUILT = {"uts": "UTS_NS", "ipc": "IPC_NS", "pid": "PID_NS", "net": "NET_NS", "time": "TIME_NS"}
_LIMITED = {"mount": "mnt"}


def of_namespace(kind: str) -> Callable[[Failure, Witness], Problem]:
    """Return a function that finds why a namespace of this kind cannot be made."""

    def cause(failure: Failure, witness: Witness) -> Problem:
        call: FilteredCall = "unshare" if kind == "time" else "clone"
        match failure.errno:
            case errno.ENOSPC:
                return _of_limit(_LIMITED.get(kind, kind), failure, witness)
            case errno.EINVAL if failure.call.startswith(("clone", "unshare")):
                return _not_built(_BUILT.get(kind, "NAMESPACES"), failure)
            case errno.EINVAL if witness.surroundings.chrooted:
                return Problem(
                    f"the caller's root directory is not a mount point, as after chroot: {failure}",
                    "make it one before the chroot: mount --bind DIR DIR",
                )
            case errno.EPERM | errno.EACCES | errno.ENOSYS if witness.filtered(call):
                return _of_filter(failure, witness.surroundings)
        return general(failure, witness)

    return cause


def of_proc(around: Surroundings) -> Problem:
    """Return the problem of a /proc that is missing or shows another PID namespace."""
    if around.proc == "missing":
        return Problem("/proc is not mounted", "mount -t proc proc /proc")
    return Problem(
        "/proc shows another PID namespace than the caller's",
        outer.PROC_OF_ITS_OWN,
    )


def of_fresh(base: Literal["/proc", "/sys"]) -> Callable[[Failure, Witness], Problem]:
    """Return a function that finds why a proc or sysfs cannot be mounted.

    The kernel refuses the mount if another mount hides a part of the caller's own one.
    """

    def cause(failure: Failure, witness: Witness) -> Problem:
        around = witness.surroundings
        if failure.errno not in (errno.EPERM, errno.EACCES):
            return general(failure, witness)
        if witness.filtered("mount"):
            return _of_filter(failure, around)
        if found := outer.hiding(around.mounts, base):
            return Problem(
                f"mounts hide parts of the caller's {base}, which a fresh one would show: "
                f"{outer.show_mounts(found)}: {failure}",
                outer.remedy(around, "masks") or f"umount {found[0].target}",
            )
        return general(failure, witness)

    return cause


def of_devices(failure: Failure, witness: Witness) -> Problem:
    """Return why a device file cannot be opened."""
    if failure.errno != errno.EACCES:
        return Problem(
            f"{failure.filename}: {failure}", "make /dev complete: mount a devtmpfs there"
        )
    return Problem(
        f"the caller's /dev is mounted with nodev, so its devices do not work: {failure}",
        outer.remedy(witness.surroundings, "nodev") or "mount -o remount,dev /dev",
    )


def of_memfd(failure: Failure, witness: Witness) -> Problem:
    """Return why a memfd cannot be executed."""
    if failure.errno == errno.EACCES and witness.surroundings.sysctls.get("vm.memfd_noexec") == 2:
        return Problem(
            f"vm.memfd_noexec is 2, so nothing can be executed from memory: {failure}",
            "as root, in the same PID namespace: sysctl -w vm.memfd_noexec=1",
        )
    return general(failure, witness)


def of_overlay(failure: Failure, witness: Witness) -> Problem:
    """Return why an overlay cannot be mounted in a user namespace."""
    match failure.errno:
        case errno.ENODEV:
            return Problem(f"this kernel has no overlay: {failure}", "as root: modprobe overlay")
        case errno.EINVAL | errno.EPERM if not witness.filtered("mount"):
            return Problem(
                f"this kernel cannot mount an overlay in a user namespace: {failure}",
                "use Linux 5.11 or newer",
            )
    return of_mount(failure, witness)


def of_mount(failure: Failure, witness: Witness) -> Problem:
    """Return why a mount is refused."""
    if failure.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS) and witness.filtered("mount"):
        return _of_filter(failure, witness.surroundings)
    return general(failure, witness)


def of_pivot_root(failure: Failure, witness: Witness) -> Problem:
    """Return why pivot_root(2) fails."""
    if failure.errno == errno.EINVAL:
        return Problem(
            f"the caller's root is the kernel's initial one, or a chroot: {failure}",
            "start the system from a mounted root (switch_root out of the initramfs)",
        )
    return of_mount(failure, witness)


def since(release: str) -> Callable[[Failure, Witness], Problem]:
    """Return a function that finds why a call, or a flag, of a Linux release fails."""

    def cause(failure: Failure, witness: Witness) -> Problem:
        missing = failure.errno in (errno.ENOSYS, errno.EINVAL)
        if missing and witness.surroundings.seccomp != 2:
            return Problem(
                f"this kernel does not support it: {failure}", f"use Linux {release} or newer"
            )
        return general(failure, witness)

    return cause


def of_seccomp(failure: Failure, witness: Witness) -> Problem:
    """Return why seccomp filters do not work."""
    if failure.errno in (errno.EINVAL, errno.ENOSYS) and witness.surroundings.seccomp != 2:
        return _not_built("SECCOMP_FILTER", failure)
    return general(failure, witness)


def of_landlock(failure: Failure, witness: Witness, *, lacking: bool) -> Problem:
    """Return why Landlock does not work. `lacking`: whether the kernel itself has none."""
    match failure.errno:
        case errno.EOPNOTSUPP if lacking:
            return Problem(
                f"Landlock is built in but switched off: {failure}",
                "add landlock to the kernel's boot parameter lsm=",
            )
        case errno.ENOSYS if lacking:
            return _not_built("SECURITY_LANDLOCK", failure)
        case errno.EPERM | errno.EACCES | errno.ENOSYS | errno.EOPNOTSUPP:
            remedy = outer.remedy(witness.surroundings, "filter") or (
                "let the filter allow the calls landlock_* and lsm_list_modules "
                "(in a systemd unit: SystemCallFilter=@sandbox lsm_list_modules)"
            )
            return Problem(f"a seccomp filter around the caller refuses it: {failure}", remedy)
    return general(failure, witness)
