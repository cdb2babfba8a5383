"""Containers that end by themselves, are shared by threads, or are inherited by a fork."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

import minidocker
from minidocker import Container, NamespaceOptions
from support.child import in_child
from support.waiting import wait_until

PIPE = subprocess.PIPE
ROOT = os.geteuid() == 0
KINDS = {"all": NamespaceOptions.all(), "without_pid": NamespaceOptions.all().without_pid()}
if ROOT:
    # A plain user needs a user namespace.
    KINDS["none"] = NamespaceOptions.none()

every_kind = pytest.mark.parametrize("namespaces", KINDS.values(), ids=KINDS)


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("namespaces", [KINDS["all"]], ids=["all"])
def test_a_wait_returns_when_another_program_kills_a_container_with_a_command(namespaces, leaks):
    box = Container(namespaces=namespaces).start()
    command = box.popen(["sleep", "1000"])
    # The init cannot end before its caller reaps the command.
    os.kill(box.pid, signal.SIGKILL)
    box.wait(timeout=30)
    assert box.status == "exited"
    assert command.wait() == -signal.SIGKILL


@every_kind
def test_the_end_of_the_block_ends_the_commands_too(namespaces, leaks, survivors):
    with Container(namespaces=namespaces) as box:
        command = box.popen(["sh", "-c", "sleep 1000 & sleep 1000"], env=survivors.env)
        wait_until(lambda: len(survivors.find()) == 3)
    assert command.returncode == -signal.SIGKILL


@every_kind
def test_threads_may_wait_ask_and_kill_at_the_same_time(namespaces, leaks):
    for _ in range(5):
        box = Container(namespaces=namespaces).start()
        actions = [box.wait, box.wait, box.kill, box.kill, lambda box=box: box.status]
        threads = [threading.Thread(target=action) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert box.status == "exited"


@pytest.mark.plain(reason="root may inspect every process")
def test_a_plain_user_is_told_that_a_container_needs_a_user_namespace(leaks):
    with pytest.raises(minidocker.SpecError, match="user namespace"):
        Container(namespaces=NamespaceOptions.none())


# --- forks ----------------------------------------------------------------------------------------


def use(box: Container) -> tuple[object, ...]:
    """Use a container in every way that leaves it running."""
    with pytest.raises(TimeoutError):
        box.wait(timeout=0)
    with box:
        pass
    return (
        box.status,
        box.pid,
        box.run(["echo", "x"], stdout=PIPE).stdout,
        len(box.processes()),
        box.call(int, "7"),
        repr(box).split()[1],
    )


@every_kind
def test_a_forked_child_uses_the_container_of_its_parent_and_does_not_end_it(namespaces, leaks):
    with Container(namespaces=namespaces) as box:
        with minidocker.attach(box.pid) if namespaces.uts else Container() as attached:
            assert in_child(use, box) == ("running", box.pid, b"x\n", 1, 7, "running")
            assert in_child(lambda: attached.run(["true"]).returncode) == 0
            assert in_child(lambda: attached.status) == "running"
        assert box.status == "running"
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply(os.getpid) != os.getpid()
        assert box.run(["true"]).returncode == 0


@every_kind
def test_a_forked_child_may_kill_the_container(namespaces, leaks):
    box = Container(namespaces=namespaces).start()
    command = box.popen(["sleep", "1000"])
    in_child(box.kill)
    box.wait(timeout=30)
    assert box.status == "exited"
    assert command.wait(timeout=30) == -signal.SIGKILL


def test_a_fork_waits_for_a_command_of_its_parent(leaks):
    process = minidocker.Popen(["cat"], stdin=PIPE)

    def ask() -> tuple[object, ...]:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
        return process.poll(), process.returncode

    assert in_child(ask) == (None, None)
    in_child(process.kill)
    assert process.wait(timeout=30) == -signal.SIGKILL
    process.stdin.close()


def test_a_copy_in_another_pid_namespace_says_what_is_the_matter(leaks):
    with Container() as box, minidocker.Popen(["sleep", "1000"]) as process:

        def errors() -> list[str]:
            found = []
            actions = [
                lambda: box.pid,
                lambda: box.status,
                lambda: box.run(["true"]),
                box.processes,
                box.stop,
                box.kill,
                process.terminate,
            ]
            for action in actions:
                try:
                    action()
                except OSError as error:
                    found.append(str(error))
            with box:
                pass
            return found

        found = minidocker.call(errors)
        assert len(found) == 7
        assert all("PID namespace" in text for text in found)
        assert box.status == "running"
        assert process.poll() is None
        process.kill()


def test_an_executor_in_a_fork_says_what_is_the_matter():
    with minidocker.ContainerExecutor(1) as executor:
        assert executor.submit(int, "5").result() == 5

        def submit() -> str:
            with pytest.raises(RuntimeError) as caught:
                executor.submit(int, "5")
            return str(caught.value)

        assert "fork" in in_child(submit)
        assert executor.submit(int, "6").result() == 6


# --- callers that get orphans ---------------------------------------------------------------------

CALLER = """
import ctypes, os, signal, sys, time, minidocker
from minidocker import NamespaceOptions
if sys.argv[1] == "subreaper":
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
elif sys.argv[1] == "ignores":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
elif sys.argv[1] == "reaps":
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]: pass
        except ChildProcessError:
            pass
    signal.signal(signal.SIGCHLD, reap)
own = NamespaceOptions.all()
for namespaces in (own, own.without_pid()):
    for end in ("kill", "stop"):
        with minidocker.Container(namespaces=namespaces) as box:
            # Each leaves an orphan; the second one runs on.
            box.run(["sh", "-c", "sleep 1000 & exit 3"])
            command = box.popen(["sh", "-c", "(sleep 1000 &); sleep 1000"])
            deadline = time.monotonic() + 30
            while sum(process.command == "sleep 1000" for process in box.processes()) < 3:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            getattr(box, end)()
        assert box.status == "exited"
        assert command.returncode is not None
zombies = []
for process in filter(str.isdecimal, os.listdir("/proc")):
    try:
        with open(f"/proc/{process}/stat") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
    except OSError:
        continue
    if parent == str(os.getpid()) and state == "Z":
        zombies.append(process)
print("done", *zombies)
"""


@pytest.mark.parametrize("caller", ["pid1", "subreaper", "ignores", "reaps"])
def test_a_caller_that_gets_orphans_ends_its_containers_and_reaps_them(caller):
    command = [sys.executable, "-c", CALLER, caller]
    if caller == "pid1":
        command = [
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            *command,
        ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["done"], "")


def test_a_container_that_is_ending_is_not_taken_for_another_users():
    for _ in range(30):
        with minidocker.Container() as box, minidocker.attach(box.pid) as attached:
            os.kill(box.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                while True:
                    attached.namespaces()
