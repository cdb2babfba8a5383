"""Find processes that a container left running, by a mark that they inherit."""

import os
import signal
import uuid
from pathlib import Path

from support.waiting import DEADLINE, wait_until, wait_while

VARIABLE = "MINIDOCKER_TEST_MARK"


class Survivors:
    """The processes that carry a unique mark in their environment or arguments.

    Start a container's command with `env`, and its descendants inherit the mark. A process without
    that environment, or one that is not dumpable and hence closed to a plain user, shows only its
    arguments: put `mark` among them.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with the mark added."""
        return {**os.environ, VARIABLE: self.mark}

    def find(self) -> dict[int, str]:
        """Return the other living processes with the mark: host pid to command line."""
        mark = self.mark.encode()
        found = {}
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal() or int(process.name) == os.getpid():
                continue
            arguments = _read(process / "cmdline")
            if mark in arguments or mark in _read(process / "environ"):
                found[int(process.name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
        return found

    def wait_until_found(self) -> dict[int, str]:
        """Wait until `find` finds a process, and return its result.

        A process shows its arguments a moment after it has executed its command.
        """
        return wait_until(self.find)

    def wait_until_gone(self, timeout: float = DEADLINE) -> None:
        """Fail if a marked process is still alive after `timeout` seconds."""
        wait_while(self.find, timeout)

    def kill(self) -> None:
        """Kill the remaining processes, so that a failed test does not disturb the next."""
        for pid in self.find():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _read(path: Path) -> bytes:
    """Return the content; empty if the process is gone, a zombie, or closed to this user."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
