"""A container leaves the caller unchanged, whatever it runs and however it fails."""

import contextlib
import ctypes
import errno
import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.child import in_child
from support.launches import Launch, run_by
from support.mounts import own_mounts
from support.specs import HERE, call_counts

PR_GET_DUMPABLE = 3
PR_GET_NO_NEW_PRIVS = 39
PR_GET_CHILD_SUBREAPER = 37
prctl = ctypes.CDLL(None).prctl


def flag(option):
    value = prctl(option, 0, 0, 0, 0)
    assert value >= 0
    return value


def subreaper():
    value = ctypes.c_int()
    assert prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0) == 0
    return value.value


def signals():
    """Return each signal's handler, and the calling thread's mask."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    masks = [
        line
        for line in Path("/proc/thread-self/status").read_text().splitlines()
        if line.startswith(("SigBlk", "SigIgn", "SigCgt", "ShdPnd"))
    ]
    return handlers, masks, signal.pthread_sigmask(signal.SIG_BLOCK, [])


def namespaces():
    directory = Path("/proc/thread-self/ns")
    return {name.name: os.readlink(name) for name in directory.iterdir()}


def umask():
    """Return the file mode creation mask from /proc: umask(2) cannot read it without setting it."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(row for row in rows if row.startswith("Umask"))


def credentials():
    rows = Path("/proc/thread-self/status").read_text().splitlines()
    names = ("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp")
    return [row for row in rows if row.startswith(names)]


def limits():
    return Path("/proc/self/limits").read_text()


def terminal():
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[4:6]


def descriptors():
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(f"/proc/self/fd/{number}")
            rows = Path(f"/proc/self/fdinfo/{number}").read_text().splitlines()
            # Compare the flags of file and descriptor. Leave out the position: pipes have none.
            found[number] = name, [row for row in rows if row.startswith("flags")]
    return found


def everything():
    """Return all state of the caller that a system call between clone and exec could change."""
    return {
        "namespaces": namespaces(),
        "cwd": os.getcwd(),
        "root": os.readlink("/proc/self/root"),
        "umask": umask(),
        "signals": signals(),
        "dumpable": flag(PR_GET_DUMPABLE),
        "no new privileges": flag(PR_GET_NO_NEW_PRIVS),
        "subreaper": subreaper(),
        "process group": os.getpgrp(),
        "session": os.getsid(0),
        "terminal": terminal(),
        "environment": dict(os.environ),
        "descriptors": descriptors(),
        "credentials": credentials(),
        "limits": limits(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": os.sched_getaffinity(0),
        "hostname": os.uname(),
        "mounts": own_mounts(),
        "name": Path("/proc/thread-self/comm").read_text(),
        "alarms": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
    }


@contextlib.contextmanager
def unchanged():
    # The first container of a process may open the few descriptors that the process keeps.
    minidocker.run(["true"])
    before = everything()
    yield
    after = everything()
    assert before == after, {
        name: (value, after[name]) for name, value in before.items() if after[name] != value
    }


@pytest.mark.parametrize("name", HERE)
def test_a_container_changes_nothing_of_the_caller(name, noop):
    with unchanged():
        minidocker.run([noop], check=True, capture_output=True, **HERE[name])


@pytest.mark.parametrize("name", HERE)
def test_a_failure_at_any_call_changes_nothing_of_the_caller(name, noop):
    options = HERE[name]
    numbers = list(call_counts([noop], **options))
    with unchanged():
        for number in numbers:
            with contextlib.suppress(minidocker.SpawnError):
                run_by(Launch(inject=(number, errno.EPERM)), [noop], **options)


@pytest.mark.parametrize("name", HERE)
def test_a_container_changes_nothing_of_a_thread_of_the_caller(name, noop):
    failures = []

    def run():
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            with unchanged():
                minidocker.run([noop], check=True, **HERE[name])
        except BaseException as error:  # noqa: BLE001 - raised again where pytest sees it
            failures.append(error)

    # The C library installs a signal handler with the first thread, so compare only the second.
    for context in (contextlib.nullcontext(), unchanged()):
        with context:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
    for failure in failures:
        raise failure


def test_a_command_changes_its_own_attributes_and_not_the_callers():
    script = """
import os, resource, signal
os.umask(0o777)
os.chdir("/")
os.environ["X"] = "y"
signal.signal(signal.SIGTERM, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
os.nice(5)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
"""
    with unchanged():
        minidocker.run([sys.executable, "-Ic", script], check=True)


def test_entering_a_container_changes_nothing_of_the_caller(noop):
    with minidocker.Container(hostname="lab") as box:
        with unchanged():
            box.run([noop], check=True, capture_output=True)
        with unchanged(), pytest.raises(minidocker.CommandNotFound):
            box.run(["/nonexistent"])


# --- signals -----------------------------------------------------------------------------------


def status(noop, **options):
    """Return the signal sets that a command starts with."""
    command = ["cat", "/proc/self/status"]
    done = minidocker.run(command, capture_output=True, text=True, check=True, **options)
    rows = dict(row.split(":\t") for row in done.stdout.splitlines())
    return {name: int(rows[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")}


def bits(*numbers):
    return sum(1 << (number - 1) for number in numbers)


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_blocked_signals_stay_blocked_on_both_sides(options, noop):
    def check():
        blocked = {signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3}
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with unchanged():
            found = status(noop, **options)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        return found["SigBlk"]

    assert in_child(check) == bits(signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3)


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_ignored_signals_stay_ignored_and_handlers_are_not_inherited(options, noop):
    def check():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with unchanged():
            return status(noop, **options)

    found = in_child(check)
    assert found["SigIgn"] & bits(signal.SIGUSR2, signal.SIGUSR1, signal.SIGPIPE) == bits(
        signal.SIGUSR2
    )
    assert found["SigCgt"] == 0


def test_python_handlers_run_in_the_caller_only_and_in_full(noop):
    """A signal storm during launches runs each handler once, and only in the caller."""

    def check():
        ran = []
        signal.signal(signal.SIGALRM, lambda *_: ran.append(os.getpid()))
        signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
        try:
            for number in range(500):
                options = {"init": True} if number % 4 == 0 else {}
                done = minidocker.run([noop], capture_output=number % 3 == 0, timeout=60, **options)
                assert done.returncode == 0
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return os.getpid(), ran

    pid, ran = in_child(check)
    assert len(ran) > 100
    assert set(ran) == {pid}


def test_a_caller_that_ignores_sigchld_stays_unchanged(noop):
    """The kernel then reaps each child; from Linux 6.15 on a pidfd keeps the status."""

    def check():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with unchanged():
            returncodes = [
                minidocker.run(["false"]).returncode,
                minidocker.run(["false"], init=True).returncode,
            ]
            for number in range(10):
                with contextlib.suppress(minidocker.SpawnError):
                    run_by(Launch(inject=(number, errno.EPERM)), [noop])
        return returncodes

    # Init reports the status of its own command on every kernel.
    assert in_child(check) in ([0, 1], [1, 1])


# --- terminal ----------------------------------------------------------------------------------


def test_the_callers_terminal_stays_its_own(noop):
    """The foreground process group of the terminal is the caller's, during a run and after it."""

    def check():
        os.setsid()
        # Closing the terminal below sends SIGHUP.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        controller, terminal = pty.openpty()
        # The first terminal that a session leader opens becomes its controlling terminal.
        os.close(os.open(os.ttyname(terminal), os.O_RDWR))
        before = os.tcgetpgrp(terminal)
        with unchanged():
            for name in HERE:
                minidocker.run(
                    [noop], stdin=terminal, stdout=terminal, stderr=terminal, **HERE[name]
                )
                assert os.tcgetpgrp(terminal) == before
        inside = minidocker.run(
            ["sh", "-c", "exec 3</dev/tty"], stdin=terminal, stderr=-3, stdout=-3
        )
        os.close(controller)
        os.close(terminal)
        return before == os.getpgrp(), inside.returncode != 0

    assert in_child(check) == (True, True)


def test_kill_0_inside_reaches_no_process_outside():
    def check():
        os.setpgid(0, 0)
        got = []
        signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
        for options in (
            {}, {"init": True}, {"namespaces": NamespaceOptions.all().without_pid()},
            {"namespaces": NamespaceOptions.none()},
        ):  # fmt: skip
            minidocker.run(["sh", "-c", "trap : USR1; kill -USR1 0"], check=True, **options)
        return got

    assert in_child(check) == []
