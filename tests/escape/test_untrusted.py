"""Attempts that only "untrusted" stops: at the host's own files, and in shared namespaces."""

import os
from pathlib import Path

import pytest

import minidocker
from support.attack import assert_escapes, assert_held, landlock_abi

pytestmark = pytest.mark.parametrize("profile", ["untrusted"])

WITHOUT_USER = minidocker.NamespaceOptions.all().without_user()
WITHOUT_PID = minidocker.NamespaceOptions.all().without_pid()

# In shared namespaces only Landlock's scopes stop signals and abstract sockets; landlock(7).
SCOPED = pytest.mark.may_skip_in_ci(reason="Landlock has scopes from Linux 6.12 on")


@pytest.fixture
def scopes():
    """Skip if the kernel's Landlock has no scopes."""
    if landlock_abi() < 6:
        pytest.skip(f"this kernel's Landlock has version {landlock_abi()}, and scopes need 6")


WRITE = """
for path in ("/usr/minidocker-test", "/etc/minidocker-test", "/var/lib/minidocker-test"):
    def make():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.unlink(path)
    attempt(path, make)
attempt("chmod", os.chmod, "/usr/bin", 0o755)
attempt("utime", os.utime, "/etc")
"""


@pytest.mark.root(reason="a plain user may not write there anyway")
def test_untrusted_code_changes_no_file_of_the_host(profile):
    assert_escapes(WRITE, profile="namespaces")
    assert_held(WRITE, profile=profile)
    assert_held(WRITE, profile=profile, namespaces=WITHOUT_USER)


@pytest.mark.smoke
@pytest.mark.needs("devices")
def test_the_files_that_untrusted_code_writes_are_discarded(profile):
    name = f"minidocker-test-{os.getpid()}"
    script = f"echo x > /tmp/{name} && echo x > /var/tmp/{name} && echo x > /run/{name}"
    done = minidocker.run(["sh", "-c", script], profile=profile, check=True)
    assert done.returncode == 0
    assert not [path for path in ("/tmp", "/var/tmp", "/run") if Path(path, name).exists()]


@SCOPED
@pytest.mark.usefixtures("scopes")
def test_untrusted_code_cannot_signal_outside_even_with_the_pid_namespace_shared(profile, victim):
    code = f"""
NUMBERS.update(
    rt_sigqueueinfo=(129, 138), rt_tgsigqueueinfo=(297, 240), tgkill=(234, 131), tkill=(200, 130),
)
information = (ctypes.c_int * 32)(0, 0, -1)
attempt("kill", os.kill, {victim.pid}, 0)
attempt("tkill", call, "tkill", {victim.pid}, 0)
attempt("tgkill", call, "tgkill", {victim.pid}, {victim.pid}, 0)
attempt("sigqueue", call, "rt_sigqueueinfo", {victim.pid}, 0, information)
attempt("tgsigqueue", call, "rt_tgsigqueueinfo", {victim.pid}, {victim.pid}, 0, information)
attempt("pidfd", lambda: __import__("signal").pidfd_send_signal(os.pidfd_open({victim.pid}), 0))
"""
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_PID)
    assert_held(code, profile=profile, namespaces=WITHOUT_PID)


@SCOPED
@pytest.mark.usefixtures("scopes")
def test_untrusted_code_with_the_hosts_network_still_reaches_no_abstract_socket(profile, listening):
    name, _ = listening
    code = f"""
attempt("abstract", connect, socket.AF_UNIX, "\\0{name}")
"""
    assert_escapes(code, profile="namespaces", network="host")
    assert_held(code, profile=profile, network="host")
