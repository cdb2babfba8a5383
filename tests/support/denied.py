"""Deny system calls to this process, as the seccomp filter of an outer container would."""

import ctypes
import os
import platform
import struct

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
ERRNO = 0x00050000

NUMBERS = {
    "x86_64": {
        "mount": 165,
        "unshare": 272,
        "splice": 275,
        "pidfd_open": 434,
        "clone3": 435,
        "close_range": 436,
    },
    "aarch64": {
        "mount": 40,
        "unshare": 97,
        "splice": 76,
        "pidfd_open": 434,
        "clone3": 435,
        "close_range": 436,
    },
}


def deny(name: str, errno: int) -> None:
    """Make a system call fail with `errno` from now on, in this process and its children."""
    number = NUMBERS[platform.machine()][name]
    # A classic BPF program: load the call's number, compare it, and return one of two actions.
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),
            (0x15, 0, 1, number),
            (0x06, 0, 0, ERRNO | errno),
            (0x06, 0, 0, ALLOW),
        )
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0),
    ):
        if prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
