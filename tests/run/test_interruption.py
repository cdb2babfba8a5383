"""A launch that is stopped, killed, interrupted or slow ends in time and leaves nothing behind."""

import _thread
import concurrent.futures
import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import minidocker
from support.callers import calling, is_alive
from support.child import in_child
from support.leaks import Holdings
from support.specs import has_subordinate_ids
from support.waiting import wait_while

needs_subordinate_ids = pytest.mark.skipif(
    not has_subordinate_ids(), reason="/etc/subuid has no row for this user"
)


class Interrupted(BaseException):
    """The exception that these tests' signal handlers raise."""


@pytest.fixture
def alarm():
    """Return a function that raises `Interrupted` in a handler after some seconds; 0 cancels."""
    armed = False

    def interrupt(*_):
        # Another thread may have taken the signal; the handler then runs after the timer's end.
        if armed:
            raise Interrupted

    def set_timer(seconds, interval=0.0):
        nonlocal armed
        armed = seconds > 0
        signal.setitimer(signal.ITIMER_REAL, seconds, interval)

    before = signal.signal(signal.SIGALRM, interrupt)
    yield set_timer
    set_timer(0)
    signal.signal(signal.SIGALRM, before)


# --- newuidmap ---------------------------------------------------------------------------------


@pytest.fixture
def hanging_newuidmap(tmp_path, monkeypatch):
    """Put a newuidmap first in PATH that hangs, as if a directory server did not answer."""
    pids = tmp_path / "pids"
    fake = tmp_path / "newuidmap"
    fake.write_text(f"#!/bin/sh\necho $$ >>{pids}\nsleep 100 &\necho $! >>{pids}\nwait\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield pids
    left = [pid for pid in map(int, pids.read_text().split()) if is_alive(pid)]
    assert left == []


@pytest.mark.plain(reason="root writes its maps itself")
@needs_subordinate_ids
def test_a_timeout_holds_while_newuidmap_hangs(noop, leaks, hanging_newuidmap, survivors):
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        minidocker.run([noop, survivors.mark], uid_map="auto", gid_map="auto", timeout=0.3)
    assert 0.3 <= time.monotonic() - started < 30


@pytest.mark.plain(reason="root writes its maps itself")
@needs_subordinate_ids
def test_an_interrupt_ends_a_newuidmap_that_hangs(noop, leaks, hanging_newuidmap, alarm, survivors):
    alarm(0.3)
    started = time.monotonic()
    with pytest.raises(Interrupted):
        minidocker.run([noop, survivors.mark], uid_map="auto", gid_map="auto")
    assert time.monotonic() - started < 30


@pytest.mark.plain(reason="root writes its maps itself")
@needs_subordinate_ids
def test_newuidmap_works_where_children_are_reaped_by_the_kernel():
    def check():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reader, writer = os.pipe()
        minidocker.run(["cat", "/proc/self/uid_map"], uid_map="auto", gid_map="auto", stdout=writer)
        return len(os.read(reader, 1000).splitlines())

    assert in_child(check) == 2


# --- interrupts --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_an_interrupt_at_any_moment_of_a_run_leaves_nothing(options, leaks, alarm, survivors):
    """The interrupts come at moments from the first line of `run` to the command's run time."""
    interrupted = 0
    env = survivors.env
    for step in range(150):
        try:
            alarm(0.00002 * (step + 1))
            minidocker.run(["sleep", "100"], env=env, **options)
        except Interrupted:
            interrupted += 1
    assert interrupted == 150
    survivors.wait_until_gone()
    leaks.assert_unchanged()


# A file that is opened at the moment of the interrupt is closed with a ResourceWarning.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*FileIO")
def test_an_interrupt_at_any_moment_of_entering_leaves_nothing(leaks, alarm, survivors):
    interrupted = 0
    env = survivors.env
    with minidocker.Container(hostname="lab") as box:
        for step in range(150):
            try:
                alarm(0.00002 * (step + 1))
                box.run(["sleep", "100"], env=env)
            except Interrupted:
                interrupted += 1
        assert interrupted == 150
        survivors.wait_until_gone()
        assert [process.pid for process in box.processes()] == [box.pid]
        assert box.run(["hostname"], capture_output=True, text=True).stdout == "lab\n"


def test_an_interrupt_while_a_container_starts_leaves_no_process(alarm):
    def start(step):
        box = minidocker.Container()
        try:
            alarm(0.00002 * (step + 1))
            box.start()
            alarm(0)
        except Interrupted:
            # The interrupt came before the container started, or `start` ended the container.
            assert box.status in ("created", "running")
        box.kill()

    before = Holdings.now()
    for step in range(100):
        start(step)
    # An interrupt between the system call that opens a descriptor and Python's next instruction may
    # leak the descriptor; it must never leave a process.
    wait_while(lambda: Holdings.now().children ^ before.children)


def test_ctrl_c_ends_the_container():
    script = """
try:
    minidocker.run(["sh", "-c", "echo $$ >&2; sleep 100"], init=True)
except KeyboardInterrupt:
    say("interrupted", minidocker.run(["true"]).returncode)
"""
    with calling(script, stderr=subprocess.PIPE, start_new_session=True) as caller:
        caller.stderr.readline()
        caller.send_signal(signal.SIGINT)
        assert caller.line() == "interrupted 0"
        caller.stderr.close()


def test_an_exception_of_a_handler_is_not_taken_for_the_timeout(alarm):
    """A TimeoutError from the caller's own signal handler reaches the caller."""

    class Mine(TimeoutError):
        pass

    def handler(*_):
        raise Mine

    # Load the modules first: Python's import system swallows an OSError that a handler raises.
    assert callable(minidocker.run)
    signal.signal(signal.SIGALRM, handler)
    raised = 0
    for step in range(50):
        try:
            alarm(0.00005 * (step + 1))
            minidocker.run(["sleep", "100"], timeout=50)
        except Mine:
            raised += 1
    assert raised == 50


@pytest.mark.parametrize("error", [TimeoutError(), TimeoutError(errno.ETIMEDOUT, "mine")])
def test_an_exception_of_a_handler_comes_through_unchanged(error, monkeypatch):
    def interrupted(_):
        raise error

    monkeypatch.setattr(os, "pidfd_open", interrupted)
    with pytest.raises(TimeoutError) as caught:
        minidocker.run(["sleep", "100"], timeout=1)
    assert caught.value is error


def test_an_exception_right_after_the_lock_was_taken_ends_the_container(monkeypatch):
    """A handler may raise after subprocess acquires its wait lock, before it notes that it has."""
    armed = True

    class Interrupted:
        def __init__(self):
            self.lock = _thread.allocate_lock()

        def acquire(self, *args, **kwargs):
            nonlocal armed
            taken = self.lock.acquire(*args, **kwargs)
            if armed and taken:
                armed = False
                raise KeyboardInterrupt
            return taken

        def release(self):
            self.lock.release()

        def __enter__(self):
            self.acquire()

        def __exit__(self, *_):
            self.release()

    monkeypatch.setattr(threading, "Lock", Interrupted)
    before = children()
    with pytest.raises(KeyboardInterrupt):
        minidocker.run(["sleep", "100"], timeout=50)
    assert children() <= before


# --- the child during the launch ---------------------------------------------------------------


def children():
    """Return the pids of this process's children."""
    pids = set()
    for task in Path("/proc/self/task").iterdir():
        # A thread may end after it was listed.
        with contextlib.suppress(OSError):
            pids.update(int(pid) for pid in (task / "children").read_text().split())
    return pids


def signal_the_child(number, pause, seen, until):
    """Send a signal to each new child of this process: one that is not in `seen`."""
    hit = 0
    while not until.is_set():
        for pid in children() - seen:
            seen.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                hit += 1
                if number == signal.SIGSTOP:
                    time.sleep(pause)
                    os.kill(pid, signal.SIGCONT)
        time.sleep(0)
    return hit


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["kill", "stop"])
def test_a_child_that_is_stopped_or_killed_during_its_launch(number, options, noop, leaks):
    """The run reports a killed child, and waits for a stopped one; it neither hangs nor leaks."""
    done = threading.Event()
    outcomes = set()
    # Leave the children that this process keeps alone, such as the template of spawned functions.
    existing = children()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hits = pool.submit(signal_the_child, number, 0.002, existing, done)
        try:
            for _ in range(60):
                try:
                    outcomes.add(minidocker.run([noop], timeout=30, **options).returncode)
                except minidocker.SpawnError as error:
                    # An init that is killed before it starts the command reports nothing.
                    assert options
                    outcomes.add(error.step)
        finally:
            done.set()
        assert hits.result() > 0
    wanted = {0, -signal.SIGKILL, "exec-helper"} if number == signal.SIGKILL else {0}
    assert outcomes <= wanted


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_a_timeout_ends_a_child_that_is_stopped_during_its_launch(options, noop, leaks):
    """The child shares the caller's memory, which must stay allocated until the child ends."""
    done = threading.Event()

    seen = children()

    def stop():
        while not done.is_set():
            for pid in children() - seen:
                seen.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            time.sleep(0)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop)
        timed_out = 0
        try:
            for _ in range(20):
                try:
                    minidocker.run([noop], timeout=0.02, **options)
                except subprocess.TimeoutExpired:
                    timed_out += 1
        finally:
            done.set()
        stopping.result()
    assert timed_out > 0


# --- the rest of the caller --------------------------------------------------------------------


def test_a_launch_does_not_wait_for_workers_that_are_forked_during_it(noop, leaks):
    """A forked worker holds copies of the pipes of every launch in progress."""
    workers = []

    def fork():
        for _ in range(40):
            # Fork as a C library would: the at-fork hooks of Python and minidocker do not run.
            pid = ctypes.CDLL(None).fork()
            if pid == 0:
                # Make only system calls: other threads may have held locks at the fork.
                while True:
                    signal.pause()
            workers.append(pid)
            # Fork in each phase of the launches in the main thread.
            time.sleep(0.0005)

    with minidocker.Container() as box, concurrent.futures.ThreadPoolExecutor(1) as pool:
        forking = pool.submit(fork)
        try:
            while not forking.done():
                for run in (minidocker.run, box.run):
                    assert run([noop], timeout=20).returncode == 0
                assert minidocker.run([noop], init=True, timeout=20).returncode == 0
                with minidocker.Container():
                    pass
            forking.result()
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def test_a_daemon_thread_that_starts_containers_ends_with_the_interpreter(noop):
    script = """
import sys, threading, minidocker
def run():
    while True:
        minidocker.run([sys.argv[1]])
for _ in range(4):
    threading.Thread(target=run, daemon=True).start()
minidocker.run([sys.argv[1]])
print("done", flush=True)
"""
    for _ in range(10):
        done = subprocess.run(
            [sys.executable, "-c", script, noop],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


# --- memory that is shared until exec ----------------------------------------------------------

# A process of the user nobody that searches the memory of that user's other processes.
SPY = """
import os, sys, time
secret = bytes.fromhex(sys.argv[1])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print("ready", flush=True)
deadline = time.monotonic() + 20
last = 0
while time.monotonic() < deadline:
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid not in (65534, 0):
                continue
            with open(f"/proc/{name}/maps") as maps, open(f"/proc/{name}/mem", "rb", 0) as memory:
                for line in maps:
                    if "[heap]" in line or "rw-p 00000000 00:00 0" in line:
                        start, end = (int(part, 16) for part in line.split()[0].split("-"))
                        memory.seek(start)
                        if secret in memory.read(min(end - start, 1 << 24)):
                            print("found", flush=True)
                            sys.exit()
        except OSError:
            continue
    if os.getppid() == 1:
        break
"""


@pytest.mark.root(reason="only root becomes another user in its own user namespace")
@pytest.mark.parametrize("init", [False, True])
def test_user_nobody_cannot_read_the_caller_through_a_child_that_becomes_nobody(init):
    """A child shares the caller's memory until exec; it must stop sharing before it changes users.

    Otherwise a process of the new user could trace the child, and read the caller's memory.
    """
    secret = os.urandom(16)
    held = bytearray(secret * 4)
    spy = subprocess.Popen(
        [sys.executable, "-c", SPY, secret.hex()], stdout=subprocess.PIPE, text=True
    )
    try:
        assert spy.stdout.readline() == "ready\n"
        # A long search for the command lengthens the time between setresuid(2) and execve(2).
        path = ":".join(["/nonexistent"] * 20_000)
        options = {"init": True} if init else {"namespaces": minidocker.NamespaceOptions.none()}
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and spy.poll() is None:
            with pytest.raises(minidocker.CommandNotFound):
                minidocker.run(["nothing"], env={"PATH": path}, user="nobody", **options)
        assert spy.poll() is None, spy.stdout.read()
        assert held[:16] == secret
    finally:
        spy.kill()
        spy.wait()
        spy.stdout.close()
