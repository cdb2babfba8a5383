"""`doctor`: what works on this machine, found by trying it.

`checks` says what is tried, `causes` why it does not work (`subordinate` and `control_groups` for
theirs), `surroundings` where causes are looked for, and `report` is what comes of it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidocker._doctor.report import Report

__all__ = ["doctor"]


def doctor() -> Report:
    """Find out what works on this machine, for this caller, now.

    Each step that a container takes is tried, in a child process that is gone afterwards: what a
    version or a setting promises is not taken for granted. Nothing of the caller changes. A system
    on which nothing works makes a report that says so, not an exception.

    It takes a few hundredths of a second; a step that hangs, two seconds.

    Returns:
        the `Report`: true if everything essential works. ``print()`` it; in Jupyter it is a table.
    """
    # Loaded when it is asked for: `import minidocker` is on the path of every command line.
    from minidocker._doctor.report import Report, Row
    from minidocker._doctor.surroundings import system

    if sys.platform != "linux":
        row = Row(
            name="linux",
            title="Linux",
            status="fails",
            detail=f"namespaces are a thing of Linux, and this is {system()}",
            remedy="use a Linux machine: a virtual one, or WSL 2 on Windows",
            essential=True,
        )
        return Report((row,), (system(),))
    from minidocker._doctor.checks import examine

    return examine()
