"""Commands to run in containers, and the kinds of container to run them in."""

import os
import select
import sys
import time
from typing import IO, Any

from minidocker import NamespaceOptions

MODES: dict[str, dict[str, Any]] = {
    "all": {},
    "init": {"init": True},
    "without_pid": {"namespaces": NamespaceOptions.all().without_pid()},
    "none": {"namespaces": NamespaceOptions.none()},
}
"""The kinds of container: the command is PID 1, runs under an init, or is only in a new session."""


def python(code: str, *args: str) -> list[str]:
    """Return a command that runs Python code, in an interpreter that starts quickly."""
    return [sys.executable, "-I", "-S", "-c", code, *args]


def sh(script: str, *args: str) -> list[str]:
    """Return a command that runs a shell script with `args` as `$1`, `$2` and so on."""
    return ["sh", "-c", script, "sh", *args]


def read_line(pipe: IO[Any], timeout: float = 20.0) -> Any:
    """Read a line from an unbuffered pipe; fail if none arrives in time."""
    line = b""
    deadline = time.monotonic() + timeout
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise AssertionError(f"no line after {timeout} s, only {line!r}")
        read = os.read(pipe.fileno(), 1)
        if not read:
            raise AssertionError(f"the pipe ended after {line!r}")
        line += read
    return line.decode().removesuffix("\n")
