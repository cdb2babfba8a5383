"""The result names the limit that ended a command, and believes no status alone."""

import asyncio
import pickle
import subprocess
import sys

import pytest

import minidocker
from minidocker import aio

BURN = [sys.executable, "-c", "while True: pass"]
WRITE = ["sh", "-c", "exec head -c 1000000 /dev/zero >/tmp/file"]
# As PID 1 it would get an error instead of SIGXFSZ.
SMALL = {"ulimits": {"fsize": 10_000}, "tmpfs": ["/tmp"], "init": True}


@pytest.mark.parametrize(
    ("limit", "init", "status"), [((1, 20), True, -24), (1, False, -9), (1, True, -9)]
)
def test_a_command_that_uses_up_its_cpu_time(limit, init, status):
    done = minidocker.run(BURN, ulimits={"cpu": limit}, init=init)
    assert done.limit_hit == "ulimits.cpu"
    # With equal limits the kernel may send either signal.
    assert done.returncode in (status, -24 if init else -9)


def test_a_command_whose_file_grows_too_large():
    done = minidocker.run(WRITE, **SMALL)
    assert (done.returncode, done.limit_hit) == (-25, "ulimits.fsize")


@pytest.mark.parametrize("limit", [1, 2, 50])
@pytest.mark.parametrize("number", ["XCPU", "XFSZ", "KILL"])
def test_a_signal_alone_is_no_limit(number, limit):
    script = f"kill -{number} $$"
    done = minidocker.run(["sh", "-c", script], init=True, ulimits={"cpu": limit})
    assert done.returncode < 0
    assert done.limit_hit is None


def test_a_command_that_ends_by_itself_hit_no_limit():
    assert minidocker.run(["true"], ulimits={"cpu": 1, "fsize": 1}).limit_hit is None
    assert minidocker.run(["false"]).limit_hit is None


def test_exceptions_tell_the_limit():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        minidocker.run(WRITE, check=True, **SMALL)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.limit_hit, error.usage) == ("ulimits.fsize", caught.value.usage)
    with pytest.raises(subprocess.TimeoutExpired) as late:
        minidocker.run(["sleep", "100"], timeout=0.5)
    error = pickle.loads(pickle.dumps(late.value))
    assert (error.limit_hit, error.timeout) == ("timeout", 0.5)
    assert error.usage.wall > 0


def test_a_process_tells_it_after_its_end():
    with minidocker.Popen(WRITE, stdin=-1, **SMALL) as process:
        pass
    assert process.limit_hit == "ulimits.fsize"
    with minidocker.Popen(["cat"], stdin=-1) as process:
        assert process.limit_hit is None


def test_asyncio_tells_it_too():
    async def main():
        done = await aio.run(WRITE, **SMALL)
        process = await aio.create_subprocess_exec(*WRITE, **SMALL)
        assert process.limit_hit is None or process.returncode
        await process.wait()
        with pytest.raises(subprocess.TimeoutExpired) as late:
            await aio.run(["sleep", "100"], timeout=0.5)
        return done.limit_hit, process.limit_hit, process.usage.wall > 0, late.value.limit_hit

    assert asyncio.run(main()) == ("ulimits.fsize", "ulimits.fsize", True, "timeout")


def test_a_command_that_enters_a_container_tells_it():
    with minidocker.Container(tmpfs=["/tmp"]) as box:
        done = box.run(WRITE, ulimits={"fsize": 10_000})
        assert done.limit_hit == "ulimits.fsize"
        assert box.run(["true"]).limit_hit is None
