"""The descriptors, children, mounts and threads of a process, to compare before and after."""

import os
from dataclasses import dataclass, fields
from pathlib import Path

from support.mounts import own_mounts
from support.waiting import DEADLINE, wait_while


def _open_descriptors() -> frozenset[str]:
    """Return each open descriptor of this process as `number -> target`."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            # The listing includes its own descriptor, which is closed by now.
            continue
    return frozenset(found)


def _children() -> frozenset[str]:
    """Return each child of this process, zombies included."""
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
            # Ignore the difference between a running and a sleeping child.
            found.add(f"{process.name} ({command})" + (" Z" if state == "Z" else ""))
    return frozenset(found)


def _threads() -> frozenset[str]:
    """Return the id of each thread of this process, including those that Python did not start."""
    return frozenset(os.listdir("/proc/self/task"))


def _pid(child: str) -> str:
    return child.split(maxsplit=1)[0]


@dataclass(frozen=True)
class Holdings:
    """The resources of this process at one moment."""

    descriptors: frozenset[str]
    children: frozenset[str]
    mounts: frozenset[str]
    threads: frozenset[str]

    @classmethod
    def now(cls) -> "Holdings":
        """Return the present resources of this process."""
        return cls(_open_descriptors(), _children(), frozenset(own_mounts()), _threads())

    def differences(self, later: "Holdings") -> dict[str, dict[str, list[str]]]:
        """Return the new and the missing resources, for each kind that has changed."""
        found: dict[str, dict[str, list[str]]] = {}
        for field in fields(self):
            before, after = getattr(self, field.name), getattr(later, field.name)
            # An earlier child, such as a template process, or thread may end in the meantime.
            if field.name == "threads" and after <= before:
                continue
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
        """Fail if the resources of this process have changed.

        A joined thread may stay in /proc for a moment, so a difference must last for `grace`
        seconds to count.
        """
        wait_while(lambda: self.differences(Holdings.now()), grace)
