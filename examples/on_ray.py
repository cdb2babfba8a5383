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
    """What is done in a container: the number again, the pid there and the host name there."""
    return number, os.getpid(), os.uname().nodename


def die() -> None:
    """Be killed, as the kernel does it for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@minidocker.isolated(hostname="decorated")
def name() -> str:
    return os.uname().nodename


# Ray takes functions and classes only, so that one of its own calls what is decorated.
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
            # A task of Ray's calls `call`. num_cpus is what Ray counts: whoever limits the
            # container (cpus=2, for one) says the same here. A task that failed is not tried again.
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
    sides.shows("a task that is killed says so", killed == signal.SIGKILL)
    # Without a container the worker would have been killed: ray.exceptions.WorkerCrashedError.
    sides.shows("its worker is still there", still == worker)
    sides.shows("a decorated function is called by a task", decorated == "decorated")
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
