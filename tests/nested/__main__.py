"""Run the smoke part of the suite inside the outer containers: ``python -m nested [WORD ...]``.

With words, only the containers whose name contains one of them are tried.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from nested import bubblewrap, docker, minidocker, podman, unshare
from nested.environment import Environment
from nested.machine import PYTHON, Machine
from support.places import REPOSITORY, TESTS

#: Where the command is PID 1, a shell reaps the orphans that the tests leave; Python would not.
SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "sh")

#: A smoke part takes some ten seconds; on a busy machine, ten times that.
TIMEOUT = 300.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the smoke part ended in one container."""

    environment: Environment
    passed: int
    seconds: float
    output: str
    ok: bool

    def __str__(self) -> str:
        expected = "refuses, with the setting" if self.environment.refuses else "works"
        without = [] if self.environment.refuses else list(self.environment.cannot)
        detail = f" without {', '.join(without)}" if without else ""
        status = "ok  " if self.ok else "FAIL"
        line = (
            f"{status}  {self.environment}: {expected}{detail}"
            f" ({self.passed} tests, {self.seconds:.0f} s)"
        )
        if self.ok:
            return line
        return f"{line}\n$ {shlex.join(self.environment.prefix)} ...\n{self.output}"


def smoke_files() -> list[str]:
    """Return the files of the smoke part, from the top of the repository; `inside` is the last."""
    marked = [file for file in sorted(TESTS.rglob("test_*.py")) if "mark.smoke" in file.read_text()]
    return [str(file.relative_to(REPOSITORY)) for file in [*marked, TESTS / "nested/inside.py"]]


def attempt(environment: Environment, files: list[str]) -> Outcome:
    """Run the smoke part in one container; where nothing can start, only the tests of that."""
    files = files[-1:] if environment.refuses else files
    pytest = [
        str(PYTHON), "-m", "pytest", "-q", "-m", "smoke", "--no-header",
        "-p", "no:cacheprovider", "-p", "no:xdist", *environment.arguments, *files,
    ]  # fmt: skip
    variables = (
        f"TMPDIR={environment.temporary}", "CI=true", "PYTHONDONTWRITEBYTECODE=1",
        "LANG=C.UTF-8", environment.variable,
    )  # fmt: skip
    inside = [*SHELL, "/usr/bin/env", "-C", str(REPOSITORY), *variables, *pytest]
    began = time.monotonic()
    process = subprocess.Popen(
        [*environment.prefix, *inside],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output = process.communicate()[0] + f"\nended after {TIMEOUT:.0f} s"
    # The tests of the pytest plugin print summaries, too; the last one counts.
    passed = int(([0, *re.findall(r"(\d+) passed", output)])[-1])
    seconds = time.monotonic() - began
    return Outcome(environment, passed, seconds, output, process.returncode == 0 and passed > 0)


@contextlib.contextmanager
def every_environment(machine: Machine, wanted: list[str]) -> Iterator[list[Environment]]:
    """Start the engines, and return every outer container, or those that are wanted."""
    with contextlib.ExitStack() as stack:
        found = [
            *bubblewrap.environments(machine),
            *unshare.environments(machine),
            *minidocker.environments(machine),
        ]
        for engine in (docker, podman):
            name = engine.__name__.rpartition(".")[2]
            if not wanted or any(word in name or name in word for word in wanted):
                found += stack.enter_context(engine.environments(machine))
        yield [one for one in found if not wanted or any(word in one.name for word in wanted)]


def main() -> int:
    """Try every outer container, two at a time, and print a line for each."""
    parser = argparse.ArgumentParser(prog="nested", description=__doc__)
    parser.add_argument("words", nargs="*", help="parts of names of containers")
    parser.add_argument("--user", default="minidocker-test", help="the plain user")
    parser.add_argument("--jobs", type=int, default=2, help="containers at a time")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("nested: starting an engine needs root. Remedy: run it as root.", file=sys.stderr)
        return 2
    os.umask(0o022)
    scratch, plain_scratch = (Path(tempfile.mkdtemp(prefix="minidocker-nested-")) for _ in range(2))
    scratch.chmod(0o755)
    account = pwd.getpwnam(options.user)
    os.chown(plain_scratch, account.pw_uid, account.pw_gid)
    machine = Machine(options.user, scratch, plain_scratch)
    files = smoke_files()
    try:
        with (
            every_environment(machine, options.words) as environments,
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
        ):
            began = time.monotonic()
            futures = [pool.submit(attempt, one, files) for one in environments]
            outcomes = []
            try:
                for future in concurrent.futures.as_completed(futures):
                    outcomes.append(future.result())
                    print(outcomes[-1], flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        for directory in (scratch, plain_scratch):
            shutil.rmtree(directory, ignore_errors=True)
    failed = sum(not outcome.ok for outcome in outcomes)
    seconds = time.monotonic() - began
    print(f"{len(outcomes)} containers of other programs, {failed} failed, in {seconds:.0f} s")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
