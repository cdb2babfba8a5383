"""A processor that a process of low weight hardly gets, so that it takes its signals late."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_SPIN = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"


@contextlib.contextmanager
def slow_processor() -> Iterator[int]:
    """Occupy a processor, and give its number.

    A process gets less than 2 % of it, in turns, once it is under SCHED_IDLE and the autogroup of
    its session has the nice value 19; sched(7).
    """
    number = max(os.sched_getaffinity(0))
    with subprocess.Popen(
        [sys.executable, "-c", _SPIN, str(number)], start_new_session=True
    ) as process:
        try:
            yield number
        finally:
            process.kill()
