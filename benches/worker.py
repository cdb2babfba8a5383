"""The measured process: it has a given size, and performs actions on request.

Requests and answers are lines of JSON. `["prepare", action]` answers null, or the reason why the
action is unavailable. `["run", action, n]` answers the nanoseconds of each of n calls, and
`["threads", action, t, n]` the nanoseconds that t threads took for n calls each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import python_actions  # noqa: F401 - registers its actions
from actions import ACTIONS, Action, Setup, Unavailable


def _times(act: Action, count: int) -> list[int]:
    times = []
    pause = getattr(act, "pause", 0.0)
    clock = getattr(act, "clock", time.perf_counter_ns)
    for _ in range(count):
        if pause:
            time.sleep(pause)
        start = clock()
        act()
        times.append(clock() - start)
    return times


def _threaded(act: Action, threads: int, count: int) -> int:
    barrier = threading.Barrier(threads + 1)

    def work() -> None:
        barrier.wait()
        for _ in range(count):
            act()

    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(work) for _ in range(threads)]
        barrier.wait()
        start = time.perf_counter_ns()
        for one in done:
            one.result()
        return time.perf_counter_ns() - start


def _touched(size: int) -> bytearray:
    ballast = bytearray(size)
    for offset in range(0, size, 4096):
        ballast[offset] = 1
    return ballast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resident", type=int, default=0)
    parser.add_argument("--noop", required=True)
    options = parser.parse_args()
    # The actions inherit the standard streams, and must not write to the channel of the answers.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    ballast = _touched(options.resident)
    prepared: dict[str, Action] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for line in requests:
            answer: object = None
            match json.loads(line):
                case ["prepare", name]:
                    try:
                        setup = Setup(options.noop, Path(scratch))
                        act = ACTIONS[name](setup)
                        act()  # the report has a row for a tool that does not work here
                        prepared[name] = act
                    except Unavailable as why:
                        answer = str(why)
                    except (OSError, ValueError, subprocess.SubprocessError) as why:
                        answer = f"failed: {why}"
                case ["run", name, count]:
                    answer = _times(prepared[name], count)
                case ["threads", name, threads, count]:
                    answer = _threaded(prepared[name], threads, count)
                case request:
                    sys.exit(f"no such request: {request!r}")
            print(json.dumps(answer), file=answers)
    del ballast


if __name__ == "__main__":
    main()
