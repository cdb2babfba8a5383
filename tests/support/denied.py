"""Deny system calls to this process, as the seccomp filter of an outer container would."""

import ctypes
import os
import platform
import re
import struct
from pathlib import Path

from support.places import REPOSITORY

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
KILL_PROCESS = 0x80000000

#: Allow every call of a program at addresses from 4 GiB on.
_SKIP_UNLESS_LOW = [(0x20, 0, 0, 12), (0x15, 1, 0, 0), (0x06, 0, 0, ALLOW)]

NUMBERS = {
    "x86_64": {
        "mount": 165,
        "waitid": 247,
        "unshare": 272,
        "splice": 275,
        "prlimit64": 302,
        "statfs": 137,
        "pidfd_open": 434,
        "clone3": 435,
        "close_range": 436,
    },
    "aarch64": {
        "mount": 40,
        "waitid": 95,
        "unshare": 97,
        "splice": 76,
        "prlimit64": 261,
        "statfs": 43,
        "pidfd_open": 434,
        "clone3": 435,
        "close_range": 436,
    },
}

#: The same on both.
NUMBERS_OF_LANDLOCK = {
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "lsm_list_modules": 461,
}


#: A line of the list of numbers in init/src/raw.rs: a name, its numbers on x86-64 and on AArch64.
_ROW = re.compile(r"^ {4}([A-Z0-9_]+) = (\d+), (\d+);$", re.MULTILINE)


def calls_of_the_helper() -> dict[str, int]:
    """Return the system calls that the helper makes on its own: lower-case name to number."""
    column = 2 if platform.machine() == "x86_64" else 3
    text = Path(REPOSITORY, "init/src/raw.rs").read_text()
    return {row[1].lower(): int(row[column]) for row in _ROW.finditer(text)}


def deny(name: str, errno: int, *, argument: tuple[int, int] | None = None) -> None:
    """Make a system call fail with `errno` from now on, in this process and its children.

    With `argument`, an index and a value, only calls with that argument fail.
    """
    number = NUMBERS[platform.machine()][name]
    compare = _compare(number, errno)
    if argument is not None:
        index, value = argument
        # The lower half of a 64-bit argument, in little-endian order.
        compare[2:2] = [(0x20, 0, 0, 16 + 8 * index), (0x15, 0, 1, value)]
        compare[1] = (0x15, 0, 3, number)
    _install(*compare)


def deny_number(number: int, errno: int) -> None:
    """Do the same for a system call with this number."""
    _install(*_compare(number, errno))


def deny_helpers(number: int, errno: int) -> None:
    """Do the same only for programs at addresses below 4 GiB: the helper, which is static."""
    _install(*_SKIP_UNLESS_LOW, *_compare(number, errno))


def kill_helpers(number: int) -> None:
    """Make the system call end a helper."""
    _install(*_SKIP_UNLESS_LOW, *_compare(number, 0, KILL_PROCESS))


def _compare(number: int, errno: int, action: int = ERRNO) -> list[tuple[int, int, int, int]]:
    """Return instructions of a classic BPF program that compares the call's number."""
    return [
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (0x06, 0, 0, action | errno),
        (0x06, 0, 0, ALLOW),
    ]


def _install(*instructions: tuple[int, int, int, int]) -> None:
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(buffer))
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0),
    ):
        if prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
