#!/usr/bin/env python3
"""Ray: tasks of a cluster, each in a container of its own on its worker."""

import logging
import os
import signal
import sys
import tempfile

import ray
from both_sides import BothSides

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


# Ray accepts only functions and classes, so a remote function calls the decorated one.
@ray.remote
def decorated_name() -> str:
    return name()


@ray.remote
def own_pid() -> int:
    return os.getpid()


def main() -> int:
    sides = BothSides(__doc__)
    with tempfile.TemporaryDirectory(prefix="ray-") as directory:
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=directory,
        )
        try:
            # A task of Ray calls `call`. Ray counts num_cpus, and repeats no failed task.
            call = ray.remote(num_cpus=1, max_retries=0)(minidocker.call)
            tasks = [
                call.remote(where, number, spec=Spec(hostname=f"task-{number}"))
                for number in range(4)
            ]
            found = ray.get(tasks)
            worker = ray.get(own_pid.remote())
            sides.row("pid", worker, found[0][1])
            sides.row("host name", os.uname().nodename, ", ".join(host for *_, host in found))
            try:
                ray.get(call.remote(die))
            except minidocker.CallKilled as error:
                killed = error.signal
            else:
                killed = None
            still = ray.get(own_pid.remote())
            decorated = ray.get(decorated_name.remote())
        finally:
            ray.shutdown()
    sides.shows(
        "every task had a container of its own",
        found == [(number, 2, f"task-{number}") for number in range(4)],
    )
    sides.shows("the failure of a killed task names the signal", killed == signal.SIGKILL)
    # Without a container, the signal would kill the worker: ray.exceptions.WorkerCrashedError.
    sides.shows("its worker still runs", still == worker)
    sides.shows("a decorated function is called by a task", decorated == "decorated")
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
