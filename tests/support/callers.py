"""A Python process that uses minidocker and can be killed: the caller, as an experiment."""

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
# Orphans come here, so that the watchdog can be told from those of other callers.
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

def say(*words):
    print(*words, flush=True)
"""


class Caller(subprocess.Popen[str]):
    """A child that runs a script with minidocker imported, and is killed at the end of the test."""

    def __init__(self, script: str, *arguments: Any, **options: Any) -> None:
        command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
        super().__init__(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )

    def line(self) -> str:
        """The next line that the script says."""
        assert self.stdout is not None
        line = self.stdout.readline()
        assert line, f"the script ended with {self.wait()}"
        return line.strip()

    def kill9(self) -> None:
        """Kill it as the kernel's out-of-memory killer would."""
        self.send_signal(signal.SIGKILL)
        self.wait()


@contextlib.contextmanager
def calling(script: str, *arguments: Any, **options: Any) -> Iterator[Caller]:
    """Run a script as a caller of its own; whatever happens, it is gone afterwards."""
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
    """The watchdogs of a caller that orphans come to."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
            if name == "minidocker-dog" and int(parent) == caller and state != "Z":
                found.append(int(process.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs: there, and not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def descriptors_of(pid: int) -> dict[int, str]:
    """Number to what it is, of each descriptor of a process."""
    directory = f"/proc/{pid}/fd"
    return {int(number): os.readlink(f"{directory}/{number}") for number in os.listdir(directory)}
