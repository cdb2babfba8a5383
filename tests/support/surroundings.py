"""Broken surroundings, made for real: a container in which something is wrong, and a doctor in it.

The functions below run inside; `report_in` is what a test calls.
"""

import ctypes
import importlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minidocker
from minidocker import linux
from minidocker.linux import CloneFlags, MountFlags
from support.places import TESTS


class Found:
    """The report of a doctor who was somewhere else."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in report["rows"]}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.rows[name]

    @property
    def failing(self) -> set[str]:
        """The names of the essential rows that fail."""
        return {name for name, row in self.rows.items() if row["status"] == "fails"}

    @property
    def not_working(self) -> set[str]:
        """The names of all rows that do not work, other users' control groups left out."""
        found = {name for name, row in self.rows.items() if row["status"] != "works"}
        return {name for name in found if not name.startswith("cgroup-")}


def report_in(surroundings: Callable[..., None], *arguments: str, **options: Any) -> Found:
    """Make `surroundings` in a container of its own, and ask a doctor there."""
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); "
        "from support.surroundings import main; main()"
    )
    command = [sys.executable, "-c", code, surroundings.__name__, *map(str, arguments)]
    done = minidocker.run(command, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    return Found(json.loads(done.stdout))


def main() -> None:
    """Make the surroundings that the command line names, and print what the doctor finds there."""
    # What is imported late could be out of reach by then.
    importlib.import_module("minidocker._doctor.checks")
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
    print(json.dumps(minidocker.doctor().to_dict()))


def unbroken() -> None:
    """A container as it is."""


def masked_proc(target: str) -> None:
    """Something is mounted over a part of /proc, as docker does."""
    linux.mount("tmpfs", target, "tmpfs")


def read_only(target: str) -> None:
    """A mount that is read-only, as docker's /sys is."""
    linux.mount(None, target, None, MountFlags.REMOUNT | MountFlags.BIND | MountFlags.RDONLY)


def sysctl(name: str, value: str) -> None:
    """A kernel parameter of the container's own namespaces."""
    Path("/proc/sys", name.replace(".", "/")).write_text(value)


def chroot_to_mount(directory: str) -> None:
    """A chroot to a mount point: everything is there."""
    linux.mount("/", directory, None, MountFlags.BIND | MountFlags.REC)
    linux.chroot(directory)
    os.chdir("/")


def chroot_to_directory(directory: str) -> None:
    """A chroot to a plain directory, with a /proc."""
    proc = Path(directory, "proc")
    proc.mkdir()
    linux.mount("proc", proc, "proc")
    linux.chroot(directory)
    os.chdir("/")


def chroot_to_nothing(directory: str) -> None:
    """A chroot to an empty directory."""
    linux.chroot(directory)
    os.chdir("/")


def unmapped() -> None:
    """A user namespace that nobody has written maps for."""
    linux.unshare(CloneFlags.NEWUSER)


def file_over(target: str, content: str) -> None:
    """A file with another content."""
    # The file itself can go once it is bound.
    with tempfile.NamedTemporaryFile("w", suffix=".bound") as file:
        file.write(content)
        file.flush()
        linux.mount(file.name, target, None, MountFlags.BIND)


def subordinate_rows_of_root() -> None:
    """Rows of /etc/subuid and /etc/subgid that give root ids of its own."""
    for file in ("/etc/subuid", "/etc/subgid"):
        file_over(file, "root:100000:65536\n")


def nothing_left() -> None:
    """No user namespace, and no privilege that could do without one."""
    sysctl("user.max_user_namespaces", "0")
    os.setresgid(1, 1, 1)
    os.setresuid(1, 1, 1)


# --- seccomp -------------------------------------------------------------------------------------

_NUMBERS = {
    "x86_64": {"clone": 56, "mount": 165, "unshare": 272, "setns": 308, "memfd_create": 319},
    "aarch64": {"clone": 220, "mount": 40, "unshare": 97, "setns": 268, "memfd_create": 279},
}[os.uname().machine]
_CLONE3, _PIDFD_OPEN, _LANDLOCK = 435, 434, 444
#: The bits that docker's profile looks for in the flags of clone(2).
_NAMESPACES = 0x7E020000

_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


def _answer(number: int, action: int, flags: int = 0) -> list[tuple[int, int, int, int]]:
    """Instructions that answer one call, where its first argument has one of `flags`."""
    if not flags:
        return [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, action)]
    return [
        (_JUMP_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, 16),
        (_JUMP_SET, 0, 1, flags),
        (_RETURN, 0, 0, action),
        (_LOAD, 0, 0, 0),
    ]


def _install(answers: list[tuple[int, int, int, int]]) -> None:
    program = [(_LOAD, 0, 0, 0), *answers, (_RETURN, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    filtered = ctypes.create_string_buffer(
        struct.pack("@HxxxxxxQ", len(program), ctypes.addressof(buffer))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((38, 1, 0, 0, 0), (22, 2, filtered, 0, 0)):
        # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


def filtered_as_docker_does() -> None:
    """EPERM for namespaces and mounts, ENOSYS for clone3."""
    eperm = _ERRNO | 1
    _install(
        [
            *_answer(_NUMBERS["clone"], eperm, _NAMESPACES),
            *_answer(_NUMBERS["mount"], eperm),
            *_answer(_NUMBERS["unshare"], eperm),
            *_answer(_NUMBERS["setns"], eperm),
            *_answer(_CLONE3, _ERRNO | 38),
        ]
    )


def filter_of_mounts() -> None:
    """Namespaces may be made, but nothing may be mounted."""
    _install(_answer(_NUMBERS["mount"], _ERRNO | 1))


def filter_that_kills() -> None:
    """A process that asks for a new namespace, or for Landlock, is killed."""
    _install(
        [
            *_answer(_NUMBERS["clone"], _KILL_PROCESS, _NAMESPACES),
            *_answer(_LANDLOCK, _KILL_PROCESS),
            *_answer(_NUMBERS["memfd_create"], _KILL_PROCESS),
        ]
    )


def filter_of_pidfds() -> None:
    """A filter that is older than pidfds."""
    _install(_answer(_PIDFD_OPEN, _ERRNO | 38))
