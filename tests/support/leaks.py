"""What a process holds: descriptors, children, mounts and threads, before and after."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

from support.mounts import own_mounts
from support.waiting import DEADLINE, wait_while


def _open_descriptors() -> frozenset[str]:
    """Each open descriptor of this process as `number -> what it is`, but for the listing's own."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            # The descriptor that the listing was read from, which is closed by now.
            continue
    return frozenset(found)


def _children() -> frozenset[str]:
    """Each child of this process, dead ones that nobody has waited for included."""
    found = set()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            stat = (process / "stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        command, _, rest = stat.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid():
            # Whether one that lives happens to run or to sleep is no difference.
            found.add(f"{process.name} ({command})" + (" Z" if state == "Z" else ""))
    return frozenset(found)


def _threads() -> frozenset[str]:
    """The id of each thread of this process, those that Python did not start included."""
    return frozenset(os.listdir("/proc/self/task"))


def _pid(child: str) -> str:
    return child.split(maxsplit=1)[0]


@dataclass(frozen=True)
class Holdings:
    """What this process holds at one moment."""

    descriptors: frozenset[str]
    children: frozenset[str]
    mounts: frozenset[str]
    threads: frozenset[str]

    @classmethod
    def now(cls) -> "Holdings":
        """Look."""
        return cls(_open_descriptors(), _children(), frozenset(own_mounts()), _threads())

    def differences(self, later: "Holdings") -> dict[str, dict[str, list[str]]]:
        """For each kind that is not as it was: what was gained and what was lost."""
        found: dict[str, dict[str, list[str]]] = {}
        for field in fields(self):
            before, after = getattr(self, field.name), getattr(later, field.name)
            # A child that was there before, a template process for one, may end meanwhile.
            if field.name == "children" and {_pid(child) for child in after} <= {
                _pid(child) for child in before
            }:
                continue
            if before != after:
                found[field.name] = {
                    "gained": sorted(after - before),
                    "lost": sorted(before - after),
                }
        return found

    def assert_unchanged(self, grace: float = DEADLINE) -> None:
        """Fail if this process holds anything else than it did.

        A thread that has been joined may be in /proc for a moment more, so a difference counts when
        it lasts for `grace` seconds.
        """
        wait_while(lambda: self.differences(Holdings.now()), grace)
