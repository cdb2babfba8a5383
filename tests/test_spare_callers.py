"""Namespaces that are made ahead, for callers that change, or lack something."""

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import struct
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, linux
from support.callers import calling
from support.child import in_child
from support.denied import deny
from support.spares import identities, spare, wait_for_spare

# What waits for other processes of the user is too much at some time.
pytestmark = pytest.mark.xdist_group("spare")

PR_SET_DUMPABLE = 4


def give_up_capabilities():
    # Version 3 of the header, and three empty sets in two words each.
    header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
    assert ctypes.CDLL(None).capset(header, ctypes.create_string_buffer(bytes(24))) == 0


def test_a_forked_child_does_not_take_its_parents(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        child = os.fork()
        if child == 0:
            inherited = spare() is not None
            done = minidocker.run([noop]).returncode
            wait_for_spare()
            os._exit(inherited * 2 + done)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    assert in_child(check) == 0


def test_a_caller_that_may_not_enter_namespaces_makes_its_own(noop):
    def check():
        deny("setns", errno.EPERM)
        minidocker.run([noop], check=True)
        for _ in range(3):
            wait_for_spare()
            minidocker.run([noop], check=True)
        # It has been tried often enough.
        with minidocker.Popen([noop]) as process:
            process.wait()
        time.sleep(0.1)
        show = ["cat", "/proc/self/uid_map"]
        done = minidocker.run(show, capture_output=True, text=True, check=True)
        return spare(), done.stdout.split()[0]

    assert in_child(check) == (None, "0")


def test_a_lead_that_fails_leaves_nothing(noop, leaks):
    def check():
        deny("setns", errno.EPERM)
        minidocker.run([noop], check=True)
        wait_for_spare()
        for options in ({"cwd": "/nowhere"}, {}):
            try:
                minidocker.run([noop], **options)
            except minidocker.SpawnError as error:
                failed = error.step
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return failed

    assert in_child(check) == "chdir"


def test_a_failure_in_spare_namespaces_is_told_and_leaves_nothing(noop):
    def check():
        minidocker.run([noop], check=True)
        found = []
        for _ in range(3):
            wait_for_spare()
            for arguments, options in ((["nowhere"], {}), ([noop], {"cwd": "/nowhere"})):
                try:
                    minidocker.run(arguments, **options)
                except minidocker.SpawnError as error:
                    found.append(error.step)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return found

    assert in_child(check) == ["exec", "chdir"] * 3


def test_a_caller_that_closes_what_it_does_not_know_goes_on(noop):
    def check():
        found = []
        for _ in range(3):
            found.append(minidocker.run([noop]).returncode)
            wait_for_spare()
            for number in map(int, os.listdir("/proc/self/fd")):
                try:
                    if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                        os.close(number)
                except OSError:
                    continue
        return found

    assert in_child(check) == [0, 0, 0]


@pytest.mark.root(reason="only root can become somebody else")
def test_a_caller_that_becomes_somebody_else_gets_namespaces_of_that_user(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # A change of ids takes that away.
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        found = []
        for _ in range(3):
            done = minidocker.run(
                ["cat", "/proc/self/uid_map"], capture_output=True, text=True, check=True
            )
            found.append(done.stdout.split())
            time.sleep(0.02)
        return found, ctypes.CDLL(None).prctl(PR_SET_DUMPABLE - 1, 0, 0, 0, 0)

    assert in_child(check) == ([["0", "65534", "1"]] * 3, 1)


@pytest.mark.root(reason="only root has capabilities to lose")
def test_a_caller_that_gave_up_its_capabilities_maps_nobody_elses_ids(noop):
    everybody = {"uid_map": [(0, 0, 1 << 31)], "gid_map": [(0, 0, 1 << 31)]}

    def check():
        minidocker.run([noop], check=True, **everybody)
        wait_for_spare()
        give_up_capabilities()
        for _ in range(2):
            with pytest.raises(minidocker.SpawnError) as caught:
                minidocker.run([noop], **everybody)
            assert caught.value.step == "id-maps"

    in_child(check)


@pytest.mark.root(reason="only root has capabilities to lose")
def test_a_caller_without_capabilities_is_refused_each_time(noop):
    """The watchdog, which executes a program as uid 0, gets more of them than its caller has."""
    everybody = {"uid_map": [(0, 0, 1 << 31)], "gid_map": [(0, 0, 1 << 31)]}

    def check():
        give_up_capabilities()
        refused = []
        for options in (everybody, everybody, {}, {}):
            try:
                minidocker.run([noop], **options)
            except minidocker.SpawnError as error:
                refused.append(error.step)
            wait_for_spare()
        return refused

    assert in_child(check) == ["id-maps"] * 4


def test_signals_and_threads_do_not_stop_functions_for_ever():
    """A launch that runs handlers while it waits holds no lock that others want."""
    script = """
signal.signal(signal.SIGALRM, lambda *_: None)
until = time.monotonic() + 5
def loop():
    while time.monotonic() < until:
        minidocker.call(int)
        # For the next one something has been made ahead then.
        time.sleep(0.008)
thread = threading.Thread(target=loop)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
thread.start()
loop()
thread.join()
say("done")
"""
    with calling(script) as caller:
        assert select.select([caller.stdout], [], [], 30)[0], "it does not go on"
        assert caller.line() == "done"


@pytest.mark.parametrize("forks", ["os.fork", "minidocker.call"])
def test_other_threads_processes_have_no_descriptor_of_them(noop, forks):
    script = """
import threading
def foreign():
    names = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if "fscontext" in name or name.startswith(("user:", "net:", "ipc:")):
            names[number] = name
    return names
def run():
    while not ended:
        minidocker.run([sys.argv[1]], check=True)
        time.sleep(0.004)
ended = False
thread = threading.Thread(target=run)
thread.start()
found = {}
until = time.monotonic() + 4
while time.monotonic() < until:
    if sys.argv[2] == "minidocker.call":
        found |= minidocker.call(foreign)
        continue
    child = os.fork()
    if child == 0:
        os._exit(bool(foreign()))
    found |= {"status": status} if (status := os.waitpid(child, 0)[1]) else {}
ended = True
thread.join()
say(found)
"""
    with calling(script, noop, forks) as caller:
        assert caller.line() == "{}"


def test_a_limit_that_is_raised_later_holds_inside(noop):
    """A user namespace keeps the limits of who made it."""

    def check():
        soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft // 2, hard))
        first = minidocker.run([noop]).returncode
        waiting = wait_for_spare()
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))
        with minidocker.Popen(["sleep", "100"]) as process:
            used = identities(process.pid)
            process.kill()
        return first, waiting == used

    assert in_child(check) == (0, False)


@pytest.mark.root(reason="only root may make a PID namespace without a user namespace")
def test_a_caller_whose_children_were_elsewhere_before_maps_those(noop):
    def check():
        linux.unshare(linux.CloneFlags.NEWPID)
        reaper = os.fork()
        if reaper == 0:
            time.sleep(100)
        namespaces = NamespaceOptions.all().without_pid()
        found = []
        for _ in range(3):
            with minidocker.Popen(["sleep", "100"], namespaces=namespaces) as process:
                found.append(Path(f"/proc/{process.pid}/stat").read_text().split()[3])
                process.kill()
            time.sleep(0.05)
        os.kill(reaper, signal.SIGKILL)
        os.waitpid(reaper, 0)
        return found, str(os.getpid())

    found, caller = in_child(check)
    assert found == [caller] * 3


@pytest.mark.root(reason="only root may make a PID namespace without a user namespace")
def test_a_caller_whose_children_are_elsewhere_is_told_the_right_pid(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        linux.unshare(linux.CloneFlags.NEWPID)
        reaper = os.fork()
        if reaper == 0:
            time.sleep(100)
        namespaces = NamespaceOptions.all().without_pid()
        with minidocker.Popen(["sleep", "100"], namespaces=namespaces) as process:
            arguments = Path(f"/proc/{process.pid}/cmdline")
            # A process that is executing something has none for a moment.
            while not (command := arguments.read_bytes()):
                time.sleep(0.001)
            process.kill()
        os.kill(reaper, signal.SIGKILL)
        os.waitpid(reaper, 0)
        return command, process.returncode

    assert in_child(check) == (b"sleep\x00100\x00", -signal.SIGKILL)


def test_a_caller_with_a_handler_for_ended_children_sees_both(noop):
    """The one that goes ahead is a child too; who reaps all takes nothing from the launch."""

    def check():
        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        minidocker.run([noop], check=True)
        signal.signal(signal.SIGCHLD, reap)
        found = []
        for _ in range(3):
            wait_for_spare()
            found.append(minidocker.run([noop]).returncode)
        return found

    assert in_child(check) == [0, 0, 0]


def test_ignored_children_are_no_obstacle(noop):
    def check():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        found = []
        for _ in range(3):
            found.append(minidocker.run([noop], init=True).returncode)
            wait_for_spare()
        return found

    assert in_child(check) == [0, 0, 0]


def test_descriptors_that_wait_are_not_too_many_for_the_caller(noop):
    """All that a user's processes send counts against the limit of each of them."""

    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        highest = max(map(int, os.listdir("/proc/self/fd")))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Others' may wait too, but not that many.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest + 20, 100), hard))
        return minidocker.run([noop]).returncode

    assert in_child(check) == 0


@pytest.mark.parametrize(
    "options", [{}, {"rootfs": "/", "tmpfs": ["/tmp"]}], ids=["the host's root", "its own root"]
)
def test_few_descriptors_are_enough_whatever_was_made_ahead(noop, options):
    def outcome():
        try:
            return minidocker.run([noop], **options).returncode
        except minidocker.SpawnError as error:
            return error.step, error.errno

    def check():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # What waits may be sent, however much other processes have on the way.
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        differing = {}
        for free in range(8, 56):
            minidocker.run([noop], check=True)
            wait_for_spare()
            occupied = []
            with contextlib.suppress(OSError):
                while True:
                    occupied.append(os.dup(0))
            for _ in range(free):
                os.close(occupied.pop())
            # The second one comes too soon for anything to be made.
            ahead, itself = outcome(), outcome()
            if ahead != itself:
                differing[free] = (ahead, itself)
            for number in occupied:
                os.close(number)
        return differing

    assert in_child(check) == {}
