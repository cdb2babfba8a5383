#!/usr/bin/env python3
"""concurrent.futures: tasks of threads and of processes, each in a container of its own."""

import os
import signal
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from both_sides import BothSides

import minidocker
from minidocker import Spec


def where(number: int) -> tuple[int, int, str]:
    """Return the number, and the pid and the host name of the container."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Get killed, as by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def show(sides: BothSides, name: str, pool: Executor) -> None:
    # The pool calls `minidocker.call`, which calls `where` in a container.
    tasks = [
        pool.submit(minidocker.call, where, number, spec=Spec(hostname=f"task-{number}"))
        for number in range(4)
    ]
    found = [task.result() for task in tasks]
    worker = pool.submit(os.getpid).result()
    sides.row(f"{name}: pid", worker, found[0][1])
    sides.row(f"{name}: host name", os.uname().nodename, ", ".join(host for *_, host in found))
    sides.shows(
        f"{name}: every task had a container of its own",
        found == [(number, 2, f"task-{number}") for number in range(4)],
    )

    killed = pool.submit(minidocker.call, die).exception()
    sides.shows(
        f"{name}: the failure of a killed task names the signal",
        isinstance(killed, minidocker.CallKilled),
    )
    # Without a container, the signal would kill the worker and break the pool: BrokenProcessPool.
    sides.shows(f"{name}: its worker still runs", pool.submit(os.getpid).result() == worker)


def main() -> int:
    sides = BothSides(__doc__)
    with ThreadPoolExecutor(2) as pool:
        show(sides, "threads", pool)
    with ProcessPoolExecutor(1) as pool:
        show(sides, "processes", pool)
    # A pool of containers needs neither.
    with minidocker.ContainerExecutor(2, hostname="own") as pool:
        hosts = {host for *_, host in pool.map(where, range(4))}
    sides.shows("ContainerExecutor: every task had a container too", hosts == {"own"})
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
