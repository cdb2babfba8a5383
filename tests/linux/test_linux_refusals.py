"""The errors of the single system calls: errno, file and advice."""

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from minidocker import linux
from minidocker.linux import CloneFlags, MountFlags, UmountFlags
from support.child import in_child, raised_by, unshare_as_root

DOMAINNAME = Path("/proc/sys/kernel/domainname")


def test_a_user_namespace_in_a_process_with_threads_is_refused_with_the_reason():
    def inside():
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        try:
            linux.unshare(CloneFlags.NEWUSER)
        finally:
            stop.set()
            thread.join()

    error = raised_by(inside)
    assert error.errno == errno.EINVAL
    assert "more than one thread" in error.__notes__[0]
    assert "more than one thread" in linux.unshare.__doc__


def test_the_names_of_another_users_namespace_cannot_be_changed():
    def inside(call):
        # This root has capabilities only over its own namespaces, which exclude the UTS namespace.
        unshare_as_root(CloneFlags(0))
        call("stolen")

    before = socket.gethostname()
    for call in (linux.sethostname, linux.setdomainname):
        error = raised_by(inside, call)
        assert isinstance(error, PermissionError)
        assert error.errno == errno.EPERM
        assert f"{call.__name__}('stolen')" in error.__notes__[0]
        assert "CAP_SYS_ADMIN" in error.__notes__[0]
    assert socket.gethostname() == before


@pytest.mark.parametrize("call", [linux.sethostname, linux.setdomainname])
def test_a_name_of_64_bytes_is_the_longest(call):
    def inside(name):
        unshare_as_root(CloneFlags.NEWUTS)
        call(name)
        return os.uname().nodename if call is linux.sethostname else DOMAINNAME.read_text().strip()

    assert in_child(inside, "n" * 64) == "n" * 64
    for name in ("n" * 65, "ü" * 33):
        error = raised_by(inside, name)
        assert error.errno == errno.EINVAL
        assert "64 bytes" in error.__notes__[0]


NUL_CALLS = {
    "chroot": linux.chroot,
    "chdir": linux.chdir,
    "mount source": lambda text: linux.mount(text, "/"),
    "mount target": lambda text: linux.mount(None, text),
    "mount filesystemtype": lambda text: linux.mount(None, "/", text),
    "mount data": lambda text: linux.mount(None, "/", None, 0, text),
    "umount2": linux.umount2,
    "pivot_root new_root": lambda text: linux.pivot_root(text, "/"),
    "pivot_root put_old": lambda text: linux.pivot_root("/", text),
    "sethostname": linux.sethostname,
    "setdomainname": linux.setdomainname,
    "execv pathname": lambda text: linux.execv(text, ["x"]),
    "execv argv": lambda text: linux.execv("/bin/true", ["true", text]),
}


@pytest.mark.parametrize("text", ["a\0b", b"a\0b"])
@pytest.mark.parametrize("name", NUL_CALLS)
def test_a_nul_is_refused_and_shown(name, text):
    with pytest.raises(ValueError, match="NUL") as caught:
        in_child(NUL_CALLS[name], text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("call", [linux.chdir, linux.chroot, linux.umount2])
@pytest.mark.parametrize("kind", [os.fspath, os.fsencode, Path])
def test_the_path_of_an_error_is_the_given_object(call, kind, tmp_path):
    missing = kind(tmp_path / "none")

    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        call(missing)

    error = raised_by(inside)
    assert isinstance(error, FileNotFoundError)
    assert error.filename == missing
    assert error.strerror == os.strerror(errno.ENOENT)
    assert repr(missing) in error.__notes__[0]


def test_a_path_of_any_bytes_can_be_entered(tmp_path):
    odd = os.fsencode(tmp_path) + b"/\xff\xe4"
    os.mkdir(odd)

    def inside(path):
        linux.chdir(path)
        return os.getcwdb()

    assert in_child(inside, odd) == odd
    assert in_child(inside, os.fsdecode(odd)) == odd


def test_the_error_of_a_mount_names_source_and_target(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount("/nowhere", tmp_path, mountflags=MountFlags.BIND)

    error = raised_by(inside)
    assert isinstance(error, FileNotFoundError)
    assert error.filename == tmp_path
    assert "'/nowhere'" in error.__notes__[0]
    assert "source or target" in error.__notes__[0]


def test_a_mount_outside_ones_own_namespace_is_refused(tmp_path):
    def inside():
        unshare_as_root(CloneFlags(0))
        linux.mount("tmpfs", tmp_path, "tmpfs")

    error = raised_by(inside)
    assert isinstance(error, PermissionError)
    assert error.filename == tmp_path
    assert "NEWNS" in error.__notes__[0]


def test_pivot_root_without_a_mount_point_names_the_remedy(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.pivot_root(tmp_path, tmp_path)

    error = raised_by(inside)
    assert error.errno in (errno.EINVAL, errno.EBUSY)
    assert "bind it onto itself" in error.__notes__[0]


def test_umount2_without_a_mount_point_is_refused(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.umount2(tmp_path)

    error = raised_by(inside)
    assert error.errno == errno.EINVAL
    assert "not a mount point" in error.__notes__[0]


def test_the_flags_of_umount2_reach_the_kernel(tmp_path):
    link = tmp_path / "link"
    target = tmp_path / "target"
    target.mkdir()
    link.symlink_to(target)

    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount("tmpfs", target, "tmpfs")
        numbers = []
        busy = open(target / "file", "w")  # noqa: SIM115 - the open file keeps the mount busy
        calls = ((link, UmountFlags.NOFOLLOW), (target, 0), (target, UmountFlags.DETACH))
        for path, flags in calls:
            try:
                linux.umount2(path, flags)
                numbers.append(0)
            except OSError as error:
                numbers.append(error.errno)
        busy.close()
        linux.mount("tmpfs", target, "tmpfs")
        with pytest.raises(BlockingIOError):
            linux.umount2(target, UmountFlags.EXPIRE)
        linux.umount2(target, UmountFlags.EXPIRE)
        return numbers, os.listdir(target)

    assert in_child(inside) == ([errno.EINVAL, errno.EBUSY, 0], [])


def test_setns_refuses_a_file_that_is_not_a_namespace():
    assert raised_by(linux.setns, -1).errno == errno.EBADF
    with open("/dev/null") as file:
        error = raised_by(linux.setns, file)
    assert error.errno == errno.EINVAL
    assert "pidfd" in error.__notes__[0]


def test_the_kernel_refuses_unknown_flags():
    assert raised_by(linux.unshare, 1).errno == errno.EINVAL
    assert raised_by(linux.waitpid, -1, 1 << 20).errno == errno.EINVAL


def test_waiting_for_a_process_that_is_not_a_child_is_a_child_process_error():
    error = raised_by(linux.waitpid, 1)
    assert isinstance(error, ChildProcessError)
    assert error.args == (errno.ECHILD, os.strerror(errno.ECHILD))
    assert error.filename is None


@pytest.mark.parametrize("call", [linux.chdir, linux.chroot, linux.umount2])
def test_a_descriptor_is_not_a_path(call):
    with pytest.raises(TypeError, match="not int"):
        call(0)


def test_on_another_system_importing_works_and_calling_names_linux():
    script = """
import sys
sys.platform = "darwin"
sys.modules["minidocker._core"] = None  # it does not exist there
from minidocker import UnsupportedPlatformError, linux, namespaces
for call in (lambda: linux.unshare(linux.CloneFlags.NEWUTS), linux.getpid, namespaces):
    try:
        call()
    except UnsupportedPlatformError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("Linux" in line and "darwin" in line for line in lines)
