"""What was made ahead for the next container, as the process that it is for finds it."""

import os
import socket
import struct
import time


def spare() -> dict[str, str] | None:
    """The namespaces that wait for this process, without taking them: `{"user": "user:[…]", …}`."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                space = socket.CMSG_SPACE(4 * 16)
                flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                _, rights, *_ = one.recvmsg(1, space, flags)
        except OSError:
            continue
        for *_, data in rights:
            numbers = struct.unpack(f"{len(data) // 4}i", data)
            names = [os.readlink(f"/proc/self/fd/{each}") for each in numbers]
            for each in numbers:
                os.close(each)
            return {name.partition(":")[0]: name for name in names if name[-2].isdigit()}
    return None


def wait_for_spare(seconds: float = 5.0) -> dict[str, str]:
    """The same, once something has been made."""
    deadline = time.monotonic() + seconds
    while not (found := spare()):
        assert time.monotonic() < deadline, "nothing was made"
        time.sleep(0.002)
    return found


def wait_for_none(seconds: float) -> None:
    """Wait until nothing waits any more."""
    deadline = time.monotonic() + seconds
    while spare():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.01)


def identities(pid: int | str) -> dict[str, str]:
    """Those of a process, in the same form."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net", "ipc")}
