"""Remedies for a refused launch, where the container around the caller is the reason.

The core finds a step and an error number. The engine of the outer container, which decides the
remedy, is looked up only after a launch has failed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from minidocker._doctor import outer
from minidocker._doctor.surroundings import Surroundings

if TYPE_CHECKING:
    from minidocker._doctor.outer import Obstacle

__all__ = ["remedy_here"]


def remedy_here(step: str, number: int) -> str | None:
    """Return the setting of the outer container that refused a step, and how to change it.

    Args:
        step: the short name of the step: ``"mount-proc"``.
        number: the error number, from :mod:`errno`.

    Returns:
        one sentence without its full stop; None if no outer container shows, or it is not the
        reason.
    """
    around = Surroundings.gather()
    if step == "id-maps" and around.proc == "foreign":
        return f"/proc shows another PID namespace than the caller's: {outer.PROC_OF_ITS_OWN}"
    obstacle: Obstacle | None
    match step, number:
        case "mount-proc" | "mount-sys", _:
            base = "/proc" if step == "mount-proc" else "/sys"
            hidden = outer.hiding(around.mounts, base)
            obstacle = "masks" if hidden else None
            refusal = f"hides parts of the caller's {base}, such as {outer.show_mounts(hidden[:1])}"
        case "id-maps", errno.EROFS:
            obstacle, refusal = "read-only-proc", "mounts /proc read-only"
        case "id-maps", _:
            obstacle = "no-setfcap" if around.is_root_without("SETFCAP") else None
            refusal = "drops CAP_SETFCAP, without which root may not map its own id"
        case "dev", _:
            obstacle, refusal = "nodev", "mounts /dev with nodev, so that its devices do not work"
        case "clone", errno.ENOSPC:
            obstacle, refusal = "no-user-namespaces", "allows no further user namespaces"
        case "clone" | "landlock", _:
            obstacle, refusal = _policy(around, "filter")
        case _:
            obstacle, refusal = _policy(around, "label")
    remedy = None if obstacle is None else outer.remedy(around, obstacle)
    return None if remedy is None else f"The outer container ({around.engine}) {refusal}: {remedy}"


def _policy(around: Surroundings, first: Obstacle) -> tuple[Obstacle | None, str]:
    """Return which policy refuses a call: a label refuses calls on files only."""
    if first == "label" and around.label is not None:
        return "label", f"labels the caller {around.label}, which refuses it"
    if around.seccomp == 2:
        return "filter", "refuses it by a seccomp filter"
    return None, ""
