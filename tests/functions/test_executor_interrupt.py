"""A Ctrl-C ends the running tasks of a `ContainerExecutor`, wherever it meets the program."""

import signal
import subprocess
import sys
import threading
import traceback

import pytest

import minidocker
from minidocker import BrokenContainer
from support import functions
from support.waiting import wait_until

WAITS = {
    "map": "with pool: list(pool.map(work, range(4)))",
    "result": "pool.submit(work, 1).result()",
    "exception": "pool.submit(work, 1).exception()",
    "shutdown": "with pool: pool.submit(work, 1)",
    "wait": "concurrent.futures.wait([pool.submit(work, 1)])",
    "asyncio": (
        "async def main(): await asyncio.get_running_loop().run_in_executor(pool, work, 1)\n"
        "asyncio.run(main())"
    ),
    "another wait": "pool.submit(work, 1); time.sleep(1000)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_the_tasks_of_a_program(survivors, wait):
    code = (
        "import asyncio, concurrent.futures, subprocess, time, minidocker\n"
        "def work(_):\n"
        f"    subprocess.run(['sh', '-c', 'echo started; sleep 1000; : {survivors.mark}'])\n"
        f"pool = minidocker.ContainerExecutor(2)\n{wait}"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        finally:
            process.kill()
    assert error.endswith("KeyboardInterrupt\n")
    assert process.returncode == -signal.SIGINT
    survivors.wait_until_gone()


@pytest.mark.parametrize("tasks", ["1", "None"])
def test_ctrl_c_during_the_start_of_a_thread_ends_the_task_that_it_has_begun(survivors, tasks):
    code = (
        "import subprocess, threading, minidocker, sys\n"
        "start = threading.Thread.start\n"
        "def interrupted(thread):\n"
        "    threading.Thread.start = start\n"
        "    thread.start()\n"
        "    sys.stdin.read(1)\n"
        "    raise KeyboardInterrupt\n"
        # With "fork", os.fork() would wait for the locks that the start of a thread holds.
        f"pool = minidocker.ContainerExecutor(2, max_tasks_per_child={tasks}, method='spawn')\n"
        f"command = ['sh', '-c', 'echo started; sleep 1000; : {survivors.mark}']\n"
        "with pool:\n"
        "    threading.Thread.start = interrupted\n"
        "    pool.submit(subprocess.run, command)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout.readline() == "started\n"
            _, error = process.communicate("x", timeout=60)
        finally:
            process.kill()
    assert error.endswith("KeyboardInterrupt\n")
    survivors.wait_until_gone()


@pytest.mark.parametrize("tasks", [1, None], ids=["", "kept"])
def test_a_pool_is_usable_after_a_ctrl_c(template, leaks, tmp_path, tasks):
    begun = tmp_path / "begun"
    main = threading.main_thread().ident

    def waits_for_the_result():
        frame = sys._current_frames()[main]
        functions = {frame.f_code.co_name for frame, _ in traceback.walk_stack(frame)}
        return {"result", "wait"} <= functions

    def interrupt():
        wait_until(lambda: begun.exists() and waits_for_the_result())
        signal.pthread_kill(main, signal.SIGINT)

    with minidocker.ContainerExecutor(1, max_tasks_per_child=tasks) as pool:
        code = f"open({str(begun)!r}, 'w').close(); import time; time.sleep(1000)"
        futures = [pool.submit(exec, code, {}) for _ in range(3)]
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            futures[0].result()
        interrupter.join()
        for future in futures:
            with pytest.raises(BrokenContainer, match="interrupted"):
                future.result(30)
        assert pool.submit(functions.add, 1).result() == 2


def test_a_keyboard_interrupt_of_a_function_ends_no_other_task(template, leaks):
    with minidocker.ContainerExecutor(2) as pool:
        other = pool.submit(functions.wait_for, "/")
        with pytest.raises(KeyboardInterrupt):
            pool.submit(exec, "raise KeyboardInterrupt", {}).result()
        assert other.result() is None
