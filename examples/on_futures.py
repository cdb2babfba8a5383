#!/usr/bin/env python3
"""concurrent.futures: tasks of threads, and of processes, each in a container of its own."""

import os
import signal
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from both_sides import BothSides

import minidocker
from minidocker import Spec


def where(number: int) -> tuple[int, int, str]:
    """What is done in a container: the number again, the pid there and the host name there."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Be killed, as the kernel does it for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def show(sides: BothSides, name: str, pool: Executor) -> None:
    # `call` is a function like any other: the pool calls it, and it calls `where` in a container.
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
    sides.shows(f"{name}: a task that is killed says so", isinstance(killed, minidocker.CallKilled))
    # Without a container it would have taken the worker with it, and the pool: BrokenProcessPool.
    sides.shows(f"{name}: its worker is still there", pool.submit(os.getpid).result() == worker)


def main() -> int:
    sides = BothSides(__doc__)
    with ThreadPoolExecutor(2) as pool:
        show(sides, "threads", pool)
    with ProcessPoolExecutor(1) as pool:
        show(sides, "processes", pool)
    # Neither is needed for containers alone: this is a pool of them.
    with minidocker.ContainerExecutor(2, hostname="own") as pool:
        hosts = {host for *_, host in pool.map(where, range(4))}
    sides.shows("ContainerExecutor: every task had a container, too", hosts == {"own"})
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
