"""Functions that tests call in containers, in a module that a clean interpreter can import."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import minidocker
from support.waiting import wait_until


class OwnError(Exception):
    """An exception with an attribute."""

    def __init__(self, *args: object, number: int = 0) -> None:
        super().__init__(*args)
        self.number = number


class NeedsAKeyword(Exception):
    """An exception that can be pickled but not unpickled."""

    def __init__(self, *, needed: str) -> None:
        super().__init__()
        self.needed = needed


def add(one: Any, other: Any = 1, *, more: Any = 0) -> Any:
    return one + other + more


def where() -> tuple[int, int, str]:
    """Return the pid, the parent's pid and the hostname."""
    return os.getpid(), os.getppid(), socket.gethostname()


def fail(*args: object, number: int = 0) -> NoReturn:
    raise OwnError(*args, number=number)


def fail_to_unpickle() -> NoReturn:
    raise NeedsAKeyword(needed="this")


def leave(code: Any) -> NoReturn:
    sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
    os._exit(code)


def die(number: int) -> None:
    # A handler of the test runner, such as faulthandler's, would write a report first.
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    time.sleep(10)


def sleep_marked(seconds: float, mark: str) -> None:
    """Sleep in a child whose arguments contain `mark`."""
    subprocess.run(["sh", "-c", f": {mark}; sleep {seconds}"], check=True)


def wait_for(path: str) -> None:
    """Wait until the test creates a file."""
    wait_until(Path(path).exists)


def write_to_both() -> int:
    print("to Python's stdout")
    print("to Python's stderr", file=sys.stderr)
    os.write(1, b"to descriptor 1\n")
    os.system("echo from a command")
    return 5


def write_much(size: int) -> int:
    os.write(2, b"e" * size)
    return os.write(1, b"o" * size)


def lock() -> Any:
    return threading.Lock()


def modules() -> set[str]:
    return set(sys.modules)


def surroundings() -> dict[str, Any]:
    return {
        "environ": dict(os.environ),
        "cwd": str(Path.cwd()),
        "path": list(sys.path),
        "argv": list(sys.argv),
    }


def exists(path: str) -> bool:
    return Path(path).exists()


def use_up_cpu(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    while True:
        pass


def call_again(function: Any, *args: Any) -> Any:
    return minidocker.call(function, *args)


STATE: list[Any] = []


def remember(value: Any) -> None:
    STATE.append(value)


def recall() -> list[Any]:
    return list(STATE)


@minidocker.isolated(hostname="decorated")
def decorated(value: int) -> tuple[int, str]:
    return value + 1, socket.gethostname()


class Laboratory:
    """A class with an isolated method."""

    def __init__(self, name: str) -> None:
        self.name = name

    @minidocker.isolated(hostname="method")
    def describe(self, suffix: str) -> str:
        return f"{self.name}{suffix} on {socket.gethostname()}"
