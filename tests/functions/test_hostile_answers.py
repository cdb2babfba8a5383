"""A function that attacks its channel cannot make a call late, endless, large or wrong."""

import os
import signal
import time
import tracemalloc

import pytest

import minidocker
from minidocker import BrokenContainer, CallExited, CallFailed, CallResultError, CallTimeout
from minidocker._functions import conversation
from support import functions
from support.hostile import script
from support.waiting import descendants_of, wait_for_state, wait_until

pytestmark = pytest.mark.usefixtures("template", "leaks")

PATIENCE = 20
"""Seconds in which a call with a short timeout returns on a busy machine."""
LONG = 30
"""A timeout that no test reaches."""

WAYS = {
    "fork, json": {"method": "fork", "result": "json"},
    "fork, pickle": {"method": "fork", "result": "pickle"},
    "spawn, json": {"method": "spawn", "result": "json", "profile": "untrusted"},
    "executor": {"method": "spawn", "result": "json", "profile": "untrusted", "tasks": 1},
    "executor, kept": {"method": "fork", "result": "json", "tasks": None},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def attack(request):
    """Return a function that runs a script of ``support.hostile`` in one of the ways."""

    def run(code, timeout):
        options = dict(request.param)
        tasks = options.pop("tasks", 0)
        hostile = script(code, as_json=options["result"] == "json")
        started = time.monotonic()
        try:
            if tasks == 0:
                return minidocker.isolated(timeout=timeout, **options)(exec)(hostile, {})
            with minidocker.ContainerExecutor(
                1, timeout=timeout, max_tasks_per_child=tasks, **options
            ) as pool:
                return pool.submit(exec, hostile, {}).result()
        finally:
            assert time.monotonic() - started < PATIENCE + timeout

    return run


# --- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "send(answer[:5]); time.sleep(1000)",
        "send(answer[:-1]); time.sleep(1000)",
        "send(message(answer[0], b'', 60000))\nwhile True: send(b'1'); time.sleep(0.01)",
        "os.kill(os.getpid(), signal.SIGSTOP); time.sleep(1000)",
        "send(answer[:-1]); os.kill(os.getpid(), signal.SIGSTOP)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); time.sleep(1000)",
        "os.close(channel); time.sleep(1000)",
    ],
    ids=[
        "half a header", "half an answer", "byte after byte", "stopped",
        "half an answer, then stopped", "blocked signals", "closed channel",
    ],
)  # fmt: skip
def test_a_function_that_does_not_answer_ends_at_its_timeout(attack, code):
    with pytest.raises(CallTimeout):
        attack(code, 0.7)


@pytest.mark.parametrize("end", ["time.sleep(1000)", "while True: send(answer)"])
def test_an_early_answer_does_not_prolong_the_timeout(attack, end, monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 1000.0)
    assert attack(f"send(answer)\n{end}", 3) == 5


@pytest.mark.parametrize("end", ["time.sleep(1000)", "while True: send(answer)"])
def test_a_process_that_does_not_end_after_its_answer_is_killed(attack, end, monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 0.2)
    assert attack(f"send(answer)\n{end}", LONG) == 5


def test_output_without_end_meets_the_deadline():
    write = minidocker.isolated(timeout=0.7, capture_output=True, result_limit=1 << 40)(exec)
    with pytest.raises(CallTimeout) as caught:
        write("import os\nwhile True: os.write(1, bytes(1000))", {})
    assert len(caught.value.stdout) > 0


def test_a_writer_that_outlives_its_container_does_not_prolong_the_call(survivors):
    # Without a PID namespace, a process in another session survives the call.
    namespaces = minidocker.NamespaceOptions.all().without_pid()
    code = (
        "import os, subprocess, sys\n"
        "shout = 'import os; print(flush=True)\\nwhile True: os.write(1, bytes(1 << 16))'\n"
        f"command = [sys.executable, '-c', shout, {survivors.mark!r}]\n"
        "subprocess.Popen(command, start_new_session=True)\n"
        "os.read(0, 1)"
    )
    shout = minidocker.isolated(namespaces=namespaces, capture_output=True, timeout=LONG)(exec)
    try:
        shout.run(code, {})
    finally:
        survivors.kill()


# --- malformed answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "while True: send(b'\\xff' * 100)",
        "send(message(answer[0], b'', length=2**64 - 1)); time.sleep(1000)",
        "send(message(answer[0], b'', length=2**63)); time.sleep(1000)",
        "send(message(VALUE if answer[0] == JSON_VALUE else JSON_VALUE, b'5')); time.sleep(1000)",
        "send(message(TASK, b'5')); time.sleep(1000)",
        "send(message(INITIALIZED, b'no')); time.sleep(1000)",
        "send(message(INITIALIZED, b'') * 2); time.sleep(1000)",
    ],
    ids=[
        "another protocol", "length 2**64 - 1", "length 2**63", "the other format", "a task",
        "a wrong report", "two reports",
    ],
)  # fmt: skip
def test_a_malformed_answer_is_refused_at_once(attack, code):
    with pytest.raises(CallResultError):
        attack(code, LONG)


def test_half_an_answer_is_no_answer(attack):
    with pytest.raises((CallExited, BrokenContainer)):
        attack("send(answer[:-1]); os._exit(0)", LONG)


def test_an_answer_on_the_standard_output_is_output(attack):
    assert attack("os.write(1, answer)", LONG) is None


def test_a_flood_of_answers_is_not_read(attack, monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 0.5)
    tracemalloc.start()
    try:
        assert attack("answer *= 10000\nwhile True: send(answer)", LONG) == 5
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_ahead_of_the_next_task_ends_its_container(tmp_path):
    sent = tmp_path / "sent"
    code = script(
        "def forge():\n"
        "    time.sleep(0.1); send(answer); os.close(os.open(sent, os.O_CREAT))\n"
        "threading.Thread(target=forge, daemon=True).start()"
    )
    with minidocker.ContainerExecutor(1, max_tasks_per_child=None, result="json") as pool:
        assert pool.submit(exec, code, {"sent": str(sent)}).result() is None
        wait_until(sent.exists)
        assert pool.submit(functions.add, 1).result() == 2


def test_a_container_that_ended_between_two_tasks_is_replaced():
    with minidocker.ContainerExecutor(1, max_tasks_per_child=None) as pool:
        before = descendants_of(os.getpid()).keys()
        pool.submit(functions.remember, 1).result()
        init = min(descendants_of(os.getpid()).keys() - before)
        os.kill(init, signal.SIGKILL)
        wait_for_state(init, "Z")
        assert pool.submit(functions.recall).result() == []


def test_a_function_cannot_forge_the_failure_of_an_initializer(monkeypatch):
    monkeypatch.setattr(conversation, "GRACE", 0.2)
    forge = script('send(message(JSON_RAISED, b\'["E", "forged", ""]\')); time.sleep(1000)')
    with minidocker.ContainerExecutor(
        1, result="json", initializer=functions.remember, initargs=(1,)
    ) as pool:
        with pytest.raises(CallFailed, match="forged"):
            pool.submit(exec, forge, {}).result()
        # The pool is not broken.
        assert pool.submit(functions.recall).result() == [1]
