"""Containers in asyncio: they do not block the loop, and cancelling leaves nothing behind."""

import array
import asyncio
import gc
import signal
import subprocess
import sys

import pytest

import minidocker
from minidocker import aio

PIPE = subprocess.PIPE


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_run_has_the_meaning_of_minidocker_run():
    async def main():
        return await aio.run(
            ["sh", "-c", "hostname; cat; echo error >&2; exit 3"],
            hostname="lab",
            input="text\n",
            capture_output=True,
            text=True,
        )

    done = asyncio.run(main())
    assert isinstance(done, minidocker.CompletedProcess)
    assert (done.returncode, done.stdout, done.stderr) == (3, "lab\ntext\n", "error\n")
    assert done.usage.wall > 0


def test_many_containers_run_at_once(tmp_path):
    async def main():
        # Each command waits until all of them are running.
        script = "touch $1/$2; while [ $(ls $1 | wc -l) -lt 20 ]; do sleep 0.02; done; echo $2"
        runs = (
            aio.run(["sh", "-c", script, "sh", tmp_path, str(n)], capture_output=True, timeout=100)
            for n in range(20)
        )
        return await asyncio.gather(*runs)

    done = asyncio.run(main())
    assert [int(found.stdout) for found in done] == list(range(20))


@pytest.mark.smoke
def test_cancelling_ends_the_whole_container(survivors, leaks):
    async def main():
        script = "sleep 1000 & sleep 1000"
        task = asyncio.create_task(
            aio.run(["sh", "-c", script], env=survivors.env, capture_output=True)
        )
        while len(survivors.find()) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not survivors.find()

    asyncio.run(main())


def test_a_timeout_has_the_output_so_far(leaks):
    async def main():
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            await aio.run(
                ["sh", "-c", "echo so far; sleep 1000 & sleep 1000"],
                capture_output=True,
                timeout=0.3,
            )
        return caught.value

    expired = asyncio.run(main())
    assert expired.output == b"so far\n"
    assert expired.timeout == 0.3


def test_a_timeout_and_a_cancellation_may_come_after_the_end(monkeypatch, leaks):
    communicate = aio._communicate

    async def slow(*args):
        await communicate(*args)
        await asyncio.sleep(1000)

    async def main():
        with pytest.raises(subprocess.TimeoutExpired):
            await aio.run(["true"], timeout=0.5)
        task = asyncio.create_task(aio.run(["true"]))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(aio, "_communicate", slow)
    asyncio.run(main())


def test_create_subprocess_exec_gives_an_asyncio_process(leaks):
    async def main():
        process = await aio.create_subprocess_exec(
            "sh", "-c", "read line; echo got $line", stdin=PIPE, stdout=PIPE, hostname="lab"
        )
        assert isinstance(process, asyncio.subprocess.Process)
        out, err = await process.communicate(b"one\n")
        assert (out, err, process.returncode) == (b"got one\n", None, 0)
        sleeper = await aio.create_subprocess_exec("sleep", "1000")
        sleeper.terminate()
        assert await sleeper.wait() == -15

    asyncio.run(main())


def test_a_shell_line_runs_in_a_container():
    async def main():
        process = await aio.create_subprocess_shell(
            "echo $((6 * 7)); hostname", stdout=PIPE, hostname="lab"
        )
        return await process.communicate()

    assert asyncio.run(main())[0] == b"42\nlab\n"


def test_errors_are_those_of_run(leaks):
    async def main():
        with pytest.raises(minidocker.CommandNotFound):
            await aio.run(["no-such-command"])
        with pytest.raises(minidocker.SpecError, match="carry bytes"):
            await aio.create_subprocess_exec("true", text=True)
        with pytest.raises(minidocker.SpecError, match="hostname"):
            await aio.run(["true"], hostnam="x")
        with pytest.raises(subprocess.CalledProcessError):
            await aio.run(["false"], check=True)

    asyncio.run(main())


def test_large_input_and_output_pass_at_the_same_time():
    data = b"x" * 5_000_000

    async def main():
        return await aio.run(
            [
                sys.executable,
                "-c",
                "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)",
            ],
            input=data,
            capture_output=True,
        )

    assert asyncio.run(main()).stdout == data


@pytest.mark.parametrize("rounds", range(12))
def test_cancelling_at_any_moment_of_the_start_leaves_nothing(rounds, survivors, leaks):
    async def main():
        task = asyncio.create_task(
            aio.run(["sleep", "1000"], env=survivors.env, capture_output=True, input=b"")
        )
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not survivors.find()

    asyncio.run(main())
    gc.collect()


def test_a_process_takes_signals_that_its_command_does_not_handle(leaks):
    """The command is PID 1, to which the kernel does not deliver them."""

    async def main():
        ends = []
        for send in ("terminate", "kill", "send_signal"):
            process = await aio.create_subprocess_exec("sleep", "1000")
            getattr(process, send)(*([signal.SIGUSR1] if send == "send_signal" else []))
            ends.append(await process.wait())
            with pytest.raises(ProcessLookupError):
                process.terminate()
        return ends

    assert asyncio.run(main()) == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGUSR1]


@pytest.mark.parametrize(
    "options",
    [{"bufsize": 1}, {"extra": {}}, {"waiter": None}, {"protocol": None}, {"timeot": 1}],
    ids=str,
)
@pytest.mark.parametrize("call", ["run", "create_subprocess_exec", "create_subprocess_shell"])
def test_an_option_that_asyncio_cannot_have_is_refused_at_the_call(call, options, leaks):
    async def main():
        with pytest.raises(minidocker.SpecError, match=next(iter(options))):
            await getattr(aio, call)(["true"] if call == "run" else "true", **options)

    asyncio.run(main())


def test_a_shell_is_chosen_by_the_function(leaks):
    async def main():
        with pytest.raises(minidocker.SpecError, match="create_subprocess_shell"):
            await aio.create_subprocess_exec("true", shell=True)
        with pytest.raises(minidocker.SpecError, match="create_subprocess_exec"):
            await aio.create_subprocess_shell("true", shell=False)
        return await (await aio.create_subprocess_exec("true", shell=False, bufsize=0)).wait()

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("data", [5, ["x"], object()], ids=["int", "list", "object"])
def test_an_input_of_a_wrong_type_is_refused_at_the_call(data, leaks):
    async def main():
        with pytest.raises(TypeError, match="bytes-like"):
            await aio.run(["cat"], input=data, stdout=PIPE)

    asyncio.run(main())


def test_an_input_may_be_any_buffer():
    async def main():
        return await aio.run(["cat"], input=array.array("i", [1, 2]), stdout=PIPE)

    assert asyncio.run(main()).stdout == array.array("i", [1, 2]).tobytes()
