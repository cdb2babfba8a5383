"""A container ends when the process that started it ends, for any reason, and not before."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.callers import calling, descriptors_of, is_alive, watchdogs_of
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
namespaces = NamespaceOptions(**{kind: True for kind in sys.argv[1].split()})
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


# --- the watchdog --------------------------------------------------------------------------------

SERVING = """
import ast
started = []
for line in sys.stdin:
    try:
        say(repr(eval(line)))
    except Exception as error:
        say(repr(error))
"""


def ask(caller, expression):
    caller.stdin.write(expression + "\n")
    caller.stdin.flush()
    return caller.line()


@pytest.fixture
def serving(survivors):
    """A caller that evaluates expressions, line by line."""
    with calling(SERVING, env=survivors.env) as caller:
        assert ask(caller, "minidocker.run(['true']).returncode") == "0"
        yield caller


START = "started.append(minidocker.Popen(['sleep', '100'])) or started[-1].pid"


def test_there_is_one_watchdog_for_each_calling_process(serving):
    for _ in range(3):
        ask(serving, START)
    assert len(watchdogs_of(serving.pid)) == 1


def test_a_watchdog_that_was_killed_is_replaced(serving):
    (old,) = watchdogs_of(serving.pid)
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not is_alive(old))
    pid = int(ask(serving, START))
    (new,) = watchdogs_of(serving.pid)
    assert new != old
    serving.kill9()
    wait_until(lambda: not is_alive(pid))


def test_a_daemon_that_closes_every_descriptor_gets_a_new_watchdog(serving):
    ask(serving, "os.closerange(3, 1000)")
    wait_until(lambda: not watchdogs_of(serving.pid))
    pid = int(ask(serving, START))
    assert len(watchdogs_of(serving.pid)) == 1
    serving.kill9()
    wait_until(lambda: not is_alive(pid))


def test_a_descriptor_that_reuses_a_closed_number_is_left_alone(serving):
    kept = ask(serving, "[fd for fd in range(3, 20) if os.path.exists(f'/proc/self/fd/{fd}')]")
    before = descriptors_of(serving.pid)
    sockets = [number for number, name in before.items() if name.startswith("socket:")]
    assert sockets, kept
    # Another socket of the same type takes the number of the socket to the watchdog.
    ask(serving, "globals().update(socket=__import__('socket'))")
    ask(serving, "globals().update(pair=socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))")
    for number in sockets:
        ask(serving, f"os.dup2(pair[0].fileno(), {number})")
    pid = int(ask(serving, START))
    assert ask(serving, "pair[1].setblocking(False)") == "None"
    # Minidocker sent nothing to that socket, and did not close it.
    assert "BlockingIOError" in ask(serving, "pair[1].recv(1)")
    for number in sockets:
        assert ask(serving, f"os.write({number}, b'x')") == "1"
        assert ask(serving, "pair[1].recv(1)") == "b'x'"
    serving.kill9()
    wait_until(lambda: not is_alive(pid))


def test_the_watchdog_holds_none_of_the_callers_descriptors(serving):
    reader, writer = os.pipe()
    script = """
writer = int(sys.argv[1])
minidocker.run(["true"], check=True)
os.close(writer)
say("closed")
sys.stdin.read()
"""
    with calling(script, writer, pass_fds=[writer]) as caller:
        os.close(writer)
        assert caller.line() == "closed"
        assert watchdogs_of(caller.pid)
        # The pipe is at its end, so no process holds the write end.
        assert os.read(reader, 1) == b""
        os.close(reader)


@pytest.mark.root(reason="only root may look at the watchdog's descriptors")
def test_the_watchdog_holds_only_a_socket_and_descriptors_of_processes(serving):
    ask(serving, START)
    (watchdog,) = watchdogs_of(serving.pid)
    kinds = [name.partition(":")[0] for name in descriptors_of(watchdog).values()]
    assert sorted(kinds) == ["anon_inode", "anon_inode", "anon_inode", "socket"]


def test_the_watchdog_has_its_own_session_and_the_root_as_its_directory(serving):
    (watchdog,) = watchdogs_of(serving.pid)
    # The watchdog has started, and may still be setting itself up.
    wait_until(lambda: os.getsid(watchdog) == watchdog)
    if ROOT:
        wait_until(lambda: os.readlink(f"/proc/{watchdog}/cwd") == "/")


@pytest.mark.smoke
def test_the_watchdog_ends_with_the_caller(serving):
    (watchdog,) = watchdogs_of(serving.pid)
    serving.kill9()
    wait_until(lambda: not is_alive(watchdog))


@pytest.mark.root(reason="only root may look at the watchdog's descriptors")
def test_the_watchdog_closes_the_descriptors_of_ended_containers(serving):
    for _ in range(20):
        assert ask(serving, "minidocker.run(['true']).returncode") == "0"
    (watchdog,) = watchdogs_of(serving.pid)
    wait_until(lambda: len(descriptors_of(watchdog)) == 3)


def test_a_forked_child_has_a_watchdog_of_its_own(serving):
    script = """
minidocker.run(["true"], check=True)
worker = os.fork()
if worker == 0:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = minidocker.Popen(["sleep", "100"])
    say(os.getpid(), process.pid)
    time.sleep(100)
os.waitpid(worker, 0)
sys.stdin.read()
"""
    with calling(script) as caller:
        worker, container = map(int, caller.line().split())
        assert len(watchdogs_of(worker)) == 1
        assert len(watchdogs_of(caller.pid)) == 1
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not is_alive(container))
        wait_until(lambda: len(watchdogs_of(caller.pid)) == 1)


def test_a_forked_child_with_its_parents_pid_has_a_watchdog_of_its_own():
    """Pids are unique only within a PID namespace: here both processes are 2, each in its own."""
    script = """
import os, sys
import minidocker
from minidocker import linux
from minidocker.linux import CloneFlags

assert os.getpid() == 2
outer = minidocker.Popen(["sleep", "100"])
linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWPID)
if os.fork() == 0:
    # PID 1 of the inner namespace; its child is 2.
    worker = os.fork()
    if worker == 0:
        assert os.getpid() == 2
        kept = set(os.listdir("/proc/self/fd")) - {"0", "1", "2"}
        os._exit(len(kept) > 1)
    _, status = os.waitpid(worker, 0)
    os._exit(os.waitstatus_to_exitcode(status))
_, status = os.wait()
print(os.waitstatus_to_exitcode(status), outer.poll())
outer.kill()
"""
    done = minidocker.run([sys.executable, "-c", script], init=True, capture_output=True, text=True)
    assert done.stdout == "0 None\n", done.stderr
