"""The caller is itself in a container that forbids this and that: it works, or says what to do."""

import errno
import os
import subprocess
import sys

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.child import in_child
from support.denied import deny
from support.specs import HERE

ROOT = os.geteuid() == 0


def attempt(name, number, *args, **options):
    """Run something with a system call denied: the return code, or what the error says."""

    def check():
        deny(name, number)
        try:
            return minidocker.run(*args, **options).returncode
        except minidocker.SpawnError as error:
            return type(error).__name__, error.step, error.errno, error.hint

    return in_child(check)


# Such a filter comes with "no new privileges", which setuid programs like newuidmap do not survive.
WITHOUT_SETUID = [name for name in HERE if ROOT or HERE[name].get("uid_map") != "auto"]


@pytest.mark.parametrize("name", WITHOUT_SETUID)
def test_a_filter_that_does_not_know_clone3_is_no_obstacle(name, noop):
    """Docker's answers ENOSYS, since it cannot look into the arguments."""
    assert attempt("clone3", errno.ENOSYS, [noop], **HERE[name]) == 0


@pytest.mark.parametrize(
    ("call", "number", "step", "watched"),
    [
        ("close_range", errno.ENOSYS, "descriptors", False),
        ("close_range", errno.EPERM, "descriptors", False),
        ("close_range", errno.EPERM, "watchdog", True),
        ("pidfd_open", errno.ENOSYS, "watchdog", True),
        ("mount", errno.EPERM, "private-mounts", True),
        ("unshare", errno.EPERM, "time", True),
    ],
)
def test_a_call_that_a_filter_denies_is_told_with_what_to_do(call, number, step, watched, noop):
    options = {"namespaces": NamespaceOptions.all().with_time(), "die_with_parent": watched}
    kind, found, errno_, hint = attempt(call, number, [noop], **options)
    assert (found, errno_) == (step, number)
    assert kind == ("PermissionDenied" if number == errno.EPERM else "SpawnError")
    assert "minidocker doctor" in hint


def test_what_is_denied_and_not_needed_is_no_obstacle(noop):
    options = {"namespaces": NamespaceOptions.none(), "die_with_parent": False}
    assert attempt("mount", errno.EPERM, [noop], **options) == 0
    assert attempt("pidfd_open", errno.ENOSYS, [noop], **options) == 0


# --- a hidden /proc ----------------------------------------------------------------------------

SCRIPT = """
import sys
import minidocker
from minidocker import NamespaceOptions

def attempt(**options):
    try:
        print(minidocker.run(["true"], **options).returncode)
    except minidocker.SpawnError as error:
        print(type(error).__name__, error.step, error.filename, error.hint)

attempt()
attempt(namespaces=NamespaceOptions.all().without_pid())
attempt(namespaces=NamespaceOptions.all().without_pid().without_net())
"""


def inside(setup, *flags):
    """What the script says after `setup` in mount and user namespaces of its own."""
    user = [] if ROOT else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", *flags, "sh", "-c", f'{setup}; exec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_masked_proc_is_told_with_what_to_do():
    first, second, third = inside(
        "mount -t tmpfs tmpfs /proc/scsi || mount -t tmpfs tmpfs /proc/sys"
    )
    assert first.startswith("PermissionDenied mount-proc /proc ")
    assert "systempaths=unconfined" in first
    assert "without_pid()" in first
    # What it says helps.
    assert second == third == "0"


def test_a_masked_sys_is_told_with_what_to_do():
    first, second, third = inside("mount -t tmpfs tmpfs /sys/kernel")
    assert first.startswith("PermissionDenied mount-sys /sys ")
    assert 'network="host"' in first
    assert second.startswith("PermissionDenied mount-sys")
    assert third == "0"


def test_a_read_only_proc_sys_only_costs_ping():
    assert inside("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")[1:] == [
        "0", "0",
    ]  # fmt: skip


@pytest.mark.root(reason="only root may set the sysctl of a PID namespace")
def test_a_forbidden_memfd_is_told_with_what_to_do():
    setup = "mount -t proc proc /proc; echo 2 >/proc/sys/vm/memfd_noexec"
    first, _, _ = inside(setup, "--pid", "--fork")
    assert first.startswith("PermissionDenied helper None ")
    assert "vm.memfd_noexec" in first


@pytest.mark.parametrize("hidden", ["/proc", "/sys", "/dev/shm", "/etc"])
def test_a_directory_that_is_hidden_altogether(hidden):
    """A tmpfs over it: what is not there is not mounted over, and not missed."""
    lines = inside(f"mount -t tmpfs tmpfs {hidden}")
    if hidden == "/proc":
        assert all("id-maps" in line and "Mount /proc" in line for line in lines)
    else:
        assert lines[-1] == "0"
