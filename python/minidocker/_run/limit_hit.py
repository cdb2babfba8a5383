"""Which limit ended a command."""

from __future__ import annotations

import signal

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker._run.completed import Usage
    from minidocker._spec.spec import Spec

__all__ = ["of_death"]

_SAMPLING = 1.0
"""Seconds by which the usage may be below a limit of CPU time that was reached: for the limit, the
kernel counts whole ticks of the timer at which the process runs. Of a short limit, at most half."""


def of_death(returncode: int | None, usage: Usage | None, spec: Spec) -> str | None:
    """Return the resource limit that ended a process: ``"ulimits.cpu"``, ``"ulimits.fsize"``.

    A process may send itself the same signals, so the limit must have been there and, for CPU
    time, used up.

    Args:
        returncode: the negative number of a signal; any other is no such end.
        usage: the resources that it used.
        spec: its options.
    """
    if returncode == -signal.SIGXFSZ:
        return "ulimits.fsize" if _applied(spec, "fsize")[0] is not None else None
    if usage is None or returncode not in (-signal.SIGXCPU, -signal.SIGKILL):
        return None
    soft, hard = _applied(spec, "cpu")
    limit = soft if returncode == -signal.SIGXCPU else hard
    used = usage.user + usage.system
    return (
        "ulimits.cpu" if limit is not None and used >= max(limit - _SAMPLING, limit / 2) else None
    )


def _applied(spec: Spec, name: str) -> tuple[int | None, int | None]:
    """Return the soft and the hard limit of a process; None: no limit."""
    import resource  # noqa: PLC0415 - only a command that a signal ended needs it

    limits = spec.ulimit(name) or resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    soft, hard = (None if value == resource.RLIM_INFINITY else value for value in limits)
    return soft, hard
