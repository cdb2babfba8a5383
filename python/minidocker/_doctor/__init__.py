"""`doctor`: tests what works on this machine.

`checks` has the checks, `causes`, `subordinate` and `control_groups` find the cause of a failure,
`surroundings` describes the machine and the caller, and `report` has the result.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidocker._doctor.report import Report

__all__ = ["doctor"]


def doctor() -> Report:
    """Test what works on this machine, for this caller, now.

    Child processes try each step of a container; versions and settings alone prove nothing. The
    caller does not change. If nothing works, the result is a report about that, not an exception.

    This takes a few hundredths of a second, and two seconds more for each step that hangs.

    Returns:
        the `Report`, which is true if everything essential works. ``print()`` shows it as text; in
        Jupyter it is a table.
    """
    # Import only here, because every command line runs `import minidocker`.
    from minidocker._doctor.report import Report, Row
    from minidocker._doctor.surroundings import system

    if sys.platform != "linux":
        row = Row(
            name="linux",
            title="Linux",
            status="fails",
            detail=f"namespaces exist only on Linux, and this is {system()}",
            remedy="use a Linux machine: a virtual one, or WSL 2 on Windows",
            essential=True,
        )
        return Report((row,), (system(),))
    from minidocker._doctor.checks import examine

    return examine()
