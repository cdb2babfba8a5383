#!/usr/bin/env python3
"""joblib: tasks of `Parallel`, each in a container of its own, with two backends."""

import os
import signal
import sys

import joblib
from both_sides import BothSides

import minidocker
from minidocker import Spec


def where(number: int) -> tuple[int, int, str]:
    """Return the number, and the pid and the host name of the container."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Get killed, as by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def survive() -> str:
    """Call a function that is killed, and return the signal: the worker continues."""
    try:
        minidocker.call(die)
    except minidocker.CallKilled as error:
        return f"signal {error.signal}"
    return "nothing"


def main() -> int:
    sides = BothSides(__doc__)
    call = joblib.delayed(minidocker.call)
    for backend in ("loky", "threading"):
        parallel = joblib.Parallel(n_jobs=2, backend=backend)
        found = parallel(call(where, n, spec=Spec(hostname=f"task-{n}")) for n in range(4))
        hosts = ", ".join(host for *_, host in found)
        sides.row(f"{backend}: host name", os.uname().nodename, hosts)
        sides.shows(
            f"{backend}: every task had a container of its own",
            found == [(n, 2, f"task-{n}") for n in range(4)],
        )
        sides.shows(
            f"{backend}: the worker gets the signal of a killed task, and continues",
            parallel(joblib.delayed(survive)() for _ in range(4)) == ["signal 9"] * 4,
        )
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
