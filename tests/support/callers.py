"""A separate Python process that uses minidocker, so that a test can kill the caller."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRELUDE = """
import ctypes, os, random, signal, sys, threading, time
import minidocker
from minidocker import NamespaceOptions

PR_SET_CHILD_SUBREAPER = 36
# The caller's watchdog becomes its child, which distinguishes it from other callers' watchdogs.
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

def say(*words):
    print(*words, flush=True)
"""


class Caller(subprocess.Popen[str]):
    """A child process that runs a script with minidocker imported."""

    def __init__(self, script: str, *arguments: Any, **options: Any) -> None:
        command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
        super().__init__(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )

    def line(self) -> str:
        """Return the next line of the script's output."""
        assert self.stdout is not None
        line = self.stdout.readline()
        assert line, f"the script ended with {self.wait()}"
        return line.strip()

    def kill9(self) -> None:
        """Kill the caller as the kernel's out-of-memory killer would."""
        self.send_signal(signal.SIGKILL)
        self.wait()


@contextlib.contextmanager
def calling(script: str, *arguments: Any, **options: Any) -> Iterator[Caller]:
    """Run a script as a separate caller, and kill it at the end of the block."""
    caller = Caller(script, *arguments, **options)
    try:
        yield caller
    finally:
        caller.kill()
        caller.wait()
        for pipe in (caller.stdin, caller.stdout):
            if pipe is not None:
                pipe.close()


def watchdogs_of(caller: int) -> list[int]:
    """Return the pids of a caller's watchdogs; the caller must be a subreaper."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            stat = (process / "stat").read_text(errors="replace")
            name, _, rest = stat.partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if name == "minidocker-dog" and int(parent) == caller and state != "Z":
                found.append(int(process.name))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def descriptors_of(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process: number to target."""
    directory = f"/proc/{pid}/fd"
    return {int(number): os.readlink(f"{directory}/{number}") for number in os.listdir(directory)}
