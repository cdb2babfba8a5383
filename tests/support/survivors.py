"""Find what a container left running by a mark that its processes inherit."""

import os
import signal
import uuid
from pathlib import Path

from support.waiting import DEADLINE, wait_until, wait_while

VARIABLE = "MINIDOCKER_TEST_MARK"


class Survivors:
    """The processes that carry a mark of their own, in the environment or among the arguments.

    Give `env` to a container's command and all that it starts carries the mark. A process that
    cleared its environment, or that a plain user may not look into (one that is not dumpable),
    is found by its arguments alone: put `mark` among them.
    """

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    @property
    def env(self) -> dict[str, str]:
        """This process's environment with the mark added."""
        return {**os.environ, VARIABLE: self.mark}

    def find(self) -> dict[int, str]:
        """The marked processes that live, but for this one: host pid to command line."""
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
        """What `find` finds, as soon as it finds something.

        A process has executed its command a moment before it shows the arguments.
        """
        return wait_until(self.find)

    def wait_until_gone(self, timeout: float = DEADLINE) -> None:
        """Fail if a marked process lives on for `timeout` seconds."""
        wait_while(self.find, timeout)

    def kill(self) -> None:
        """Kill whatever is left, so that a failed test does not disturb the next."""
        for pid in self.find():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _read(path: Path) -> bytes:
    """The content, or nothing where the process is gone, a zombie, or closed to this user."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
