"""A container ends when the process that started it ends, for any reason, and not before."""

import os
import signal
import subprocess
import threading
import time

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.callers import calling, is_alive, watchdogs_of
from support.specs import has_subordinate_ids
from support.waiting import wait_until, wait_while

ROOT = os.geteuid() == 0


def test_the_watchdog_kills_no_other_process_whatever_the_caller_sends(noop):
    """A caller that dropped privileges must not kill through the watchdog: no confused deputy."""
    script = """
import array, socket
minidocker.run([sys.argv[1]], check=True)
pidfd = os.pidfd_open(int(sys.argv[2]))
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))
            with socket.socket(fileno=os.dup(number)) as one:
                one.sendmsg([bytes([SESSION]) + bytes(200)], [rights], socket.MSG_DONTWAIT)
    except OSError:
        pass
say("sent")
sys.stdin.read()
"""
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as bystander:
        pidfd = os.pidfd_open(bystander.pid)
        distinct = os.fstat(pidfd).st_ino != os.fstat(own := os.pidfd_open(os.getpid())).st_ino
        os.close(pidfd)
        os.close(own)
        watchdogs = []
        for session in (0, 1):
            with calling(f"SESSION = {session}\n{script}", noop, bystander.pid) as caller:
                assert caller.line() == "sent"
                watchdogs += watchdogs_of(caller.pid)
                caller.stdin.close()
                caller.wait()
        # The watchdogs end after they have read every message.
        wait_while(lambda: any(map(is_alive, watchdogs)))
        ended = bystander.poll()
        bystander.kill()
    # Before Linux 6.9 all pidfds have one inode number, and the watchdog cannot check them.
    assert (ended is None) or not distinct


# --- kill -9 of the caller ---------------------------------------------------------------------

# Each forked child is a caller with its own watchdog; a fork is faster than a new interpreter.
ROUNDS = """
rounds, at_once = 200, 10
any_user = [
    (["sleep", "100"], {}),
    (["sleep", "100"], {"init": True}),
    (["sh", "-c", "sleep 100 & wait"], {"namespaces": NamespaceOptions.all().without_pid()}),
    (["sleep", "100"], {"namespaces": NamespaceOptions.none().with_user()}),
    ("enter", {}),
]
roots = [
    (["sleep", "100"], {"user": "nobody", "group": "nogroup"}),
    (["setpriv", "--reuid=65534", "sleep", "100"], {}),
    (["setpriv", "--reuid=65534", "sleep", "100"], {"namespaces": NamespaceOptions.none()}),
    (["su", "-s", "/bin/sh", "nobody", "-c", "exec sleep 100"],
     {"namespaces": NamespaceOptions.none(), "no_new_privileges": False}),
    (["sleep", "100"], {"namespaces": NamespaceOptions.none(), "user": "nobody"}),
    (["setpriv", "--reuid=65534", "sleep", "100"], {"init": True}),
]
plains = [
    (["sleep", "100"], {"namespaces": NamespaceOptions.none()}),
    (["sleep", "100"], {"user": 1234}),
]
subordinate = [(["sleep", "100"], {"uid_map": "auto", "gid_map": "auto", "user": 1})]
kinds = any_user + (roots if os.geteuid() == 0 else plains)
if sys.argv[1] == "True":
    kinds += subordinate * 2

def start(kind):
    command, options = kind
    if command != "enter":
        return minidocker.Popen(command, **options)
    box = minidocker.Container(**options).start()
    return box, box.popen(["sleep", "100"])

def caller(seed):
    chosen = random.Random(seed)
    started = []
    def go():
        while len(started) < 4:
            started.append(start(chosen.choice(kinds)))
    for _ in range(2):
        threading.Thread(target=go, daemon=True).start()
    time.sleep(100)

seed = int(sys.argv[2])
chosen = random.Random(seed)
say("seed", seed)
for batch in range(rounds // at_once):
    pids = []
    for number in range(at_once):
        pid = os.fork()
        if pid == 0:
            try:
                caller(seed + batch * at_once + number)
            finally:
                os._exit(1)
        pids.append(pid)
        # Kill some callers while they start the watchdog, and some when all containers run.
        time.sleep(chosen.uniform(0, 0.005))
        if number % 2:
            victim = pids.pop(chosen.randrange(len(pids)))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
    for pid in pids:
        time.sleep(chosen.uniform(0, 0.005))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
say("done")
sys.stdin.read()
"""


def test_nothing_is_left_when_the_caller_is_killed_at_any_moment(survivors):
    seed = int.from_bytes(os.urandom(4), "little")
    arguments = (has_subordinate_ids(), seed)
    with calling(ROUNDS, *arguments, env=survivors.env) as rounds:
        assert rounds.line() == f"seed {seed}"
        assert rounds.line() == "done"
        print("seed", seed)
        wait_while(
            lambda: {pid: line for pid, line in survivors.find().items() if pid != rounds.pid}
        )
        wait_while(lambda: watchdogs_of(rounds.pid))


@pytest.mark.parametrize(
    "namespaces", [NamespaceOptions.none(), NamespaceOptions.all().without_pid()]
)
def test_job_control_inside_does_not_outlive_the_caller(namespaces, survivors):
    script = """
namespaces = NamespaceOptions.none()
for kind in sys.argv[1].split():
    namespaces = getattr(namespaces, f"with_{kind}")()
# With job control each background job is in its own process group.
minidocker.Popen(["bash", "-mc", "sleep 100 & sleep 100 & echo ready; wait"], namespaces=namespaces)
sys.stdin.read()
"""
    kinds = " ".join(namespaces)
    with calling(script, kinds, env=survivors.env) as caller:
        assert caller.line() == "ready"
        # /proc shows a process's new environment only a moment after execve(2).
        wait_until(lambda: len(survivors.find()) == 4)
        caller.kill9()
        survivors.wait_until_gone()


# --- not before the caller ends ------------------------------------------------------------------


@pytest.mark.smoke
def test_a_container_outlives_the_thread_that_started_it(survivors):
    started = []
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": survivors.env}
    thread = threading.Thread(target=lambda: started.append(minidocker.Popen(["cat"], **options)))
    thread.start()
    thread.join()
    wait_while(lambda: str(thread.native_id) in os.listdir("/proc/self/task"))
    (process,) = started
    # A signal sent at the thread's end is pending by now, and would come before the answer.
    assert process.communicate(b"alive") == (b"alive", None)
    assert process.returncode == 0


LIVING_WORKER = """
before, how = sys.argv[1] == "before", sys.argv[2]
reader, writer = os.pipe()
def fork():
    if how == "multiprocessing":
        import multiprocessing
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(100,))
        worker.start()
        return worker.pid
    pid = os.fork()
    if pid == 0:
        time.sleep(100)
        os._exit(0)
    return pid
if not before:
    minidocker.run(["true"], check=True)
worker = fork()
process = minidocker.Popen(["sleep", "100"], init=True)
other = minidocker.Popen(["sleep", "100"])
say(worker, process.pid, other.pid)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_forked_worker_that_lives_on_keeps_no_container_alive(when, how, survivors):
    with calling(LIVING_WORKER, when, how, env=survivors.env) as caller:
        worker, *containers = map(int, caller.line().split())
        (watchdog,) = watchdogs_of(caller.pid)
        caller.kill9()
        try:
            wait_until(lambda: not any(map(is_alive, containers)))
            # The watchdog has no containers left, and does not wait for the worker.
            wait_until(lambda: not is_alive(watchdog))
            assert is_alive(worker)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_container_does_not_end_with_a_worker_that_was_forked_after_it(survivors):
    script = """
process = minidocker.Popen(["sleep", "100"])
worker = os.fork()
if worker == 0:
    minidocker.run(["true"], check=True)
    os._exit(0)
_, status = os.waitpid(worker, 0)
say(status)
sys.stdin.readline()
say(process.poll())
sys.stdin.read()
"""
    with calling(script, env=survivors.env) as caller:
        assert caller.line() == "0"
        # The worker's watchdog ends after it has killed the worker's containers.
        wait_until(lambda: len(watchdogs_of(caller.pid)) == 1)
        caller.stdin.write("\n")
        caller.stdin.flush()
        assert caller.line() == "None"


def test_a_container_without_die_with_parent_survives(survivors):
    script = """
process = minidocker.Popen(["sleep", "100"], die_with_parent=False)
say(process.pid)
sys.stdin.read()
"""
    with calling(script, env=survivors.env) as caller:
        pid = int(caller.line())
        assert watchdogs_of(caller.pid) == []
        caller.kill9()
        # Give a faulty implementation time to kill the container; there is no state to wait for.
        time.sleep(0.2)
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)
