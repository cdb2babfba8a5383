"""Every public timeout takes any number of seconds, and refuses what is none."""

import asyncio
import math
import os
import signal
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest

import minidocker
from minidocker import SpecError
from minidocker._run import timeouts

LONG = [math.inf, sys.float_info.max, 10**400, 1e10, 2**31, 2_592_000, Decimal(10) ** 30]
"""Timeouts beyond what poll(2), time_t or a float can hold."""


def run(timeout):
    assert minidocker.run(["echo", "x"], capture_output=True, timeout=timeout).stdout == b"x\n"


def run_inside(timeout):
    with minidocker.Container() as box:
        assert box.run(["echo", "x"], capture_output=True, timeout=timeout).stdout == b"x\n"


def run_async(timeout):
    done = asyncio.run(minidocker.aio.run(["echo", "x"], capture_output=True, timeout=timeout))
    assert done.stdout == b"x\n"


def wait(timeout):
    with minidocker.Popen(["echo", "x"], stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=timeout) == (b"x\n", None)
        assert process.wait(timeout=timeout) == 0


def call_fork(timeout):
    assert minidocker.isolated(timeout=timeout)(abs)(-1) == 1


def call_spawn(timeout):
    assert minidocker.isolated(timeout=timeout, method="spawn")(abs)(-1) == 1


def submit(timeout):
    with minidocker.ContainerExecutor(1, timeout=timeout) as pool:
        assert list(pool.map(abs, [-1], timeout=timeout)) == [1]


def wait_for_container(timeout):
    with minidocker.Container() as box:
        os.kill(box.pid, signal.SIGKILL)
        box.wait(timeout)


def wait_for_attached(timeout):
    with minidocker.Container() as box, minidocker.attach(box.pid) as attached:
        os.kill(box.pid, signal.SIGKILL)
        attached.wait(timeout)


def stop(timeout):
    with minidocker.Container() as box:
        box.popen(["sleep", "1000"])
        box.stop(timeout)
        assert box.status == "exited"


def stop_attached(timeout):
    with minidocker.Container() as box, minidocker.attach(box.pid) as attached:
        os.kill(box.pid, signal.SIGKILL)
        attached.stop(timeout)


WAITS = [
    run, run_inside, run_async, wait, call_fork, call_spawn, submit, wait_for_container,
    wait_for_attached, stop, stop_attached,
]  # fmt: skip


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("timeout", [math.inf, 2_592_000, 10**400], ids=["inf", "month", "10**400"])
def test_a_long_timeout_is_not_an_error(wait, timeout):
    wait(timeout)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("timeout", [math.nan, True, "5"])
def test_what_is_no_number_of_seconds_is_refused(leaks, wait, timeout):
    with pytest.raises(SpecError, match=r"^timeout=.*: give a number of seconds") as caught:
        wait(timeout)
    assert caught.value.option == "timeout"


@pytest.mark.parametrize("timeout", LONG)
def test_no_wait_is_longer_than_the_kernel_allows(timeout):
    milliseconds = timeouts.milliseconds_until(timeouts.deadline_after(timeouts.seconds(timeout)))
    assert milliseconds is None or 2**31 > milliseconds > 2_000_000_000


@pytest.mark.parametrize("timeout", [Fraction(1, 2), Decimal("0.5"), 0.5])
def test_every_kind_of_number_is_a_timeout(timeout):
    assert timeouts.seconds(timeout) == 0.5


@pytest.mark.parametrize("timeout", [0, -1, -math.inf, -(10**400)])
def test_a_timeout_of_zero_or_less_has_expired(leaks, timeout):
    with pytest.raises(subprocess.TimeoutExpired):
        minidocker.run(["sleep", "1000"], timeout=timeout)
    with pytest.raises(minidocker.CallTimeout):
        minidocker.isolated(timeout=timeout)(signal.pause)()
    with minidocker.Container() as box, pytest.raises(TimeoutError):
        box.wait(timeout)


def test_the_command_line_waits_for_a_month():
    command = [sys.executable, "-m", "minidocker", "run", "--timeout", "2592000", "echo", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


def test_a_wait_continues_after_the_longest_poll(monkeypatch):
    monkeypatch.setattr(timeouts, "LONGEST_POLL", 1)
    assert minidocker.isolated(timeout=60)(subprocess.run)(["sleep", "0.05"]).returncode == 0
    with minidocker.Container() as box:
        process = box.popen(["sleep", "0.05"])
        with minidocker.attach(process.pid) as attached:
            attached.wait(60)
