"""Attempts to reach the host's processes, network and sockets."""

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

import minidocker
from support.attack import PROFILES, assert_escapes, assert_held

pytestmark = pytest.mark.parametrize("profile", PROFILES)

WITHOUT_PID = minidocker.NamespaceOptions.all().without_pid()


@pytest.fixture
def victim():
    """A process of the caller's, outside."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None, "the attempt has ended it"
        process.kill()


def test_processes_outside_cannot_be_signalled(profile, victim):
    code = f"attempt('kill', os.kill, {victim.pid}, 0)"
    # The positive control shares the PID namespace: only there does the number mean the victim.
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


def test_untrusted_code_cannot_signal_outside_even_with_the_pid_namespace_shared(profile, victim):
    if profile == "docker":
        pytest.skip("as docker run --pid=host: the command signals what its user may")
    code = f"""
attempt("kill", os.kill, {victim.pid}, 0)
attempt("pidfd", lambda: __import__("signal").pidfd_send_signal(os.pidfd_open({victim.pid}), 0))
"""
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile, namespaces=WITHOUT_PID)


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


@pytest.mark.root(reason="a plain caller's root inside may not trace what is outside")
def test_processes_outside_cannot_be_traced(profile, victim):
    code = TRACE.replace("{pid}", str(victim.pid))
    shared = minidocker.NamespaceOptions.none()
    assert_escapes(code, profile="namespaces", namespaces=shared)
    assert_held(code, profile=profile, namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


def test_every_process_that_is_seen_is_the_containers_own(profile):
    code = """
pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
(escaped if len(pids) > 1 or os.getppid() else held)(f"{pids}")
"""
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile)


@pytest.fixture
def listening():
    """Sockets of the host's: abstract, by path in /run or /tmp, and TCP on loopback."""
    name = f"minidocker-test-{os.getpid()}-{threading.get_ident()}"
    abstract, stream = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET)
    with abstract, stream:
        abstract.bind(f"\0{name}")
        abstract.listen()
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        yield name, stream.getsockname()[1]


CONNECT = """
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)
"""


def test_abstract_sockets_and_loopback_of_the_host_are_out_of_reach(profile, listening):
    name, port = listening
    code = f"""{CONNECT}
attempt("abstract", connect, socket.AF_UNIX, "\\0{name}")
attempt("loopback", connect, socket.AF_INET, ("127.0.0.1", {port}))
"""
    assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile)


def test_untrusted_code_with_the_hosts_network_still_reaches_no_abstract_socket(profile, listening):
    if profile == "docker":
        pytest.skip("as docker run --network=host: abstract sockets are the network's")
    name, _ = listening
    code = f"""{CONNECT}
attempt("abstract", connect, socket.AF_UNIX, "\\0{name}")
"""
    assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile, network="host")


def test_sockets_of_the_host_in_the_file_system_are_hidden_from_untrusted_code(profile, tmp_path):
    if profile == "docker":
        pytest.skip("without a rootfs the files are the host's, and so are the sockets among them")
    path = tmp_path / "socket"
    # The directories of pytest are closed to others, and the attempt is made as root inside.
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        code = f"""{CONNECT}
attempt("path", connect, socket.AF_UNIX, {str(path)!r})
"""
        assert_escapes(code, profile="namespaces")
        assert_held(code, profile=profile)


def test_interfaces_of_the_host_are_not_there(profile):
    code = """
seen = {name for _, name in socket.if_nameindex()} | set(os.listdir("/sys/class/net"))
others = seen - {"lo"}
(escaped if others else held)(f"{others}")
"""
    if any(name != "lo" for _, name in socket.if_nameindex()):
        assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile)


def test_message_queues_and_shared_memory_of_the_host_are_not_there(profile):
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
