"""Attempts to escape from a container, and their outcomes.

An attempt is a Python program that runs inside. It reports each action as `escaped` (it succeeded)
or `held` (the kernel refused it), so a program that dies early proves nothing.
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import minidocker

PROFILES = ("docker", "untrusted")
IS_ROOT = os.geteuid() == 0

PRELUDE = """
import ctypes, errno, fcntl, os, socket, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
X86, ARM = 0, 1
COLUMN = ARM if os.uname().machine == "aarch64" else X86
NUMBERS = {
    "add_key": (248, 217), "bpf": (321, 280), "capset": (126, 91), "chroot": (161, 51),
    "clone": (56, 220), "clone3": (435, 435), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fsopen": (430, 430), "io_uring_setup": (425, 425), "ioctl": (16, 29), "kcmp": (312, 272),
    "keyctl": (250, 219), "kill": (62, 129), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "perf_event_open": (298, 241), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pivot_root": (155, 41), "prctl": (157, 167),
    "process_vm_readv": (310, 270), "ptrace": (101, 117), "request_key": (249, 218),
    "setns": (308, 268), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
}

def text(value):
    return ctypes.c_char_p(value.encode())

def call(name, *args):
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = libc.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result

def escaped(what):
    print("escaped:", what, flush=True)

def held(what, why=""):
    print("held:", what, why, flush=True)

def attempt(what, act, *args):
    # Only a refusal by the kernel counts as held.
    try:
        act(*args)
    except OSError as error:
        held(what, errno.errorcode.get(error.errno, error))
    else:
        escaped(what)

def reaches(what, *args):
    # A seccomp filter refuses with one of these two errors; any other means the call got through.
    try:
        call(what, *args)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            return held(what, errno.errorcode[error.errno])
    escaped(what)

def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)

def opens(path, flags):
    attempt(path, lambda: os.close(os.open(path, flags | os.O_CLOEXEC)))
"""


@dataclass(frozen=True)
class Outcome:
    """The report of an attempt."""

    escaped: list[str]
    held: list[str]
    complaint: str

    def __str__(self) -> str:
        return f"escaped: {self.escaped}\nheld: {self.held}\n{self.complaint}"


def interpreter() -> str:
    """Return a Python that every profile shows: one below /usr, not in a home or in /tmp."""
    for candidate in (sys._base_executable, "/usr/bin/python3"):  # type: ignore[attr-defined]
        real = Path(candidate).resolve()
        if real.exists() and real.is_relative_to("/usr"):
            return str(real)
    pytest.skip("there is no Python below /usr, and homes are hidden from untrusted code")


def landlock_abi() -> int:
    """Return the version of the kernel's Landlock ABI; 0 without Landlock."""
    create_ruleset, version = 444, 1
    answer = ctypes.CDLL(None).syscall(
        ctypes.c_long(create_ruleset), None, ctypes.c_long(0), ctypes.c_long(version)
    )
    return max(0, int(answer))


def python_root(directory: Path) -> dict[str, Any]:
    """Return options for a separate root that has the host's /usr, so that Python runs there."""
    for name in ("etc", "usr", "tmp", "var/tmp", "run", "root", "dev", "proc", "sys", "home"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (directory / name).symlink_to(f"usr/{name}")
    directory.chmod(0o755)
    return {"rootfs": directory, "mounts": [minidocker.Mount("/usr", "/usr", read_only=True)]}


def apart(profile: str, directory: Path) -> dict[str, Any]:
    """Return options that give the container files of its own instead of the host's.

    "untrusted" makes a root by itself; "docker" needs a root file system, as docker does.
    """
    return {} if profile == "untrusted" else python_root(directory)


def program(code: str) -> list[str]:
    """Return the command line of an attempt."""
    return [interpreter(), "-I", "-S", "-c", PRELUDE + code]


def attack(code: str, *, start: Any = minidocker.run, **options: Any) -> Outcome:
    """Make an attempt in a container that `start` runs."""
    options.setdefault("env", {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    done = start(program(code), capture_output=True, text=True, timeout=60, **options)
    lines = done.stdout.splitlines()
    return Outcome(
        escaped=[line.partition(": ")[2] for line in lines if line.startswith("escaped: ")],
        held=[line.partition(": ")[2] for line in lines if line.startswith("held: ")],
        complaint=f"exit {done.returncode}\n{done.stderr}",
    )


def assert_held(code: str, **options: Any) -> None:
    """Fail unless the attempt tries something and the kernel refuses all of it."""
    outcome = attack(code, **options)
    assert not outcome.escaped, str(outcome)
    assert outcome.held, str(outcome)


def assert_escapes(code: str, **options: Any) -> None:
    """Fail unless the attempt tries something and all of it succeeds: the positive control."""
    outcome = attack(code, **options)
    assert outcome.escaped, str(outcome)
    assert not outcome.held, str(outcome)
