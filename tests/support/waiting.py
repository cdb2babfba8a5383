"""Wait for states instead of times, so that a busy machine does not fail a test."""

import contextlib
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

#: Seconds after which a wait fails; only a failing test waits this long.
DEADLINE = 30.0


def wait_until(condition: Callable[[], T], timeout: float = DEADLINE) -> T:
    """Wait until `condition()` is true, and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s there is still {value!r}")
        time.sleep(0.005)
    return value


def wait_while(condition: Callable[[], object], timeout: float = DEADLINE) -> None:
    """Wait until `condition()` is false; fail with its last value after the deadline."""
    deadline = time.monotonic() + timeout
    while value := condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s there is still {value!r}")
        time.sleep(0.005)


def state_of(pid: int) -> str:
    """Return the state of a process, proc_pid_stat(5): S is sleeping, T is stopped, X is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat.rpartition(")")[2].split()[0]


def wait_for_state(pid: int, *states: str) -> None:
    """Wait until a process is in one of `states`."""
    wait_until(lambda: state_of(pid) in states)


def descendants_of(pid: int) -> dict[int, list[str]]:
    """Return the descendants of a process: pid to command line."""
    found = {}
    # Any of them may end in the meantime.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # The kernel lists a child with the thread that started it.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                line = Path(f"/proc/{child}/cmdline").read_text(errors="replace")
                found[int(child)] = line.split("\0")[:-1]
                found |= descendants_of(int(child))
    return found


def wait_for_descendant(pid: int, *command: str) -> int:
    """Wait until a descendant of a process runs `command`, and return its pid."""

    def runs() -> list[int]:
        return [found for found, line in descendants_of(pid).items() if line == [*command]]

    return wait_until(runs)[0]


def is_full(pipe: IO[Any]) -> bool:
    """Return whether a pipe is full, given its read end: a writer would block."""
    writer = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)
