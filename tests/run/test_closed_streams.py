"""Callers that have closed standard input, output or error: the lowest free number is 0, 1 or 2."""

import asyncio
import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import minidocker
from minidocker import aio
from support.child import in_child
from support.waiting import wait_for_state, wait_until

SUBSETS = [[*some] for count in (1, 2, 3) for some in itertools.combinations(range(3), count)]
PIPE, DEVNULL, STDOUT = subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT
INPUTS = (None, PIPE, DEVNULL)
STREAMS = [*itertools.product(INPUTS, INPUTS, (*INPUTS, STDOUT))]

every_subset = pytest.mark.parametrize("closed", SUBSETS, ids=str)


def with_closed(closed: list[int], function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a forked child that has closed these descriptors."""

    def close_and_call() -> object:
        for fd in closed:
            os.close(fd)
        return function(*arguments), sorted({0, 1, 2} - opened())

    value, still_closed = in_child(close_and_call)
    assert still_closed == closed, "a descriptor of the package stayed at a standard stream"
    return value


def opened(pid: object = "self") -> set[int]:
    """Return the descriptors of a process that are open, this look at them excluded."""
    found = set()
    for number in (0, 1, 2):
        if os.path.islink(f"/proc/{pid}/fd/{number}"):
            found.add(number)
    return found


def streams_of(pid: int) -> dict[int, str]:
    """Return what the standard streams of a sleeping command are; a pipe without its inode."""
    # Before it sleeps, the dynamic linker opens libraries at free numbers.
    wait_for_state(pid, "S")
    links = {number: os.readlink(f"/proc/{pid}/fd/{number}") for number in opened(pid)}
    kinds = {number: link.partition(":")[0] for number, link in links.items()}
    if 2 in links and links[2] == links.get(1):
        kinds[2] = "as 1"
    return kinds


def streams_with(start: Callable[..., subprocess.Popen[bytes]], **options: Any) -> dict[int, str]:
    """Return the streams of a command, or the error number of its start."""
    try:
        process = start(["sleep", "600"], **options)
    except OSError as error:
        # With stderr=STDOUT, for example, and a closed standard output.
        return {-1: errno.errorcode[error.errno]}
    with process:
        try:
            return streams_of(process.pid)
        finally:
            process.kill()


def streams_below_init(**options: Any) -> dict[int, str]:
    with minidocker.Popen(["sleep", "600"], init=True, **options) as process:
        try:
            below = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            return streams_of(int(wait_until(below.read_text)))
        finally:
            process.kill()


@every_subset
def test_a_command_has_the_streams_that_subprocess_gives_it(closed):
    def differences() -> list[object]:
        found = []
        for stdin, stdout, stderr in STREAMS:
            options = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
            expected = streams_with(subprocess.Popen, **options)
            given = streams_with(minidocker.Popen, **options)
            if given != expected:
                found.append((options, expected, given))
        return found

    assert with_closed(closed, differences) == []


@every_subset
def test_a_command_below_an_init_or_in_a_running_container_has_them_too(closed):
    def streams() -> list[dict[int, str]]:
        with minidocker.Container() as box, minidocker.attach(box.pid) as attached:
            assert opened().isdisjoint(closed)
            return [
                streams_with(subprocess.Popen),
                streams_with(box.popen),
                streams_with(attached.popen),
                streams_below_init(),
                streams_with(minidocker.Popen, profile="untrusted"),
            ]

    first, *others = with_closed(closed, streams)
    assert others == [first] * 4


@every_subset
def test_functions_and_asyncio_work(closed):
    def values() -> list[object]:
        with minidocker.Container() as box, minidocker.ContainerExecutor(2) as executor:
            return [
                minidocker.call(int, "1"),
                minidocker.isolated(capture_output=True)(print).run("2").stdout,
                list(executor.map(int, "34")),
                box.call(int, "5"),
                asyncio.run(aio.run(["cat"], input=b"6", stdout=PIPE)).stdout,
                asyncio.run(aio.run(["true"])).returncode,
            ]

    assert with_closed(closed, values) == [1, b"2\n", [3, 4], 5, b"6", 0]


@pytest.mark.parametrize("closed", [[1], [0, 1, 2]], ids=str)
def test_spawned_functions_work(closed):
    spawned = minidocker.isolated(method="spawn", capture_output=True)

    def values() -> list[object]:
        # The template process starts with the first call, and keeps a container ready later.
        return [spawned(print).run(number).stdout for number in range(4)]

    assert with_closed(closed, values) == [b"0\n", b"1\n", b"2\n", b"3\n"]


@pytest.mark.parametrize("closed", [[0], [0, 1, 2]], ids=str)
def test_descriptions_are_those_of_a_caller_with_open_streams(closed):
    def descriptions() -> list[object]:
        report = minidocker.doctor()
        return [
            [str(line) for line in minidocker.explain(["true"])],
            [(row.name, row.status) for row in report],
            sorted(minidocker.namespaces()),
        ]

    assert with_closed(closed, descriptions) == in_child(descriptions)


def test_a_function_keeps_an_empty_input_at_descriptor_0():
    assert with_closed([0], lambda: minidocker.call(os.read, 0, 1)) == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_the_command_line_works(closed, tmp_path):
    command = f"{sys.executable} -m minidocker run sh -c 'echo done > {tmp_path}/proof' {closed}"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    assert (tmp_path / "proof").read_text() == "done\n"


def test_the_pytest_plugin_works_without_a_standard_input(tmp_path):
    (tmp_path / "test_one.py").write_text("import os\ndef test_one(): assert os.getpid() < 10\n")
    options = "-p minidocker -p no:cacheprovider -q --minidocker"
    command = f"{sys.executable} -m pytest {options} {tmp_path} <&-"
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, env=alone
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
