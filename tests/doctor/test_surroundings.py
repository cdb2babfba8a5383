"""Launches in a restricted container: they work, or the error names a remedy."""

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
    """Run a command with a system call denied; return the return code or parts of the error."""

    def check():
        deny(name, number)
        try:
            return minidocker.run(*args, **options).returncode
        except minidocker.SpawnError as error:
            return type(error).__name__, error.step, error.errno, error.hint

    return in_child(check)


# Such a filter requires no_new_privs, with which setuid programs such as newuidmap do not work.
WITHOUT_SETUID = [name for name in HERE if ROOT or HERE[name].get("uid_map") != "auto"]


@pytest.mark.parametrize("name", WITHOUT_SETUID)
def test_a_filter_that_does_not_know_clone3_does_not_matter(name, noop):
    """Docker's filter returns ENOSYS, since it cannot check the arguments."""
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
def test_a_call_denied_by_a_filter_is_reported_with_a_remedy(call, number, step, watched, noop):
    options = {"namespaces": NamespaceOptions.all().with_time(), "die_with_parent": watched}
    kind, found, errno_, hint = attempt(call, number, [noop], **options)
    assert (found, errno_) == (step, number)
    assert kind == ("PermissionDenied" if number == errno.EPERM else "SpawnError")
    assert "minidocker doctor" in hint


def test_a_denied_call_that_is_not_needed_does_not_matter(noop):
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
    """Return the output of the script after `setup`, in new mount and user namespaces."""
    return lines_of(setup, SCRIPT, *flags)


def lines_of(setup, script, *flags):
    """Return the output of Python code after `setup`, in new mount and user namespaces."""
    user = [] if ROOT else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", *flags, "sh", "-c", f'{setup}; exec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_masked_proc_is_reported_with_a_remedy():
    first, second, third = inside(
        "mount -t tmpfs tmpfs /proc/scsi || mount -t tmpfs tmpfs /proc/sys"
    )
    assert first.startswith("PermissionDenied mount-proc /proc ")
    assert "systempaths=unconfined" in first
    assert "without_pid()" in first
    # The remedies work.
    assert second == third == "0"


def test_a_masked_sys_is_reported_with_a_remedy():
    first, second, third = inside("mount -t tmpfs tmpfs /sys/kernel")
    assert first.startswith("PermissionDenied mount-sys /sys ")
    assert 'network="host"' in first
    assert second.startswith("PermissionDenied mount-sys")
    assert third == "0"


def test_with_a_read_only_proc_sys_only_ping_is_missing():
    assert inside("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")[1:] == [
        "0", "0",
    ]  # fmt: skip


@pytest.mark.root(reason="only root may set the sysctl of a PID namespace")
def test_a_forbidden_memfd_is_reported_with_a_remedy():
    setup = "mount -t proc proc /proc; echo 2 >/proc/sys/vm/memfd_noexec"
    first, _, _ = inside(setup, "--pid", "--fork")
    assert first.startswith("PermissionDenied helper None ")
    assert "vm.memfd_noexec" in first


@pytest.mark.parametrize("hidden", ["/proc", "/sys", "/dev/shm", "/etc"])
def test_a_completely_hidden_directory_is_not_mounted_over(hidden):
    """With a tmpfs over it, the launch works without its files, except for /proc."""
    lines = inside(f"mount -t tmpfs tmpfs {hidden}")
    if hidden == "/proc":
        assert all("id-maps" in line and "Mount /proc" in line for line in lines)
    else:
        assert lines[-1] == "0"


# --- restricted kernel file systems ------------------------------------------------------------


def flags_inside(setup, target, **options):
    """Return the flags of the mount at a path, in the caller and in a container of it."""
    code = f"import os; print(os.statvfs({target!r}).f_flag)"
    script = (
        f"import minidocker, sys; {code}; sys.stdout.flush();"
        f"minidocker.run([sys.executable, '-c', {code!r}], check=True, **{options!r})"
    )
    outside, inside = lines_of(setup, script)
    return int(outside), int(inside)


@pytest.mark.parametrize("options", [{}, {"rootfs": "/"}])
def test_a_read_only_sys_gives_containers_a_read_only_one(options):
    """Container engines and bwrap --ro-bind mount it so, and the kernel allows no other."""
    outside, inside = flags_inside("mount -o remount,bind,ro /sys", "/sys", **options)
    assert outside & inside & os.ST_RDONLY
    # It is a new one, of the container's network.
    assert inside & os.ST_NOEXEC > outside & os.ST_NOEXEC


@pytest.mark.root(reason="the kernel locks the access times of a plain user's mounts")
@pytest.mark.parametrize("options", [{}, {"rootfs": "/"}])
@pytest.mark.parametrize(
    ("target", "access"), [("/proc", "noatime"), ("/sys", "strictatime"), ("/sys", "nodiratime")]
)
def test_new_kernel_file_systems_treat_access_times_as_the_callers_do(target, access, options):
    outside, inside = flags_inside(f"mount -o remount,bind,{access} {target}", target, **options)
    flags = os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME
    assert outside & flags == inside & flags
    assert (outside & flags) != (os.statvfs(target).f_flag & flags)


def test_a_writable_sys_stays_writable():
    outside, inside = flags_inside("true", "/sys")
    assert not (outside | inside) & os.ST_RDONLY


# --- no device files ---------------------------------------------------------------------------


def test_a_dev_without_working_devices_does_not_matter():
    """Bwrap --bind / / mounts it with nodev."""
    setup = "mount -o remount,bind,nodev /dev; ! echo 2>/dev/null >/dev/null"
    assert inside(setup)[0] == "0"


def test_a_profile_with_devices_names_the_outer_dev_that_has_none():
    script = (
        "import minidocker\ntry: minidocker.run(['true'], profile='docker')\n"
        "except minidocker.SpawnError as error: print(error.step, error.hint)"
    )
    (line,) = lines_of("mount -o remount,bind,nodev /dev", script)
    assert line.startswith("dev ")
    assert "nodev" in line
    assert "--dev /dev" in line
