"""Counters that the kernel keeps for each user: what a container can take of its caller's.

The kernel counts some of them to the user who made the user namespace, whatever ids it maps, and
others to the id outside of the process.
"""

import array
import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.child import in_child
from support.waiting import wait_until

INOTIFY = """
import ctypes, json, sys
libc = ctypes.CDLL(None, use_errno=True)
count = 0
while libc.inotify_init1(0) >= 0:
    count += 1
print(json.dumps([count, ctypes.get_errno()]), flush=True)
sys.stdin.read()
"""

IN_FLIGHT = """
import array, errno, os, socket, sys
null = os.open("/dev/null", os.O_RDONLY)
pairs = []
while True:
    pairs.append(socket.socketpair())
    pairs[-1][0].setblocking(False)
    try:
        while True:
            rights = array.array("i", [null] * 100)
            pairs[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    except BlockingIOError:
        pass
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
        break
sys.stdin.read()
"""

SUBORDINATE = {"uid_map": "auto", "gid_map": "auto", "user": 1000, "group": 1000}

needs_subordinate_ids = pytest.mark.plain(reason="root is exempt, and has no subordinate ids")


def exhausting(script, **options):
    """Start a container that takes all that it can get, and return it with its report."""
    process = minidocker.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        profile="untrusted",
        **options,
    )
    return process, process.stdout.readline().strip()


def inotify_outside():
    """Return whether this process can make an instance of inotify."""
    code = "import ctypes; raise SystemExit(ctypes.CDLL(None).inotify_init1(0) < 0)"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_container_leaves_its_caller_instances_of_inotify():
    """The kernel's default is 128 for each user. Subordinate ids do not change whose they are."""
    ways = [{}, {"namespaces": NamespaceOptions.all().without_pid()}]
    if os.geteuid() != 0:
        ways.append(SUBORDINATE)
    for options in ways:
        process, report = exhausting(INOTIFY, **options)
        with process:
            count, _ = json.loads(report)
            assert 0 < count <= 64
            assert wait_until(inotify_outside)
            process.kill()


def test_the_limits_of_inotify_are_those_of_the_containers_own_user_namespace():
    paths = [f"/proc/sys/user/max_inotify_{name}" for name in ("instances", "watches")]

    def read():
        return [int(Path(path).read_text()) for path in paths]

    before = read()
    done = minidocker.run(["cat", *paths], profile="untrusted", capture_output=True, text=True)
    assert done.stdout.split() == ["64", "8192"]
    shared = NamespaceOptions.all().without_user()
    if os.geteuid() == 0:
        minidocker.run(["true"], profile="untrusted", namespaces=shared, check=True)
    assert read() == before


def can_send_a_descriptor():
    left, right = socket.socketpair()
    with left, right:
        rights = array.array("i", [left.fileno()])
        try:
            left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            return False
    return True


def sends_beside(options):
    """Return the container's last error, and whether the caller can send beside it and after it."""

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        process, report = exhausting(IN_FLIGHT, **options)
        with process:
            beside = can_send_a_descriptor()
            process.kill()
        return report, beside, wait_until(can_send_a_descriptor)

    return in_child(check)


@needs_subordinate_ids
def test_descriptors_in_flight_are_the_callers_own_only_with_the_callers_id():
    assert sends_beside({}) == ("ETOOMANYREFS", False, True)
    assert sends_beside(SUBORDINATE) == ("ETOOMANYREFS", True, True)


@pytest.mark.root(reason="only root is exempt")
def test_descriptors_in_flight_of_a_container_do_not_matter_to_root():
    report, beside, after = sends_beside({})
    assert (report, beside, after) == ("ETOOMANYREFS", True, True)
