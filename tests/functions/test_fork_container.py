"""Start method "fork": the container of the copy, and its cleanup."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, Spec, _core, call
from minidocker._functions import fork
from support import functions
from support.waiting import wait_while


def test_the_copys_descriptors_are_the_callers_and_a_channel():
    def inside():
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                found[int(name)] = (
                    os.readlink(f"/proc/self/fd/{name}"),
                    os.get_inheritable(int(name)),
                )
            except OSError:
                continue
        return found

    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    outside, within = inside(), call(inside)
    os.close(reader)
    os.close(writer)
    for fd in (1, 2, reader, writer):
        assert within[fd] == outside[fd]
    assert within[0][0] == "/dev/null"
    added = [what for fd, (what, _) in within.items() if fd not in outside]
    assert len(added) == 1
    assert added[0].startswith("socket:")
    # The copy has neither the watchdog's socket nor the sealed helper.
    assert not [what for what, _ in within.values() if "minidocker" in what]


def test_nothing_of_the_caller_changes(leaks):
    def facts():
        status = Path("/proc/self/status").read_text()
        kept = (
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "Uid",
            "Gid",
            "CapEff",
            "NoNewPrivs",
            "Seccomp",
            "NSpid",
        )
        return (
            [line for line in status.splitlines() if line.startswith(kept)],
            [os.readlink(f"/proc/self/ns/{kind}") for kind in sorted(os.listdir("/proc/self/ns"))],
            os.getcwd(),
            os.getsid(0),
            os.getpgrp(),
            resource.getrlimit(resource.RLIMIT_NOFILE),
            ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        )

    before = facts()
    call(functions.where, spec=Spec(hostname="lab"))
    assert facts() == before


def test_a_copy_with_another_user_can_read_its_own_proc():
    def inside():
        return os.getuid(), len(os.listdir("/proc/self/fd")) > 0

    assert call(inside, spec=Spec(user=1234)) == (1234, True)
    assert os.getuid() == os.geteuid() != 1234


def test_a_copy_can_have_clocks_of_its_own():
    spec = Spec(
        namespaces=NamespaceOptions.all().with_time(), time_offsets={"monotonic": 1_000_000}
    )
    assert call(time.monotonic, spec=spec) > time.monotonic() + 999_000


def test_a_copy_has_a_session_of_its_own():
    def inside():
        os.kill(0, signal.SIGTERM)
        time.sleep(10)

    with pytest.raises(minidocker.CallKilled) as caught:
        call(inside)
    assert caught.value.signal == signal.SIGTERM


def test_another_containers_network_is_refused_because_its_processes_could_read_the_copy():
    with (
        minidocker.Container() as box,
        pytest.raises(minidocker.SpecError, match='Use method="spawn"'),
    ):
        call(int, spec=Spec(network=box))


def how_many_calls(spec):
    return _core.call_count(spec.core(), fork.copy_command(spec), fork=True)


INJECTED = Spec(hostname="lab")


def fail_at(spec, number):
    """Make a call of the plan fail; return the error number, or None if the failure is ignored."""
    try:
        container = fork.run_in_copy(lambda _: os._exit(9), spec, inject=(number, 13))
    except minidocker.SpawnError as error:
        return error.errno
    assert container.wait().returncode == 9
    container.close()
    return None


@pytest.mark.parametrize("number", range(how_many_calls(INJECTED)))
def test_a_failure_of_any_call_leaves_nothing(leaks, number):
    assert fail_at(INJECTED, number) in (13, None)


def test_a_failure_leaves_the_directory_of_a_layer_empty(leaks, tmp_path):
    assert fail_at(Spec(overlay=tmp_path), 0) == 13
    assert not list(tmp_path.iterdir())


@pytest.mark.root(reason="shares the user namespace")
def test_a_failure_of_any_call_leaves_nothing_without_namespaces(leaks):
    spec = Spec(namespaces=NamespaceOptions.none())
    failed = [fail_at(spec, number) for number in range(how_many_calls(spec))]
    assert set(failed) == {13}


def test_the_container_ends_with_the_caller(survivors):
    script = """
import sys, threading, time, minidocker
from support import functions
from support.places import TESTS
for _ in range(2):
    threading.Thread(target=minidocker.call, args=(functions.sleep_marked, 60, sys.argv[1])).start()
print("started", flush=True)
"""
    path = os.pathsep.join(sys.path)
    for delay in (0.0, 0.002, 0.01, 0.05, 0.5):
        caller = subprocess.Popen(
            [sys.executable, "-c", script, survivors.mark],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        caller.stdout.readline()
        time.sleep(delay)
        caller.kill()
        caller.wait()
        caller.stdout.close()
        survivors.wait_until_gone()


def test_the_container_does_not_end_with_the_thread_that_started_it():
    running = []

    def start():
        def work(channel):
            os.write(channel, os.read(channel, 10))

        running.append(fork.run_in_copy(work, Spec()))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    wait_while(lambda: str(thread.native_id) in os.listdir("/proc/self/task"))
    (container,) = running
    # A signal from the end of the thread would be pending now, and would prevent the answer.
    os.write(container.channel, b"alive")
    assert os.read(container.channel, 10) == b"alive"
    assert container.wait().returncode == 0
    container.close()
