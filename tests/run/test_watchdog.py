"""The watchdog works, or a launch starts another one, which watches every living container."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

import minidocker
from support.callers import calling, descriptors_of, is_alive, watchdogs_of
from support.waiting import state_of, wait_for_state, wait_until, wait_while

ROOT = os.geteuid() == 0

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
import contextlib, os, sys
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
        kept = []
        for fd in set(os.listdir("/proc/self/fd")) - {"0", "1", "2"}:
            with contextlib.suppress(FileNotFoundError):
                kept.append(os.readlink(f"/proc/self/fd/{fd}"))
        # That of the container, and nothing of the watchdog's.
        os._exit(kept != ["anon_inode:[pidfd]"])
    _, status = os.waitpid(worker, 0)
    os._exit(os.waitstatus_to_exitcode(status))
_, status = os.wait()
print(os.waitstatus_to_exitcode(status), outer.poll())
outer.kill()
"""
    done = minidocker.run([sys.executable, "-c", script], init=True, capture_output=True, text=True)
    assert done.stdout == "0 None\n", done.stderr


# --- a watchdog that was killed or stopped -------------------------------------------------------

#: Containers with and without init and a PID namespace, and a command that enters one.
KINDS = [
    "minidocker.Popen(['sleep', '100'])",
    "minidocker.Popen(['sleep', '100'], init=True)",
    "minidocker.Popen(['sleep', '100'], namespaces=NamespaceOptions.all().without_pid())",
    "minidocker.Popen(['sleep', '100'], namespaces=NamespaceOptions.none().with_user())",
    "minidocker.Container().start()",
    "started[-1].popen(['sleep', '100'])",
]


def start_all(caller):
    """Start a container of each kind, and return the pids of their first processes."""
    return [int(ask(caller, f"started.append({kind}) or started[-1].pid")) for kind in KINDS]


def the_watchdog(caller):
    """Return the pid of the one watchdog; one that was replaced may need a moment to end."""
    return wait_until(lambda: len(found := watchdogs_of(caller.pid)) == 1 and found)[0]


def break_watchdog(caller, how):
    """Kill or stop the watchdog, wait until that has an effect, and return its pid."""
    old = the_watchdog(caller)
    os.kill(old, how)
    if how == signal.SIGKILL:
        wait_while(lambda: is_alive(old))
    else:
        wait_for_state(old, "T")
    return old


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_another_watchdog_takes_over_all_living_containers(how, serving):
    pids = start_all(serving)
    old = break_watchdog(serving, how)
    pids.append(int(ask(serving, START)))
    new = wait_until(lambda: [dog for dog in watchdogs_of(serving.pid) if dog != old])[0]
    # A stopped one does not stay behind.
    wait_while(lambda: is_alive(old))
    assert all(map(is_alive, pids))
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, [*pids, new])))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_watchdog_that_breaks_again_and_again_is_replaced_each_time(how, serving):
    pids = []
    for _ in range(5):
        break_watchdog(serving, how)
        pids.append(int(ask(serving, START)))
    assert the_watchdog(serving)
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, pids)))


def test_a_stopped_watchdog_does_not_make_launches_hang(serving):
    """A socket that is not read has room for some 280 registrations."""
    break_watchdog(serving, signal.SIGSTOP)
    runs = "[minidocker.run(['true'], timeout=20).returncode for _ in range(300)].count(0)"
    assert ask(serving, runs) == "300"


def freezers():
    """Yield the files of new control groups that freeze, of either version, and what to write."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, (kind, _, options) = line.split()[4], line.partition(" - ")[2].split()
        if kind == "cgroup2":
            yield Path(place, f"freezing-{os.getpid()}"), "cgroup.freeze", "1", "0"
        elif kind == "cgroup" and "freezer" in options.split(","):
            yield Path(place, f"freezing-{os.getpid()}"), "freezer.state", "FROZEN", "THAWED"


@contextlib.contextmanager
def frozen(pid, group, file, freeze, thaw):
    """Move a process into a new control group, and freeze it; the process ends with the block."""
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / file).write_text(freeze)
        yield
        (group / file).write_text(thaw)
        wait_while(lambda: is_alive(pid))
    finally:
        group.rmdir()


@pytest.mark.root(reason="only root may freeze a process")
@pytest.mark.may_skip_in_ci(reason="the control groups may be read-only")
def test_a_frozen_watchdog_is_replaced_and_loses_no_container(serving):
    """Its state in /proc is that of a process that sleeps, and version 1 delays its SIGKILL."""
    ask(serving, "globals().update(futures=__import__('concurrent.futures').futures)")
    ask(serving, "globals().update(pool=futures.ThreadPoolExecutor(6))")
    pids = []
    for freezer in freezers():
        old = the_watchdog(serving)
        with contextlib.suppress(OSError), frozen(old, *freezer):
            start = "lambda _: minidocker.Popen(['sleep', '100'])"
            serving.stdin.write(f"[p.pid for p in pool.map({start}, range(18))]\n")
            serving.stdin.flush()
            wait_until(lambda old=old: [dog for dog in watchdogs_of(serving.pid) if dog != old])
        if not is_alive(old):
            pids += eval(serving.line())
    if not pids:
        pytest.skip("no control group can be made here")
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, pids)))


def test_a_watchdog_that_is_stopped_during_a_launch_is_replaced_by_it(serving):
    """Stop each watchdog as soon as it appears: the launch that started it may not be done yet."""
    pids = []
    for _ in range(10):
        break_watchdog(serving, signal.SIGKILL)
        serving.stdin.write(START + "\n")
        serving.stdin.flush()
        # The first may be the process that sets the watchdog up, and is gone soon.
        new = wait_until(lambda: watchdogs_of(serving.pid))[-1]
        with contextlib.suppress(ProcessLookupError):
            os.kill(new, signal.SIGSTOP)
        pids.append(int(serving.line()))
        wait_until(lambda new=new: not is_alive(new) or state_of(new) == "T")
        if is_alive(new):
            # It was stopped after the launch, and the next one replaces it.
            assert ask(serving, "minidocker.run(['true']).returncode") == "0"
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, pids)))


def test_a_container_that_has_ended_is_not_registered_again(serving):
    """Otherwise, the watchdog would end a later process with the same pid."""
    pid = int(ask(serving, START))
    other = "globals().update(other=subprocess.Popen(['sleep', '100']))"
    ask(serving, f"globals().update(subprocess=__import__('subprocess')) or {other}")
    bystander = int(ask(serving, "other.pid"))
    ask(serving, "started[-1].kill() or started[-1].wait()")
    reaped = int(ask(serving, START))
    ask(serving, f"os.kill({reaped}, 9) or os.waitpid({reaped}, 0)")
    break_watchdog(serving, signal.SIGKILL)
    assert ask(serving, "minidocker.run(['true']).returncode") == "0"
    if ROOT:
        watchdog = the_watchdog(serving)
        wait_until(lambda: len(descriptors_of(watchdog)) == 3)
    serving.kill9()
    assert not is_alive(pid)
    assert is_alive(bystander)
    os.kill(bystander, signal.SIGKILL)


def test_threads_that_launch_while_the_watchdog_is_killed_and_stopped_all_succeed(serving):
    """Whenever it breaks, each launch works, and the caller's death ends all containers."""
    ask(serving, "globals().update(futures=__import__('concurrent.futures').futures)")
    ask(serving, "globals().update(pool=futures.ThreadPoolExecutor(4))")
    start = "minidocker.Popen(['sleep', '100']).pid"
    serving.stdin.write(f"list(pool.map(lambda _: {start}, range(80)))\n")
    serving.stdin.flush()
    for number in range(20):
        for watchdog in watchdogs_of(serving.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(watchdog, signal.SIGSTOP if number % 2 else signal.SIGKILL)
        time.sleep(0.005)
    line = serving.line()
    pids = eval(line)
    assert len(pids) == 80, line
    # The last break may be later than the last launch.
    assert ask(serving, "minidocker.run(['true']).returncode") == "0"
    assert the_watchdog(serving)
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, pids)))


@pytest.mark.parametrize("kind", ["minidocker.Popen", "box.popen"])
def test_a_watchdog_that_another_thread_replaces_during_a_launch_leaves_none_behind(kind, serving):
    """The container has registered itself with the old one, and the new one has to get it, too."""
    ask(serving, "globals().update(futures=__import__('concurrent.futures').futures)")
    ask(serving, "globals().update(pool=futures.ThreadPoolExecutor(6))")
    ask(serving, "globals().update(box=minidocker.Container().start())")
    serving.stdin.write(
        f"[p.pid for p in pool.map(lambda _: {kind}(['sleep', '100']), range(300))]\n"
    )
    serving.stdin.flush()
    # The last launches meet no break, so a container that was lost before stays lost. A launch
    # tries ten times, and a break may end two of them.
    for _ in range(4):
        for watchdog in watchdogs_of(serving.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(watchdog, signal.SIGKILL)
    line = serving.line()
    assert line.startswith("["), line
    pids = eval(line)
    serving.kill9()
    wait_while(lambda: list(filter(is_alive, pids)))


def test_init_ends_with_the_caller_without_a_watchdog(serving):
    """The window that remains: the watchdog and then the caller are killed, without a launch."""
    pids = start_all(serving)
    break_watchdog(serving, signal.SIGKILL)
    serving.kill9()
    alone, init, session, shared, container, entered = pids
    # The command that entered the container is in its PID namespace.
    wait_while(lambda: list(filter(is_alive, [init, container, entered])))
    # These have no init. SECURITY.md says so.
    for pid in (alone, session, shared):
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)


def test_a_function_ends_with_the_caller_without_a_watchdog(survivors):
    script = """
def wait_for_ever():
    say("inside")
    time.sleep(100)
threading.Thread(target=minidocker.call, args=(wait_for_ever,), daemon=True).start()
sys.stdin.read()
"""
    with calling(script, env=survivors.env) as caller:
        assert caller.line() == "inside"
        break_watchdog(caller, signal.SIGKILL)
        caller.kill9()
        survivors.wait_until_gone()


def test_init_outlives_the_caller_without_die_with_parent(survivors):
    script = """
say(minidocker.Popen(["sleep", "100"], init=True, die_with_parent=False).pid)
sys.stdin.read()
"""
    with calling(script, env=survivors.env) as caller:
        pid = int(caller.line())
        caller.kill9()
        # Give a faulty implementation time to end; there is no state to wait for.
        time.sleep(0.2)
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)


def test_a_forked_child_leaves_its_parents_containers_to_its_parent(serving):
    """A new watchdog of the child watches the child's containers only."""
    pid = int(ask(serving, START))
    script = "(worker := os.fork()) or (minidocker.run(['true']), os._exit(0))"
    ask(serving, f"os.waitpid(({script}), 0)[1]")
    assert the_watchdog(serving)
    assert is_alive(pid)


def test_as_many_containers_as_the_caller_has_descriptors_for_end_with_it(survivors):
    script = """
import errno, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
def start():
    # The limit also counts descriptors in flight of the user's other processes.
    while True:
        try:
            return minidocker.Popen(["sleep", "100"])
        except minidocker.SpawnError as error:
            if error.errno != errno.ETOOMANYREFS: raise
            time.sleep(0.01)
started = []
try:
    while len(started) < 60:
        started.append(start())
except minidocker.SpawnError as error:
    assert error.errno == errno.EMFILE, error
assert len(started) > 16
say("started")
# There is room for others when some have ended.
for process in started[:10]:
    process.kill()
    process.wait()
more = [start() for _ in range(10)]
say("ended")
sys.stdin.read()
"""
    with calling(script, env=survivors.env) as caller:
        assert caller.line() == "started"
        watchdog = the_watchdog(caller)
        wait_for_state(watchdog, "S")
        assert caller.line() == "ended"
        wait_for_state(watchdog, "S")
        caller.kill9()
        survivors.wait_until_gone()
        wait_while(lambda: is_alive(watchdog))
