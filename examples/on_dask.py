#!/usr/bin/env python3
"""Dask distributed: tasks of a cluster, each in a container of its own on its worker."""

import logging
import os
import signal
import sys

from both_sides import BothSides
from dask.distributed import Client, LocalCluster

import minidocker
from minidocker import Spec


def where(number: int) -> tuple[int, int, str]:
    """Return the number, and the pid and the host name of the container."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Get killed, as by the kernel when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@minidocker.isolated(hostname="decorated")
def name() -> str:
    return os.uname().nodename


def main() -> int:
    sides = BothSides(__doc__)
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        dashboard_address=None,
        # A worker would log the failure of the task below.
        silence_logs=logging.CRITICAL,
        # The scheduler counts this resource: one container at a time.
        resources={"containers": 1},
    )
    with cluster, Client(cluster) as client:
        # With pure=True Dask would run equal calls only once.
        tasks = [
            client.submit(
                minidocker.call, where, number, spec=Spec(hostname=f"task-{number}"),
                pure=False, resources={"containers": 1},
            )
            for number in range(4)
        ]  # fmt: skip
        found = client.gather(tasks)
        worker = client.submit(os.getpid, pure=False).result()
        sides.row("pid", worker, found[0][1])
        sides.row("host name", os.uname().nodename, ", ".join(host for *_, host in found))

        killed = client.submit(minidocker.call, die, pure=False).exception()
        still = client.submit(os.getpid, pure=False).result()
        decorated = client.submit(name, pure=False).result()

        number = "/proc/sys/kernel/random/uuid"
        equal = [client.submit(minidocker.call, read, number, pure=False) for _ in range(2)]
        values = client.gather(equal)

    sides.shows(
        "every task had a container of its own",
        found == [(number, 2, f"task-{number}") for number in range(4)],
    )
    sides.shows(
        "the failure of a killed task names the signal", isinstance(killed, minidocker.CallKilled)
    )
    # Without a container, the signal would kill the worker, and Dask would repeat its tasks.
    sides.shows("its worker still runs", still == worker)
    sides.shows("a decorated function can be submitted", decorated == "decorated")
    sides.shows("with pure=False equal calls both run", values[0] != values[1])
    return sides.print()


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


if __name__ == "__main__":
    sys.exit(main())
