#!/usr/bin/env python3
"""joblib: tasks of `Parallel`, each in a container of its own, with each of its backends."""

import os
import signal
import sys

import joblib
from both_sides import BothSides

import minidocker
from minidocker import Spec


def where(number: int) -> tuple[int, int, str]:
    """What is done in a container: the number again, the pid there and the host name there."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Be killed, as the kernel does it for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def survive() -> str:
    """Call what is killed, in a worker: the worker is told, and goes on."""
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
            f"{backend}: a task that is killed says so to its worker, which goes on",
            parallel(joblib.delayed(survive)() for _ in range(4)) == ["signal 9"] * 4,
        )
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
