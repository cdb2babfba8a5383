"""Callers that changed after their first container, or have children in another PID namespace."""

import ctypes
import os
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
from support.waiting import wait_until

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4


@pytest.mark.root(reason="only root can become another user")
def test_a_caller_that_becomes_another_user_gets_namespaces_of_that_user(noop):
    def check():
        minidocker.run([noop], check=True)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # A change of ids clears the dumpable attribute.
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        show = ["cat", "/proc/self/uid_map"]
        done = minidocker.run(show, capture_output=True, text=True, check=True)
        return done.stdout.split(), ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)

    assert in_child(check) == (["0", "65534", "1"], 1)


@pytest.mark.root(reason="only root has capabilities to lose")
def test_a_caller_without_capabilities_is_refused_other_users_ids(noop):
    every_id = {"uid_map": [(0, 0, 1 << 31)], "gid_map": [(0, 0, 1 << 31)]}

    def check():
        # Version 3 of the header, and three empty sets in two words each.
        header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
        assert ctypes.CDLL(None).capset(header, ctypes.create_string_buffer(bytes(24))) == 0
        refused = []
        for options in (every_id, every_id, {}, {}):
            try:
                minidocker.run([noop], **options)
            except minidocker.SpawnError as error:
                refused.append(error.step)
        return refused

    assert in_child(check) == ["id-maps"] * 4


@pytest.mark.root(reason="only root may make a PID namespace without a user namespace")
@pytest.mark.parametrize("before", [False, True], ids=["from the start", "later"])
def test_a_caller_with_children_in_another_pid_namespace_gets_the_right_pid(before, noop):
    def check():
        if before:
            minidocker.run([noop], check=True)
        linux.unshare(linux.CloneFlags.NEWPID)
        reaper = os.fork()
        if reaper == 0:
            time.sleep(100)
        namespaces = NamespaceOptions.all().without_pid()
        with minidocker.Popen(["sleep", "100"], namespaces=namespaces) as process:
            parent = Path(f"/proc/{process.pid}/stat").read_text().split()[3]
            # During execve(2) a process has no arguments for a moment.
            command = wait_until(Path(f"/proc/{process.pid}/cmdline").read_bytes)
            process.kill()
        os.kill(reaper, signal.SIGKILL)
        os.waitpid(reaper, 0)
        return parent == str(os.getpid()), command, process.returncode

    assert in_child(check) == (True, b"sleep\x00100\x00", -signal.SIGKILL)


def test_signals_and_threads_do_not_stop_functions_for_ever():
    """A launch that runs signal handlers while it waits holds no lock that a thread needs."""
    script = """
signal.signal(signal.SIGALRM, lambda *_: None)
def loop():
    for _ in range(300):
        minidocker.call(int)
thread = threading.Thread(target=loop)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
thread.start()
loop()
thread.join()
say("done")
"""
    with calling(script) as caller:
        assert select.select([caller.stdout], [], [], 120)[0], "the caller hangs"
        assert caller.line() == "done"
