"""Run CPython's suite with and without minidocker, and compare the outcomes."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# A run takes half a minute on two cores; one that takes this long hangs.
TIMEOUT = 300.0

SUBPROCESS = "test.test_subprocess"
ASYNCIO = "test.test_asyncio.test_subprocess"


@dataclass(frozen=True)
class Variant:
    """What replaces `subprocess.Popen`, or `asyncio.create_subprocess_exec`, in one run."""

    name: str
    suite: str = SUBPROCESS
    popen: str | None = None
    exec: str | None = None
    path: str | None = None
    defaults: Mapping[str, object] | None = None

    def arguments(self) -> list[str]:
        """Return the arguments of suite.py for this variant."""
        words = ["--suite", self.suite]
        if self.path is not None:
            words += ["--path", self.path]
        if self.popen is not None:
            words += ["--popen", self.popen]
        if self.exec is not None:
            words += ["--exec", self.exec]
        if self.defaults is not None:
            words += ["--defaults", json.dumps(self.defaults)]
        return words


STOCK = Variant("stock")
STOCK_ASYNCIO = Variant("stock asyncio", suite=ASYNCIO)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one test, and its message."""

    outcome: str
    detail: str


def available() -> str | None:
    """Return why the suite cannot run here, or None if it can."""
    looked = subprocess.run(
        [interpreter(), "-c", f"import test.support, {SUBPROCESS}, {ASYNCIO}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if looked.returncode == 0:
        return None
    return (
        f"{interpreter()} has no tests of subprocess ({looked.stderr.strip().splitlines()[-1]}). "
        "Remedy: install it; on Debian and Ubuntu it is in the package libpython3-testsuite"
    )


def interpreter() -> str:
    """Return the base Python of the virtual environment, because some tests skip inside one."""
    return getattr(sys, "_base_executable", sys.executable)


def run(variant: Variant, only: Iterable[str] = ()) -> dict[str, Outcome]:
    """Run the suite or some of its tests in another process; return the outcomes by name."""
    words = ["--only", *only] if only else []
    with tempfile.TemporaryDirectory(prefix="minidocker-cpython-") as directory:
        report = Path(directory, "report")
        log = Path(directory, "log")
        command = [interpreter(), HERE / "suite.py", report, *variant.arguments(), *words]
        with log.open("wb") as output:
            ended = _wait(command, directory, output)
        report.touch()
        rows = [json.loads(line) for line in report.read_text().splitlines()]
        if not ended or not rows or "finished" not in rows[-1]:
            raise AssertionError(_how_it_stopped(variant, ended, report, log))
    return {row["test"]: Outcome(row["outcome"], row["detail"]) for row in rows if "test" in row}


def _wait(command: list[Any], directory: str, output: Any) -> bool:
    """Run a command in a session of its own; kill the session, and return False if it hung."""
    # Commands of other users start there, so it needs the mode that `python -m test` gives its own.
    Path(directory).chmod(0o755)
    process = subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "TMPDIR": directory},
    )
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


def _how_it_stopped(variant: Variant, ended: bool, report: Path, log: Path) -> str:
    rows = report.read_text().splitlines()
    how = "stopped" if ended else f"hung for {TIMEOUT:.0f} s"
    where = rows[-1] if rows else "before the first test"
    return (
        f"the run {variant.name!r} {how} at {where}; its last words:\n"
        + log.read_text(errors="replace")[-4000:]
    )


@dataclass(frozen=True)
class Difference:
    """A test with another outcome than in the stock run."""

    stock: Outcome | None
    other: Outcome | None

    def __str__(self) -> str:
        """Return both outcomes, and the message of the test."""
        words = [side.outcome if side else "did not run" for side in (self.stock, self.other)]
        detail = self.other.detail.strip() if self.other else ""
        return f"{words[0]} -> {words[1]}\n    " + detail.replace("\n", "\n    ")


def differences(
    stock: Mapping[str, Outcome], other: Mapping[str, Outcome]
) -> dict[str, Difference]:
    """Return the tests with different outcomes."""
    return {
        name: Difference(stock.get(name), other.get(name))
        for name in sorted({*stock, *other})
        if _end(stock.get(name)) != _end(other.get(name))
    }


def _end(outcome: Outcome | None) -> str | None:
    return outcome.outcome if outcome else None


class Comparison:
    """The stock run and the runs of some variants, made at the same time."""

    def __init__(self, variants: Iterable[Variant], stock: Variant = STOCK) -> None:
        self._stock = stock
        self._variants = [stock, *variants]
        # Most of the suite's time is spent asleep, so the runs do not disturb each other much.
        with ThreadPoolExecutor(len(self._variants)) as pool:
            outcomes = pool.map(run, self._variants)
            names = [variant.name for variant in self._variants]
            self._outcomes = dict(zip(names, outcomes, strict=True))

    @property
    def stock(self) -> Mapping[str, Outcome]:
        """The outcome of each test in the stock run."""
        return self._outcomes[self._stock.name]

    def differences(self, variant: Variant, expected: Iterable[str]) -> dict[str, Difference]:
        """Return the tests with another outcome under the variant.

        Some tests depend on time, and can fail when three runs share the machine. Each unexpected
        difference, and each expected one that is missing, is therefore tested again alone, and the
        second outcome counts.
        """
        found = differences(self.stock, self._outcomes[variant.name])
        doubtful = found.keys() ^ set(expected)
        for name in sorted(doubtful & self.stock.keys()):
            again = differences(run(self._stock, [name]), run(variant, [name]))
            found.pop(name, None)
            found.update(again)
        return found


@dataclass(frozen=True)
class Group:
    """Tests that differ for one reason."""

    reason: str
    variants: frozenset[str]
    users: frozenset[str]
    tests: frozenset[str]


def expected_groups() -> list[Group]:
    """Return the groups of differences.toml."""
    rows = tomllib.loads((HERE / "differences.toml").read_text())["group"]
    return [
        Group(
            row["reason"],
            frozenset(row["variants"]),
            frozenset(row["users"]),
            frozenset(row["tests"]),
        )
        for row in rows
    ]


def expected(variant: str, user: str) -> set[str]:
    """Return the tests that differ under a variant for a user, "root" or "plain"."""
    groups = [g for g in expected_groups() if variant in g.variants and user in g.users]
    return {test for group in groups for test in group.tests}
