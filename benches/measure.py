"""Measure the cases, interleaved: every round visits all of them, in random order."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from cases import GROUPS, Case, Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PAUSE = 0.01
"""Seconds between batches, in which the kernel destroys the namespaces of the last one."""
APART = 0.02
"""Seconds before a call that is measured by itself."""
BATCH = 0.05
"""The longest time of a batch in seconds, unless a single call takes longer."""
LARGEST_BATCH = 10
VISITS = 3
"""Visits in one round of a case whose calls are measured by themselves."""


class Engine(Protocol):
    """A process that performs a case."""

    def prepare(self) -> str | None: ...
    def run(self, count: int) -> list[int]: ...
    def threads(self, threads: int, count: int) -> int: ...


class Peer:
    """A child that answers lines with lines."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._requests = cast("TextIO", self._process.stdin)
        self._answers = cast("TextIO", self._process.stdout)
        self._name = os.path.basename(arguments[0])

    def ask(self, line: str) -> str:
        try:
            self._requests.write(line + "\n")
            self._requests.flush()
            answer = self._answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self._process.wait()
            raise RuntimeError(f"{self._name} ended with status {status}; its reason is above")
        return answer

    def close(self) -> None:
        with self._process:
            pass


@dataclass
class FloorEngine:
    """The Rust floor, one process for each set of arguments."""

    peer: Peer

    def prepare(self) -> str | None:
        try:
            self.run(1)
        except RuntimeError as why:
            return str(why)
        return None

    def run(self, count: int) -> list[int]:
        return [int(word) for word in self.peer.ask(f"1 {count}").split()[1:]]

    def threads(self, threads: int, count: int) -> int:
        return int(self.peer.ask(f"{threads} {count}").split()[0])


@dataclass
class PythonEngine:
    """An action of a Python worker."""

    peer: Peer
    action: str

    def prepare(self) -> str | None:
        why: str | None = json.loads(self.peer.ask(json.dumps(["prepare", self.action])))
        return why

    def run(self, count: int) -> list[int]:
        times: list[int] = json.loads(self.peer.ask(json.dumps(["run", self.action, count])))
        return times

    def threads(self, threads: int, count: int) -> int:
        request = json.dumps(["threads", self.action, threads, count])
        taken: int = json.loads(self.peer.ask(request))
        return taken


@dataclass
class Samples:
    """The measurements of a case in one of its variants."""

    group: str
    name: str
    variant: str
    unavailable: str | None = None
    values: list[float] = field(default_factory=list)
    """Microseconds a call, or runs a second."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, percent: int) -> float:
        """Return the smallest value that at least `percent` percent of all do not exceed."""
        return sorted(self.values)[math.ceil(len(self.values) * percent / 100) - 1]


@dataclass
class _Measured:
    case: Case
    variant: Variant
    engine: Engine
    samples: Samples
    batch: int = 1
    throughput: bool = False
    rounds: int | None = None

    def calibrate(self) -> None:
        self.samples.unavailable = self.engine.prepare()
        if self.samples.unavailable is None and self.rounds is None:
            slowest_of_two = max(self.engine.run(2)) / 1e9
            self.batch = max(1, min(LARGEST_BATCH, int(BATCH / slowest_of_two)))

    def visit(self) -> None:
        values = self.samples.values
        if self.throughput:
            taken = self.engine.threads(self.variant.threads, self.batch)
            values.append(self.variant.threads * self.batch / (taken / 1e9))
        elif self.variant.apart or self.rounds is not None:
            time.sleep(APART)
            values.extend(taken / 1e3 for taken in self.engine.run(1))
        else:
            # The first call of a batch finds the caches as another case left them.
            values.extend(taken / 1e3 for taken in self.engine.run(1 + self.batch)[1:])


def measure(
    cases: Iterable[Case], rounds: int, floor: Path, noop: Path, say: Callable[[str], None]
) -> list[Samples]:
    """Measure `cases` in `rounds` rounds; `floor` and `noop` are programs."""
    groups = {group.id: group for group in GROUPS}
    with ExitStack() as stack:
        peers: dict[tuple[str, ...], Peer] = {}

        def peer(*arguments: str) -> Peer:
            if arguments not in peers:
                peers[arguments] = Peer(list(arguments))
                stack.callback(peers[arguments].close)
            return peers[arguments]

        def engine(case: Case, variant: Variant) -> Engine:
            if case.floor is not None:
                return FloorEngine(peer(str(floor), *case.floor, str(noop)))
            worker = str(Path(__file__).with_name("worker.py"))
            size = ("--resident", str(variant.resident), "--noop", str(noop))
            return PythonEngine(peer(sys.executable, worker, *size), case.action + variant.action)

        measured = [
            _Measured(
                case,
                variant,
                engine(case, variant),
                Samples(case.group, case.name, variant.label),
                throughput=groups[case.group].measure == "throughput",
                rounds=groups[case.group].rounds,
            )
            for case in cases
            for variant in groups[case.group].variants
        ]
        for one in measured:
            one.calibrate()
            if one.samples.unavailable is not None:
                say(f"{one.case.name}: {one.samples.unavailable}")
        order = [one for one in measured if one.samples.unavailable is None]
        order += [one for one in order if one.variant.apart for _ in range(VISITS - 1)]
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            random.shuffle(order)
            for one in order:
                if one.rounds is None or number < one.rounds:
                    one.visit()
                    time.sleep(PAUSE)
    return [one.samples for one in measured]
