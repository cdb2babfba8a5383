"""Attempts to reach the host's processes, network and sockets."""

import os
import socket
from pathlib import Path

import pytest

import minidocker
from support.attack import PROFILES, apart, assert_escapes, assert_held

pytestmark = pytest.mark.parametrize("profile", PROFILES)

WITHOUT_PID = minidocker.NamespaceOptions.all().without_pid()


def test_processes_outside_cannot_be_signalled(profile, victim):
    code = f"attempt('kill', os.kill, {victim.pid}, 0)"
    # The positive control shares the PID namespace; only there the number is the victim's pid.
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


TRACE = """
PTRACE_ATTACH, PTRACE_DETACH, VICTIM = 16, 17, {pid}
def trace():
    call("ptrace", PTRACE_ATTACH, VICTIM, 0, 0)
    os.waitpid(VICTIM, 0x40000000)
    call("ptrace", PTRACE_DETACH, VICTIM, 0, 0)
attempt("ptrace", trace)
attempt("mem", lambda: os.close(os.open("/proc/{pid}/mem", os.O_RDWR)))
attempt("environ", lambda: os.close(os.open("/proc/{pid}/environ", os.O_RDONLY)))
attempt("root", os.readlink, "/proc/{pid}/root")
attempt("pidfd_getfd", lambda: call("pidfd_getfd", call("pidfd_open", VICTIM, 0), 0, 0))
"""


@pytest.mark.root(reason="a plain caller's root inside may not trace processes outside")
def test_processes_outside_cannot_be_traced(profile, victim):
    code = TRACE.replace("{pid}", str(victim.pid))
    shared = minidocker.NamespaceOptions.none()
    assert_escapes(code, profile="namespaces", namespaces=shared)
    assert_held(code, profile=profile, namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


def test_only_the_containers_own_processes_are_visible(profile):
    code = """
pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
(escaped if len(pids) > 1 or os.getppid() else held)(f"{pids}")
"""
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


def test_abstract_sockets_and_loopback_of_the_host_are_out_of_reach(profile, listening):
    name, port = listening
    code = f"""
attempt("abstract", connect, socket.AF_UNIX, "\\0{name}")
attempt("loopback", connect, socket.AF_INET, ("127.0.0.1", {port}))
"""
    assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile)


def test_sockets_of_the_host_in_the_file_system_are_hidden(profile, tmp_path):
    path = tmp_path / "socket"
    # Other users cannot enter pytest's directories, so the attempt runs as root inside.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        code = f"""
attempt("path", connect, socket.AF_UNIX, {str(path)!r})
"""
        assert_escapes(code, profile="namespaces")
        assert_held(code, profile=profile, **apart(profile, tmp_path / "root"))


def test_interfaces_of_the_host_are_not_visible(profile):
    code = """
shown = "/sys/class/net"
seen = {name for _, name in socket.if_nameindex()}
seen |= set(os.listdir(shown) if os.path.exists(shown) else [])
others = seen - {"lo"}
(escaped if others else held)(f"{others}")
"""
    if any(name != "lo" for _, name in socket.if_nameindex()):
        assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile)


def test_message_queues_and_shared_memory_of_the_host_are_not_visible(profile):
    name = f"/dev/shm/minidocker-test-{os.getpid()}"
    Path(name).write_text("outside")
    try:
        code = f"opens({name!r}, os.O_RDWR)"
        shared = minidocker.NamespaceOptions.all().without_ipc()
        assert_escapes(code, profile="namespaces", namespaces=shared)
        assert_held(code, profile=profile)
        if profile == "untrusted":
            assert_held(code, profile=profile, namespaces=shared)
    finally:
        os.unlink(name)
