"""Really broken surroundings: containers that lack something, with a doctor inside.

A test calls `report_in` with one of the functions below, which runs inside.
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
    """The report of a doctor that ran in another process."""

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
        """The names of the rows that do not work, except rows of control groups."""
        found = {name for name, row in self.rows.items() if row["status"] != "works"}
        return {name for name in found if not name.startswith("cgroup-")}


def report_in(surroundings: Callable[..., None], *arguments: str, **options: Any) -> Found:
    """Set up `surroundings` in a new container, and return the report of a doctor there."""
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r}); "
        "from support.surroundings import main; main()"
    )
    command = [sys.executable, "-c", code, surroundings.__name__, *map(str, arguments)]
    done = minidocker.run(command, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    return Found(json.loads(done.stdout))


def main() -> None:
    """Set up the surroundings that the command line names, and print the doctor's report."""
    # The surroundings may make the package's files unreachable: import them first.
    importlib.import_module("minidocker._doctor.checks")
    name, *arguments = sys.argv[1:]
    globals()[name](*arguments)
    print(json.dumps(minidocker.doctor().to_dict()))


def unbroken() -> None:
    """Change nothing."""


def mounts_of_any_name(*names: str) -> None:
    """Mount a tmpfs at a directory of each name, in hexadecimal."""
    linux.mount("tmpfs", "/tmp", "tmpfs")
    for name in names:
        path = os.fsdecode(b"/tmp/" + bytes.fromhex(name))
        os.mkdir(path)
        linux.mount(path, path, "tmpfs")


def masked_proc(target: str) -> None:
    """Mount a tmpfs over a part of /proc, as docker does."""
    linux.mount("tmpfs", target, "tmpfs")


def read_only(target: str) -> None:
    """Remount `target` read-only, as docker does with /sys."""
    linux.mount(None, target, None, MountFlags.REMOUNT | MountFlags.BIND | MountFlags.RDONLY)


def sysctl(name: str, value: str) -> None:
    """Set a kernel parameter of the container's own namespaces."""
    Path("/proc/sys", name.replace(".", "/")).write_text(value)


def chroot_to_mount(directory: str) -> None:
    """Change the root to a mount point that shows all of the host."""
    linux.mount("/", directory, None, MountFlags.BIND | MountFlags.REC)
    linux.chroot(directory)
    os.chdir("/")


def chroot_to_directory(directory: str) -> None:
    """Change the root to a directory that has a /proc and is not a mount point."""
    proc = Path(directory, "proc")
    proc.mkdir()
    linux.mount("proc", proc, "proc")
    linux.chroot(directory)
    os.chdir("/")


def chroot_to_nothing(directory: str) -> None:
    """Change the root to an empty directory."""
    linux.chroot(directory)
    os.chdir("/")


def not_dumpable(hide: str) -> None:
    """Change the user id, and so lose the dumpable attribute.

    With `hide`, /proc also hides processes that the caller may not trace.
    """
    if hide:
        linux.mount("proc", "/proc", "proc", data="hidepid=invisible")
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)


def unmapped() -> None:
    """Enter a user namespace that has no maps."""
    linux.unshare(CloneFlags.NEWUSER)


def file_over(target: str, content: str) -> None:
    """Bind a file with `content` over `target`."""
    # The bound file survives the removal of its name.
    with tempfile.NamedTemporaryFile("w", suffix=".bound") as file:
        file.write(content)
        file.flush()
        linux.mount(file.name, target, None, MountFlags.BIND)


def subordinate_rows_of_root() -> None:
    """Give root rows in /etc/subuid and /etc/subgid."""
    for file in ("/etc/subuid", "/etc/subgid"):
        file_over(file, "root:100000:65536\n")


def nothing_left() -> None:
    """Forbid user namespaces, and drop the privileges that would replace one."""
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
    """Return BPF instructions that answer one call, if its first argument has one of `flags`."""
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
    """Answer EPERM to namespaces and mounts, and ENOSYS to clone3(2)."""
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
    """Allow namespaces, and refuse mounts."""
    _install(_answer(_NUMBERS["mount"], _ERRNO | 1))


def filter_of_landlock(errno: str) -> None:
    """Answer to Landlock as a filter older than it does."""
    _install(_answer(_LANDLOCK, _ERRNO | int(errno)))


def filter_that_kills_for_landlock() -> None:
    """Kill a process that asks for Landlock."""
    _install(_answer(_LANDLOCK, _KILL_PROCESS))


def filter_that_kills() -> None:
    """Kill a process that asks for a new namespace or for Landlock."""
    _install(
        [
            *_answer(_NUMBERS["clone"], _KILL_PROCESS, _NAMESPACES),
            *_answer(_LANDLOCK, _KILL_PROCESS),
            *_answer(_NUMBERS["memfd_create"], _KILL_PROCESS),
        ]
    )


def filter_of_pidfds() -> None:
    """Answer ENOSYS to pidfd_open(2), as a filter older than that call does."""
    _install(_answer(_PIDFD_OPEN, _ERRNO | 38))
