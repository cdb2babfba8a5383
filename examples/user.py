#!/usr/bin/env python3
"""User namespace (exercise): root inside is an ordinary user outside, and needs no privilege."""

import os
import sys
import tempfile
from pathlib import Path

from both_sides import BothSides

import minidocker

ID = "echo $(id -u) $(id -g)"


def rows(text: str) -> list[tuple[int, ...]]:
    """Return the rows of an id map: first id inside, first id outside, count."""
    return [tuple(int(word) for word in line.split()) for line in text.splitlines()]


def described(id_map: list[tuple[int, ...]]) -> str:
    return ", ".join(
        f"{inside} → {outside}" if count == 1 else f"{count} ids: {inside} → {outside}"
        for inside, outside, count in id_map
    )


def main() -> int:
    sides = BothSides(__doc__)
    caller = os.geteuid()
    # Another user inside: 1000 is the caller, who has no other id there.
    one_row = {"uid_map": [(1000, caller, 1)], "gid_map": [(1000, os.getegid(), 1)], "user": 1000}

    with tempfile.TemporaryDirectory(prefix="minidocker-") as directory:
        made = Path(directory) / "made-inside"

        def inside(script: str, **options: object) -> str:
            done = minidocker.run(
                ["sh", "-c", script], capture_output=True, text=True, check=True, **options
            )
            return done.stdout.strip()

        root = inside(ID)
        sides.row("id", f"{caller} {os.getegid()}", root)
        default = rows(inside("cat /proc/self/uid_map"))
        sides.row("uid_map", "", described(default))

        inside(f"touch {made}")
        owner_inside = inside(f"stat -c %u {made}")
        sides.row("owner of a file made inside", made.stat().st_uid, owner_inside)

        someone = inside(ID, **one_row)
        sides.row("id, with a map of one row", f"{caller} {os.getegid()}", someone)
        mapped = rows(inside("cat /proc/self/uid_map", **one_row))
        sides.row("uid_map", "", described(mapped))

        # Root has every capability over the container's own resources; a device is not one of them.
        capabilities = int(inside("sed -n 's/^CapEff:\t//p' /proc/self/status"), 16)
        mine = int(effective(Path("/proc/self/status").read_text()), 16)
        sides.row("capabilities", f"{mine.bit_count()}", f"{capabilities.bit_count()}")
        mknod = ["mknod", f"{directory}/null", "c", "1", "3"]
        refused = minidocker.run(mknod, capture_output=True).returncode != 0
        sides.row("mknod null c 1 3", "", "refused" if refused else "made")

    sides.shows("the command is root inside", root == "0 0")
    sides.shows("and the caller outside", default[0][:2] == (0, caller) or caller == 0)
    sides.shows("its files belong to the caller", owner_inside == "0")
    sides.shows("with an explicit map it is another user", someone == "1000 1000")
    sides.shows("the kernel has that map", mapped == [(1000, caller, 1)])
    sides.shows("it has capabilities inside", capabilities.bit_count() > 30)
    sides.shows("which do not apply to the host", refused)
    return sides.print()


def effective(status: str) -> str:
    return next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))


if __name__ == "__main__":
    sys.exit(main())
