"""Start method "fork": a copy of the caller, with one copy of its page tables.

The tests of the caller's C library run in interpreters of their own, because at-fork handlers stay
registered.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

import minidocker
from minidocker import NamespaceOptions, call, isolated
from support import functions
from support.places import TESTS

SOURCE = TESTS / "support" / "atfork.c"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A C library with at-fork handlers of its own."""
    path = tmp_path_factory.mktemp("atfork") / "libatfork.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-lpthread"], check=True)
    return path


def python(script, *args):
    """Run a script in an interpreter of its own; return the words that it printed."""
    done = minidocker.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, args)],
        namespaces=NamespaceOptions.none(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# --- the C library -------------------------------------------------------------------------------


def test_at_fork_handlers_of_c_libraries_run_once_on_each_side(library):
    script = """
import ctypes, sys, minidocker
library = ctypes.CDLL(sys.argv[1])
library.install(0, 0)
names = ("prepared", "in_parent", "in_child")
counts = lambda: [ctypes.c_int.in_dll(library, name).value for name in names]
print(*minidocker.call(counts), *counts())
"""
    assert python(script, library) == ["1", "0", "1", "1", "1", "0"]


def test_at_fork_handlers_may_start_threads_in_the_copy(library):
    script = """
import ctypes, os, sys, time, minidocker
library = ctypes.CDLL(sys.argv[1])
library.install(1, 0)

def inside():
    ran = ctypes.c_int.in_dll(library, "child_thread_ran")
    for _ in range(500):
        if ran.value:
            break
        time.sleep(0.01)
    return ran.value, len(os.listdir("/proc/self/task")), os.getpid()

print(*minidocker.call(inside), ctypes.c_int.in_dll(library, "child_thread_ran").value)
"""
    assert python(script, library) == ["1", "2", "2", "0"]


def test_at_fork_handlers_that_start_threads_in_the_parent_are_refused(library):
    """The threads would belong to the process that becomes init, and end with it."""
    script = """
import ctypes, sys, minidocker
library = ctypes.CDLL(sys.argv[1])
library.install(0, 1)
try:
    minidocker.call(int)
except minidocker.SpawnError as error:
    print(error.step, 'method="spawn"' in error.hint)
"""
    assert python(script, library) == ["fork-caller", "True"]


def test_a_copy_that_ends_before_init_has_begun_is_reaped(library):
    """Its SIGCHLD is pending when init sets the action of that signal, which discards it."""
    # The caller is delayed meanwhile, so another process kills the copy, which is the child of the
    # caller's child.
    killer = """
import os, signal, time
def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
caller = os.getppid()
print(flush=True)
while not (found := [pid for child in children(caller) for pid in children(child)]):
    pass
# Time for the copy to report its start; the caller is delayed for longer.
time.sleep(0.2)
os.kill(found[0], signal.SIGKILL)
"""
    script = """
import ctypes, subprocess, sys, minidocker
library = ctypes.CDLL(sys.argv[1])
library.install(0, 0)
minidocker.call(int)  # starts the helpers that a process starts only once
library.delay_the_parent(500_000)
with subprocess.Popen([sys.executable, "-c", sys.argv[2]], stdout=subprocess.PIPE) as killer:
    killer.stdout.readline()
    try:
        minidocker.isolated(timeout=20)(abs)(-1)
    except minidocker.Error as error:
        print(type(error).__name__, killer.wait())
    killer.kill()
"""
    # Either the launch notices the end of the copy, or init reports it.
    assert python(script, library, killer) in (["CallKilled", "0"], ["SpawnError", "0"])


def test_threads_that_hold_the_locks_of_malloc_and_stdio_do_no_harm(library):
    script = """
import ctypes, sys, minidocker
library = ctypes.CDLL(sys.argv[1])
library.hammer_from(3)

def inside():
    return len([bytes(number) for number in range(2000)])

for _ in range(60):
    assert minidocker.isolated(timeout=60)(inside)() == 2000
print("done")
"""
    assert python(script, library) == ["done"]


def test_the_copy_knows_its_cpu():
    """The C library reads it from the rseq(2) area, which the copy must register again."""

    def inside():
        libc = ctypes.CDLL(None)
        found = []
        for cpu in sorted(os.sched_getaffinity(0)):
            os.sched_setaffinity(0, [cpu])
            found.append(libc.sched_getcpu() == cpu)
        return found

    assert all(call(inside))


def test_the_alternate_signal_stack_is_the_callers():
    class Stack(ctypes.Structure):
        _fields_ = (
            ("pointer", ctypes.c_void_p),
            ("flags", ctypes.c_int),
            ("size", ctypes.c_size_t),
        )

    libc = ctypes.CDLL(None)
    memory = ctypes.create_string_buffer(1 << 16)

    def current():
        stack = Stack()
        assert libc.sigaltstack(None, ctypes.byref(stack)) == 0
        return stack.pointer, stack.flags, stack.size

    before = Stack()
    own = Stack(ctypes.addressof(memory), 0, len(memory))
    assert libc.sigaltstack(ctypes.byref(own), ctypes.byref(before)) == 0
    try:
        assert call(current) == current()
    finally:
        assert libc.sigaltstack(ctypes.byref(before), None) == 0


# --- the interpreter -----------------------------------------------------------------------------


def test_pythons_at_fork_hooks_run_once_on_each_side_and_may_start_threads():
    script = """
import os, sys, threading, minidocker
seen = []
start = lambda name: threading.Thread(target=seen.append, args=(name,)).start()
os.register_at_fork(
    before=lambda: seen.append("before"),
    after_in_parent=lambda: start("parent"),
    after_in_child=lambda: start("child"),
)

def inside():
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    return sorted(seen)

print(*minidocker.call(inside), *sorted(seen))
"""
    assert python(script) == ["before", "child", "before", "parent"]


def test_the_copy_has_one_thread_which_is_its_main_thread():
    def inside():
        main = threading.main_thread()
        return threading.current_thread() is main, threading.active_count()

    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    try:
        assert call(inside) == (True, 1)
        found = []
        caller = threading.Thread(target=lambda: found.append(call(inside)))
        caller.start()
        caller.join()
        assert found == [(True, 1)]
    finally:
        idle.set()
        other.join()


def test_handlers_and_the_signal_mask_are_the_callers():
    def inside():
        seen = []
        signal.signal(signal.SIGUSR2, lambda *_: seen.append("USR2"))
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return handled, seen, signal.getsignal(signal.SIGHUP), mask

    handled = []
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.append("USR1"))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    try:
        expected = (["USR1"], ["USR2"], signal.SIG_IGN, {signal.SIGWINCH})
        assert call(inside) == expected
        assert handled == []
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGWINCH])
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGHUP, ignored)


@pytest.mark.parametrize("action", [signal.SIG_IGN, lambda *_: None])
def test_a_call_works_with_every_action_for_sigchld(leaks, action):
    before = signal.signal(signal.SIGCHLD, action)
    try:
        assert call(signal.getsignal, signal.SIGUSR1) == signal.SIG_DFL
        with pytest.raises(minidocker.CallExited) as caught:
            call(os._exit, 7)
        assert caught.value.code == 7
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_every_copy_has_random_numbers_of_its_own():
    import random  # noqa: PLC0415 - only this test needs it

    def inside():
        return random.random()

    assert len({call(inside) for _ in range(5)} | {random.random()}) == 6


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_inside(leaks, context):
    def inside():
        import multiprocessing  # noqa: PLC0415 - in the copy
        from multiprocessing import shared_memory  # noqa: PLC0415 - in the copy

        memory = shared_memory.SharedMemory(create=True, size=10)
        try:
            with multiprocessing.get_context(context).Pool(2) as pool:
                return pool.map(functions.add, range(4))
        finally:
            memory.close()
            memory.unlink()

    done = isolated(capture_output=True, text=True)(inside).run()
    assert (done.value, done.stderr) == ([1, 2, 3, 4], "")


def test_the_copy_does_not_have_the_callers_children_of_multiprocessing():
    script = """
import multiprocessing, os, minidocker
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
context = multiprocessing.get_context("fork")

def inside():
    return len(multiprocessing.active_children())

if __name__ == "__main__":
    child = context.Process(target=__import__("time").sleep, args=(60,), daemon=True)
    child.start()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(int).result()
        print(minidocker.call(inside), threads.submit(minidocker.call, inside).result())
    print(child.is_alive())
    child.kill()
    child.join()
"""
    assert python(script) == ["0", "0", "True"]


def test_a_call_waits_for_a_thread_that_the_function_leaves():
    def inside():
        threading.Thread(target=lambda: (time.sleep(0.3), print("done"))).start()

    assert isolated(capture_output=True)(inside).run().stdout == b"done\n"


def test_exit_functions_are_the_copys_own():
    import atexit  # noqa: PLC0415 - only this test needs it

    def inside():
        atexit.register(print, "inside's own")

    atexit.register(print, "the caller's")
    assert isolated(capture_output=True)(inside).run().stdout == b"inside's own\n"
    atexit.unregister(print)


def test_the_content_of_a_buffer_is_written_once(tmp_path):
    script = """
import sys, minidocker
sys.stdout.write("once ")
minidocker.call(int)
"""
    assert python(script) == ["once"]


def test_no_warning_is_raised_or_silenced():
    """A call neither warns, as os.fork() with threads does from Python 3.12, nor sets a filter."""
    before = list(warnings.filters)
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(int)
    idle.set()
    other.join()
    assert caught == []
    assert list(warnings.filters) == before


def test_an_audit_hook_sees_the_fork():
    script = """
import sys, minidocker
sys.addaudithook(lambda event, _: event == "os.fork" and print(event))
minidocker.call(int)
"""
    assert python(script) == ["os.fork"]


def test_a_call_that_is_interrupted_leaves_nothing():
    """Ctrl-C may come at any moment; Python ignores one that interrupts an at-fork hook."""
    script = """
import os, signal, sys, minidocker
from pathlib import Path
sys.unraisablehook = lambda _: None

def holdings():
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sorted(os.listdir("/proc/self/fd")), children

minidocker.call(int)
before = holdings()
signal.signal(signal.SIGALRM, signal.default_int_handler)
interrupted = 0
for number in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002 * (number + 1))
        minidocker.call(int)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
print(interrupted > 3, holdings() == before)
"""
    assert python(script) == ["True", "True"]
