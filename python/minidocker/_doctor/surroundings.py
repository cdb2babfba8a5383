"""The machine and the caller: the facts from which causes of failures are derived.

This module does not decide what works.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import sys
from typing import TYPE_CHECKING, Literal

from minidocker._doctor.outer import Engine, engine_of_ancestors, is_minidocker
from minidocker._inspect import kernel_text, proc

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minidocker._inspect.proc import MountEntry

__all__ = ["Surroundings"]

LIMITS = tuple(proc.KINDS.values())
"""The namespaces that ``/proc/sys/user/max_*_namespaces`` limits."""

_GVISOR = "Sun Jan 10 15:06:54 PST 2016"
"""The build date in the version of gVisor's own kernel."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """The machine and the caller.

    Attributes:
        system: operating system, release, machine.
        uid: effective user id.
        gid: effective group id.
        ids_mapped: whether both are mapped in the caller's own user namespace.
        proc: ``"own"`` if /proc shows the caller's PID namespace, ``"foreign"`` if it shows another
            one, or ``"missing"``.
        dumpable: whether the caller's files in /proc are its own, prctl(2), ``PR_SET_DUMPABLE``.
        chrooted: whether the caller's root directory differs from its mount namespace's root.
        seccomp: 0 without seccomp, 1 in strict mode, 2 with a filter; None if /proc has no such
            field.
        effective: the capabilities in effect, a bit for each; None if /proc has no such field.
        bounding: the capabilities that a program can gain, likewise.
        no_new_privileges: whether set-user-ID programs gain no privileges.
        label: the security module's label of the caller, if it confines the caller.
        engine: the container engine that runs the caller, if it can be detected.
        sysctls: the relevant sysctls that exist, such as ``"kernel.unprivileged_userns_clone"``.
        mounts: the caller's mounts.
    """

    system: str = ""
    uid: int = 0
    gid: int = 0
    ids_mapped: bool = True
    proc: Literal["own", "foreign", "missing"] = "own"
    dumpable: bool = True
    chrooted: bool = False
    seccomp: int | None = 0
    effective: int | None = None
    bounding: int | None = None
    no_new_privileges: bool = False
    label: str | None = None
    engine: Engine | None = None
    sysctls: Mapping[str, int] = dataclasses.field(default_factory=dict)
    mounts: tuple[MountEntry, ...] = ()

    @classmethod
    def gather(cls) -> Surroundings:
        """Read the facts from the system."""
        mounts = _mounts()
        uid, gid = os.geteuid(), os.getegid()
        status = _status()
        seccomp = status.get("Seccomp")
        return cls(
            system=system(),
            uid=uid,
            gid=gid,
            ids_mapped=_maps("uid", uid) and _maps("gid", gid),
            proc=_whose_proc(),
            dumpable=_is_dumpable(uid),
            chrooted=_is_chrooted(),
            seccomp=None if seccomp is None else int(seccomp),
            effective=_bits(status, "CapEff"),
            bounding=_bits(status, "CapBnd"),
            no_new_privileges=status.get("NoNewPrivs") == "1",
            label=_label(),
            engine=_engine(mounts),
            sysctls=_sysctls(),
            mounts=mounts,
        )

    def is_root_without(self, name: str) -> bool:
        """Return whether the caller is root and lacks the capability ``CAP_`` ``name``."""
        return self.uid == 0 and _lacks(self.effective, name)

    def cannot_gain(self, name: str) -> bool:
        """Return whether no program of the caller can gain the capability ``CAP_`` ``name``."""
        return _lacks(self.bounding, name)

    def phrases(self) -> tuple[str, ...]:
        """Return one phrase for each fact that the report shows."""
        found = [self.system, f"user {self.uid}, group {self.gid}"]
        if self.engine is not None:
            found.append(f"inside {self.engine}")
        if self.chrooted:
            found.append("in a chroot")
        if self.seccomp == 2:
            found.append("behind a seccomp filter")
        if self.no_new_privileges:
            found.append("without new privileges")
        if self.label is not None:
            found.append(f"labelled {self.label}")
        return tuple(found)


def system() -> str:
    """Return operating system, release and machine."""
    return f"{platform.system()} {platform.release()} on {platform.machine()}"


def _text(path: str) -> str | None:
    """Return the content of a small file; None if it cannot be read."""
    try:
        return kernel_text.read(path)
    except OSError:
        return None


def _status() -> Mapping[str, str]:
    try:
        return proc.status()
    except OSError:
        return {}


def _bits(status: Mapping[str, str], field: str) -> int | None:
    value = status.get(field)
    return None if value is None else int(value, 16)


def _lacks(bits: int | None, name: str) -> bool:
    return bits is not None and not bits >> proc.CAPABILITIES.index(f"CAP_{name}") & 1


def _mounts() -> tuple[MountEntry, ...]:
    try:
        return tuple(proc.mounts())
    except OSError:
        return ()


def _maps(kind: Literal["uid", "gid"], number: int) -> bool:
    try:
        rows = proc.id_map("self", kind)
    except OSError:
        # Without /proc, assume that the id is mapped.
        return True
    return any(row.inside <= number < row.inside + row.length for row in rows)


def _whose_proc() -> Literal["own", "foreign", "missing"]:
    try:
        own = os.readlink("/proc/self")
    except OSError:
        # The link is broken in a proc of a PID namespace without this process.
        return "foreign" if os.path.exists("/proc/version") else "missing"
    return "own" if own == str(os.getpid()) else "foreign"


def _is_dumpable(uid: int) -> bool:
    try:
        return os.stat("/proc/self/environ").st_uid == uid
    except OSError:
        # Without /proc, assume so.
        return True


def _is_chrooted() -> bool:
    if _core.probe_root_is_a_mount() is False:
        return True
    own = _mount_points("self")
    if not own:
        return False
    root = next((number for number, target in own.items() if target == "/"), None)
    if root is None:
        return True
    # In a chroot to a mount point, processes outside see that mount at another path.
    others = (_mount_points(pid) for pid in ("1", str(os.getppid())))
    return any(other.get(root, "/") != "/" for other in others)


def _mount_points(pid: str) -> dict[str, str]:
    """Return a mapping from mount id to mount point, the topmost mount first."""
    try:
        rows = proc.mount_fields(pid)
    except OSError:
        return {}
    return {fields[0]: fields[4] for fields in reversed(rows)}


def _label() -> str | None:
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        label = (_text(path) or "").strip().strip("\0")
        if label:
            return None if label.startswith(("unconfined", "kernel")) else label
    return None


def _engine(mounts: tuple[MountEntry, ...]) -> Engine | None:
    version = _text("/proc/version") or ""
    # The engines but docker set this variable for the first process.
    named = (_text("/run/systemd/container") or os.environ.get("container", "")).strip()  # noqa: SIM112
    if _GVISOR in version:
        return "gVisor"
    # The innermost container counts, and these may be started in one of the others.
    if is_minidocker(mounts):
        return "minidocker"
    if (starter := engine_of_ancestors()) is not None:
        return starter
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    # A virtual machine made from an image has these files too, but a whole disk as its root.
    root = next((entry for entry in reversed(mounts) if entry.target == "/"), None)
    disk = root is not None and root.source.startswith("/dev/") and root.root == "/"
    for engine, sign in (("podman", "/run/.containerenv"), ("docker", "/.dockerenv")):
        if named == engine or (os.path.exists(sign) and not disk):
            return "podman" if engine == "podman" else "docker"
    if named == "systemd-nspawn":
        return "systemd-nspawn"
    if named.startswith("lxc"):
        return "lxc"
    return "WSL" if "microsoft" in version.lower() else None


def _sysctls() -> dict[str, int]:
    names = [
        "kernel.unprivileged_userns_clone",
        "kernel.apparmor_restrict_unprivileged_userns",
        "vm.memfd_noexec",
        *(f"user.max_{kind}_namespaces" for kind in LIMITS),
    ]
    found = {}
    for name in names:
        # A file may be missing, or have any content if another file is mounted over it.
        with contextlib.suppress(ValueError):
            found[name] = int(_text(f"/proc/sys/{name.replace('.', '/')}") or "none")
    return found
