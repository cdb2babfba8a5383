#!/usr/bin/env python3
"""Mount namespace: a mount inside is invisible outside."""

import sys
import tempfile
from pathlib import Path

from both_sides import BothSides

import minidocker


def mounted(mountinfo: str, directory: str) -> bool:
    return any(line.split(" ")[4] == directory for line in mountinfo.splitlines())


def main() -> int:
    sides = BothSides(__doc__)
    with tempfile.TemporaryDirectory(prefix="minidocker-") as directory:
        (Path(directory) / "from-the-host").touch()
        with minidocker.Container() as box:

            def inside(*command: str) -> str:
                return box.run(command, capture_output=True, text=True, check=True).stdout

            # The container starts with a copy of the host's mounts, so it sees the same files.
            before = inside("ls", directory).split()
            inside("mount", "-t", "tmpfs", "tmpfs", directory)
            inside("touch", f"{directory}/from-the-container")
            after = inside("ls", directory).split()
            outside = sorted(path.name for path in Path(directory).iterdir())

            here = mounted(Path("/proc/self/mountinfo").read_text(), directory)
            there = mounted(inside("cat", "/proc/self/mountinfo"), directory)
            own, theirs = minidocker.namespaces()["mount"], box.namespaces()["mount"]

        left = sorted(path.name for path in Path(directory).iterdir())

    sides.row(f"ls {directory}", "from-the-host", " ".join(before))
    sides.row("after mount -t tmpfs inside", " ".join(outside), " ".join(after))
    sides.row("is it a mount point?", here, there)
    sides.row("mount namespace", own, theirs)

    sides.shows("at first both see the host's files", before == ["from-the-host"])
    sides.shows("the mount is visible inside", there and after == ["from-the-container"])
    sides.shows("and invisible to the host", not here and outside == ["from-the-host"])
    sides.shows("it is gone with the container", left == ["from-the-host"])
    sides.shows("they are in different mount namespaces", own != theirs)
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
