"""Who makes namespaces ahead, and holds what containers used: it watches meanwhile, and ends."""

import concurrent.futures
import os
import resource
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import linux
from support.callers import calling, descriptors_of, is_alive, watchdogs_of
from support.child import in_child, unshare_as_root
from support.spares import spare, wait_for_none, wait_for_spare

# What waits for other processes of the user is too much at some time.
pytestmark = pytest.mark.xdist_group("spare")


def test_nothing_is_made_where_namespaces_are_few(noop):
    """What waits would be missed by the user's other processes."""

    def check():
        unshare_as_root(linux.CloneFlags(0))
        Path("/proc/sys/user/max_net_namespaces").write_text("5")
        minidocker.run([noop], check=True)
        time.sleep(0.1)
        few = spare()
        Path("/proc/sys/user/max_net_namespaces").write_text("500")
        minidocker.run([noop], check=True)
        return few, bool(wait_for_spare())

    assert in_child(check) == (None, True)


def test_what_is_not_used_is_taken_back(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            # What does not use it does not keep it.
            minidocker.run([noop], check=True, network="host")
            time.sleep(0.2)
        wait_for_none(4)
        return minidocker.run([noop]).returncode

    assert in_child(check) == 0


def test_what_containers_used_is_let_go_of(noop):
    """The watchdog has no room for what more than a few of them used."""

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        with minidocker.Popen(["sleep", "100"]) as one:
            for _ in range(60):
                wait_for_spare()
                minidocker.run([noop], check=True)
            one.kill()
        return bool(wait_for_spare())

    assert in_child(check)


@pytest.mark.root(reason="nobody else sees which descriptors a watchdog has")
def test_what_a_container_used_is_let_go_of_when_the_caller_dies(noop):
    """At once, however long a process that the caller forked goes on."""
    script = """
minidocker.run([sys.argv[1]], check=True)
time.sleep(0.1)
running = minidocker.Popen(["sleep", "100"])
libc = ctypes.CDLL(None)
# A fork that Python does not know of: the watchdog's socket stays open.
if libc.fork() == 0:
    os.closerange(0, 3)
    libc.sleep(3)
    os._exit(0)
say("ready")
sys.stdin.read()
"""

    def held(watchdog):
        return [name for name in descriptors_of(watchdog).values() if "fscontext" in name]

    with calling(script, noop) as caller:
        caller.line()
        [watchdog] = watchdogs_of(caller.pid)
        assert held(watchdog)
        caller.kill9()
        deadline = time.monotonic() + 1
        while held(watchdog):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert is_alive(watchdog)


def test_containers_are_watched_while_namespaces_are_made(noop, survivors):
    """The process that makes them has copies of nothing that the watchdog watches."""
    script = """
running = []
for round in range(150):
    minidocker.run([sys.argv[1]], check=True)
    # In the middle of what follows, the watchdog is told of others.
    time.sleep(0.002 + 0.00002 * round)
    running += [minidocker.Popen(["sleep", "100"]) for _ in range(2)]
say("ready")
sys.stdin.read()
"""
    with calling(script, noop, env=survivors.env) as caller:
        caller.line()
        assert len(survivors.find()) > 300
        caller.kill9()
        survivors.wait_until_gone(timeout=3)


def test_a_watchdog_of_a_caller_that_closed_its_sockets_ends(noop):
    script = """
def children():
    return set(open(f"/proc/self/task/{os.getpid()}/children").read().split())
for round in range(20):
    minidocker.run([sys.argv[1]], check=True)
    time.sleep(0.0002 * round)
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.close(number)
        except OSError:
            pass
deadline = time.monotonic() + 3
def state(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
while any(state(pid) != "Z" for pid in children()) and time.monotonic() < deadline:
    time.sleep(0.01)
say(len(children()), *(pid for pid in children() if state(pid) != "Z"))
"""
    with calling(script, noop) as caller:
        # The watchdogs come to this caller, and nobody else does: not those who make namespaces.
        assert caller.line() == "20"


def test_the_watchdog_ends_with_the_caller_while_namespaces_wait(noop):
    script = """
minidocker.run([sys.argv[1]], check=True)
time.sleep(0.1)
say(open(f"/proc/self/task/{os.getpid()}/children").read())
sys.stdin.read()
"""
    with calling(script, noop) as caller:
        watchdog = int(caller.line())
        caller.kill9()
        deadline = time.monotonic() + 2
        while is_alive(watchdog):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_not_every_process_of_a_user_has_descriptors_waiting(noop):
    """However many processes there are: the others make their own namespaces."""
    count = 30
    ready, told_ready = os.pipe()
    go, told_go = os.pipe()

    def check():
        os.close(told_go)
        minidocker.run([noop], check=True)
        time.sleep(0.5)
        found = spare() is not None
        os.write(told_ready, b"x")
        os.read(go, 1)
        return found, minidocker.run([noop]).returncode

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        done = [pool.submit(in_child, check) for _ in range(count)]
        for _ in range(count):
            assert os.read(ready, 1) == b"x"
        os.close(told_go)
        results = [one.result() for one in done]
    for descriptor in (ready, told_ready, go):
        os.close(descriptor)
    assert {status for _, status in results} == {0}
    # Nine descriptors for each, as long as there are no more than seventy-two on their way.
    assert 1 <= sum(found for found, _ in results) <= 9
