"""Wait for a state, however busy the machine is."""

import contextlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

#: Seconds. A state that takes longer does not come: only a failing test waits for so long.
DEADLINE = 30.0


def wait_until(condition: Callable[[], T], timeout: float = DEADLINE) -> T:
    """Wait until `condition()` is true, and return what it returned."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s there is still {value!r}")
        time.sleep(0.005)
    return value


def wait_while(condition: Callable[[], object], timeout: float = DEADLINE) -> None:
    """Wait until `condition()` is false; fail with what it returned."""
    deadline = time.monotonic() + timeout
    while value := condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s there is still {value!r}")
        time.sleep(0.005)


def state_of(pid: int) -> str:
    """The state of a process, proc_pid_stat(5): S sleeps, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]


def wait_for_state(pid: int, *states: str) -> None:
    """Wait until a process is in one of `states`."""
    wait_until(lambda: state_of(pid) in states)


def descendants_of(pid: int) -> dict[int, list[str]]:
    """The processes below one: pid to command line."""
    found = {}
    # Each may end meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_text(errors="replace")
            found[int(child)] = line.split("\0")[:-1]
            found |= descendants_of(int(child))
    return found


def wait_for_descendant(pid: int, *command: str) -> int:
    """Wait until a process below one runs `command`, and return its pid."""

    def runs() -> list[int]:
        return [found for found, line in descendants_of(pid).items() if line == [*command]]

    return wait_until(runs)[0]


def is_full(pipe: IO[Any]) -> bool:
    """Whether whoever writes to a pipe that is read here has to wait."""
    writer = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)
