"""A command line starts quickly, because it imports little."""

import os
import resource
import statistics
import subprocess
import sys

import pytest

from support.command_line import CLI

#: Modules that take long to import, or import such a module.
SLOW = {
    *("argparse", "asyncio", "dataclasses", "importlib.metadata", "importlib.resources"),
    *("inspect", "logging", "multiprocessing", "pkgutil", "shutil", "tempfile", "unittest"),
}
#: Those that only some command lines need.
ON_DEMAND = {
    *("ast", "copy", "csv", "difflib", "json", "pickle", "socket", "struct", "termios", "typing")
}
IMPORTED = """
import sys
from minidocker.__main__ import main
status = main(sys.argv[1:])
print(*sys.modules, sep=chr(10), file=sys.stderr)
sys.exit(status)
"""
PYTHON = (sys.executable, "-c", "import subprocess, dataclasses")
ROUNDS = 3


def imported(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "line",
    [
        ["run", "true"],
        ["run", "--hostname", "lab", "-e", "A=1", "-w", "/", "--init", "-i", "true"],
        ["run", "--read-only", "--tmpfs", "/tmp", "-v", "/usr:/mnt:ro", "true"],
        ["--help"],
        ["run", "--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_a_command_line_imports_no_module_that_it_does_not_use(line):
    assert not imported(*line) & (SLOW | ON_DEMAND)


@pytest.mark.parametrize("line", [["ps"], ["explain", "true"], ["inspect", str(os.getpid())]])
def test_no_command_line_imports_a_slow_module(line):
    assert not imported(*line) & SLOW


def cpu_time(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_run_costs_little_more_cpu_time_than_starting_python():
    rounds = [(cpu_time([*CLI, "run", "true"]), cpu_time(PYTHON)) for _ in range(ROUNDS)]
    ours, pythons = (statistics.median(column) for column in zip(*rounds, strict=True))
    # `make bench` measures the ratio; it is about one. A busy machine triples it at most.
    assert ours < 13 * pythons
