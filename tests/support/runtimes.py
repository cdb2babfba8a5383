"""A program that checks a part of the package's behaviour under a runtime that changes Python.

python -m support.runtimes RUNTIME
"""

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

PIPE = subprocess.PIPE


def error_of(function: Callable[..., object], *arguments: Any, **options: Any) -> Exception | None:
    """Return the exception that a call raises, without pytest's help."""
    try:
        function(*arguments, **options)
    except Exception as error:  # noqa: BLE001 - the caller checks it
        return error
    return None


def a_command_returns_its_status_and_its_output() -> None:
    minidocker = importlib.import_module("minidocker")
    assert minidocker.run(["true"]).returncode == 0
    script = "cat; echo error >&2; exit 3"
    done = minidocker.run(["sh", "-c", script], input="text", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "text", "error\n")
    assert done.usage.wall > 0


def large_input_and_output_pass_at_the_same_time() -> None:
    minidocker = importlib.import_module("minidocker")
    data = b"x" * 3_000_000
    assert minidocker.run(["cat"], input=data, capture_output=True).stdout == data


def both_timeouts_expire() -> None:
    minidocker = importlib.import_module("minidocker")
    for options in ({"stdout": subprocess.DEVNULL}, {"capture_output": True}):
        late = ["sh", "-c", "echo so far; sleep 1000"]
        expired = error_of(minidocker.run, late, timeout=0.3, **options)
        assert isinstance(expired, subprocess.TimeoutExpired)
        assert expired.output == (b"so far\n" if "capture_output" in options else None)


def a_process_talks_and_takes_signals() -> None:
    minidocker = importlib.import_module("minidocker")
    with minidocker.Popen(["cat"], stdin=PIPE, stdout=PIPE) as process:
        process.stdin.write(b"line")
        process.stdin.close()
        # The command's end of its output is closed here, so the end of the file comes.
        assert process.stdout.read() == b"line"
        assert process.wait(20) == 0
    process = minidocker.Popen(["sleep", "1000"])
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        process.terminate()
    assert process.wait() == -signal.SIGTERM


def a_container_runs_commands_and_functions() -> None:
    minidocker = importlib.import_module("minidocker")
    with minidocker.Container() as box:
        sleeper = box.popen(["sleep", "1000"])
        assert box.run(["echo", "x"], capture_output=True).stdout == b"x\n"
        assert box.call(int, "7") == 7
        box.stop()
        assert sleeper.wait() == -signal.SIGTERM


def functions_return_and_raise() -> None:
    minidocker = importlib.import_module("minidocker")
    assert minidocker.call(len, b"x" * 3_000_000) == 3_000_000
    assert len(minidocker.isolated(method="spawn")(bytes)(3_000_000)) == 3_000_000
    assert isinstance(error_of(minidocker.call, int, "x"), ValueError)
    late = error_of(minidocker.isolated(timeout=0.3)(time.sleep), 1000)
    assert isinstance(late, minidocker.CallTimeout)


def an_executor_maps() -> None:
    minidocker = importlib.import_module("minidocker")
    with minidocker.ContainerExecutor(2) as executor:
        assert list(executor.map(int, "12345")) == [1, 2, 3, 4, 5]


def threads_run_at_the_same_time() -> None:
    """Each container waits for a byte of the next one, and the last one for none."""
    minidocker = importlib.import_module("minidocker")
    reader, writer = os.pipe()
    waiting = threading.Thread(
        target=minidocker.run, args=(["head", "-c1"],), kwargs={"stdin": reader, "stdout": PIPE}
    )
    waiting.start()
    minidocker.run(["echo", "x"], stdout=writer)
    waiting.join()


def a_copy_has_one_thread() -> None:
    minidocker = importlib.import_module("minidocker")
    reader, writer = os.pipe()
    ended: list[bool] = []

    def write_pids() -> None:
        while not ended:
            os.write(writer, f"{os.getpid()} ".encode())
            time.sleep(0.01)

    other = threading.Thread(target=write_pids)
    other.start()
    # In the copy, both calls let green threads run.
    assert minidocker.call(_wait_for_a_command) == 0
    ended.append(True)
    other.join()
    assert {*os.read(reader, 65536).split()} == {b"%d" % os.getpid()}


def _wait_for_a_command() -> int:
    time.sleep(0.1)
    return subprocess.run(["true"], check=False).returncode


def a_status_survives_a_runtime_that_reaps_every_child() -> None:
    """libev does, from the first process on that gevent watches."""
    minidocker = importlib.import_module("minidocker")
    subprocess.run(["true"], check=True)
    found = {minidocker.run(["sh", "-c", "exit 3"]).returncode for _ in range(10)}
    assert found == {3} or (_kernel() < (6, 15) and found <= {0, 3})
    assert minidocker.run(["sh", "-c", "exit 3"], init=True).returncode == 3


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))


BLOCKING: list[Callable[[], None]] = [
    a_command_returns_its_status_and_its_output,
    large_input_and_output_pass_at_the_same_time,
    both_timeouts_expire,
    a_process_talks_and_takes_signals,
    a_container_runs_commands_and_functions,
    functions_return_and_raise,
    an_executor_maps,
    threads_run_at_the_same_time,
    a_copy_has_one_thread,
    a_status_survives_a_runtime_that_reaps_every_child,
]


async def coroutines() -> None:
    """Check `minidocker.aio` in the loop that runs."""
    aio = importlib.import_module("minidocker.aio")
    for _ in range(20):
        assert (await aio.run(["true"])).usage.wall > 0
    data = b"x" * 3_000_000
    assert (await aio.run(["cat"], input=data, capture_output=True)).stdout == data
    late = ["sh", "-c", "echo so far; sleep 1000"]
    expired = None
    try:
        await aio.run(late, capture_output=True, timeout=0.3)
    except subprocess.TimeoutExpired as error:
        expired = error
    assert expired is not None
    assert expired.output == b"so far\n"
    for rounds in range(8):
        task = asyncio.create_task(aio.run(["sleep", "1000"], input=b"", capture_output=True))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    process = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"line") == (b"line", None)
    for send, number in (("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)):
        process = await aio.create_subprocess_exec("sleep", "1000")
        getattr(process, send)()
        assert await process.wait() == -number
    scripts = (["sh", "-c", f"sleep 0.1; exit {number}"] for number in range(8))
    ended = await asyncio.gather(*map(aio.run, scripts))
    assert [done.returncode for done in ended] == list(range(8))


def _run_blocking() -> None:
    for check in BLOCKING:
        check()


def gevent() -> None:
    importlib.import_module("gevent.monkey").patch_all()
    _run_blocking()


def gevent_patched_late() -> None:
    importlib.import_module("minidocker._run.process")
    gevent()


def eventlet() -> None:
    importlib.import_module("eventlet").monkey_patch()
    _run_blocking()


def eventlet_patched_late() -> None:
    importlib.import_module("minidocker._run.process")
    eventlet()


def uvloop() -> None:
    importlib.import_module("uvloop").run(coroutines())


def asyncio_with_eager_tasks() -> None:
    async def main() -> None:
        factory: Any = getattr(asyncio, "eager_task_factory", None)
        asyncio.get_running_loop().set_task_factory(factory)
        await coroutines()

    asyncio.run(main())


def trio() -> None:
    trio: Any = importlib.import_module("trio")

    async def main() -> None:
        minidocker = importlib.import_module("minidocker")
        async with trio.open_nursery() as nursery:
            for check in BLOCKING:
                nursery.start_soon(trio.to_thread.run_sync, check)
        # In the loop's own thread, which has a wake-up descriptor for signals.
        a_command_returns_its_status_and_its_output()
        # A process of trio beside them.
        done = await trio.run_process(["sh", "-c", "exit 3"], check=False)
        assert done.returncode == 3
        with trio.move_on_after(0.2) as scope:
            await trio.to_thread.run_sync(
                lambda: minidocker.run(["sleep", "0.5"]), abandon_on_cancel=True
            )
        assert scope.cancelled_caught

    trio.run(main)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    children = f"/proc/self/task/{os.getpid()}/children"
    with open(children, encoding="ascii") as file:
        print("done, with these children:", *file.read().split())
