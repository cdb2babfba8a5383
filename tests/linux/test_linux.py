"""The single system calls: each is made in a child, and checked from both sides."""

import errno
import inspect
import os
import re
import signal
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


# --- namespaces --------------------------------------------------------------------------------


def test_a_hostname_set_in_a_new_uts_namespace_is_invisible_to_the_host():
    def inside():
        unshare_as_root(CloneFlags.NEWUTS)
        linux.sethostname("mycontainer")
        linux.setdomainname(b"example.org")
        return socket.gethostname(), DOMAINNAME.read_text()

    before = socket.gethostname(), DOMAINNAME.read_text()
    assert in_child(inside) == ("mycontainer", "example.org\n")
    assert (socket.gethostname(), DOMAINNAME.read_text()) == before


def test_the_next_child_after_a_new_pid_namespace_is_pid_1_and_the_caller_keeps_its_pid():
    def inside():
        before = linux.getpid()
        linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWPID)
        child = in_child(lambda: (linux.getpid(), linux.getppid()))
        return before == linux.getpid(), child

    assert in_child(inside) == (True, (1, 0))


def test_a_new_network_namespace_has_only_loopback():
    def inside():
        linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWNET)
        return socket.if_nameindex()

    before = socket.if_nameindex()
    assert in_child(inside) == [(1, "lo")]
    assert socket.if_nameindex() == before


def test_a_mount_in_a_new_mount_namespace_is_invisible_to_the_host(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount(None, "/", mountflags=MountFlags.REC | MountFlags.PRIVATE)
        linux.mount("tmpfs", tmp_path, "tmpfs", MountFlags.NOSUID | MountFlags.NODEV, "size=64k")
        (tmp_path / "seen").write_text("inside")
        seen = os.listdir(tmp_path), os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
        linux.umount2(tmp_path)
        return seen, os.listdir(tmp_path)

    assert in_child(inside) == ((["seen"], 65536), [])
    assert list(tmp_path.iterdir()) == []


def test_a_bind_mount_can_be_made_read_only(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        # For a plain user the mount's existing flags are locked: a remount must keep them.
        vfs = os.statvfs(tmp_path).f_flag
        kept = sum(
            flag
            for flag, found in (
                (MountFlags.NOSUID, os.ST_NOSUID),
                (MountFlags.NODEV, os.ST_NODEV),
                (MountFlags.NOEXEC, os.ST_NOEXEC),
                (MountFlags.RELATIME, os.ST_RELATIME),
                (MountFlags.NOATIME, os.ST_NOATIME),
            )
            if vfs & found
        )
        linux.mount(tmp_path, tmp_path, mountflags=MountFlags.BIND | MountFlags.REC)
        flags = MountFlags.BIND | MountFlags.REMOUNT | MountFlags.RDONLY | kept
        linux.mount(None, tmp_path, mountflags=flags)
        (tmp_path / "file").write_text("")

    assert raised_by(inside).errno == errno.EROFS
    (tmp_path / "file").write_text("it is still writable outside")


def test_pivot_root_leaves_nothing_of_the_old_root(tmp_path):
    def inside():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount("tmpfs", tmp_path, "tmpfs")
        (tmp_path / "here").mkdir()
        linux.chdir(tmp_path)
        linux.pivot_root(".", ".")
        linux.umount2(".", UmountFlags.DETACH)
        linux.chdir("/")
        return os.listdir("/"), os.listdir("..")

    assert in_child(inside) == (["here"], ["here"])
    assert Path("/proc/self").exists()


def test_chroot_moves_the_root_but_not_the_working_directory(tmp_path):
    (tmp_path / "here").touch()

    def inside():
        linux.unshare(CloneFlags.NEWUSER)
        linux.chdir("/")
        linux.chroot(tmp_path)
        outside = "proc" in os.listdir(".")
        linux.chdir("/")
        return outside, os.listdir("/")

    assert in_child(inside) == (True, ["here"])


@pytest.mark.parametrize("how", ["namespace files", "pidfd"])
def test_setns_joins_the_namespaces_of_another_process(how):
    ready, done = os.pipe(), os.pipe()

    def host():
        unshare_as_root(CloneFlags.NEWUTS)
        linux.sethostname("joined")
        os.write(ready[1], b"x")
        os.read(done[0], 1)

    def join(pid):
        if how == "pidfd":
            linux.setns(os.pidfd_open(pid), CloneFlags.NEWUSER | CloneFlags.NEWUTS)
        else:
            files = [open(f"/proc/{pid}/ns/{kind}", "rb") for kind in ("user", "uts")]  # noqa: SIM115
            linux.setns(files[0])
            linux.setns(files[1].fileno(), CloneFlags.NEWUTS)
        return socket.gethostname()

    before = socket.gethostname()
    pid = os.fork()
    if pid == 0:
        try:
            host()
        finally:
            os._exit(0)
    try:
        assert os.read(ready[0], 1) == b"x"
        assert in_child(join, pid) == "joined"
    finally:
        os.write(done[1], b"x")
        os.waitpid(pid, 0)
        for fd in ready + done:
            os.close(fd)
    assert socket.gethostname() == before


def test_a_new_time_namespace_is_for_the_next_child():
    def inside():
        linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWTIME)
        links = Path("/proc/self/ns")
        return os.readlink(links / "time") != os.readlink(links / "time_for_children")

    assert in_child(inside)


# --- ids ---------------------------------------------------------------------------------------


def test_ids_are_those_of_the_caller():
    assert (linux.getpid(), linux.getppid()) == (os.getpid(), os.getppid())
    assert (linux.getuid(), linux.getgid()) == (os.getuid(), os.getgid())


def test_a_user_namespace_without_a_map_shows_the_overflow_id():
    def inside():
        linux.unshare(CloneFlags.NEWUSER)
        return linux.getuid(), linux.getgid()

    overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    assert in_child(inside) == (overflow, overflow)


def test_only_mapped_ids_can_be_set():
    def inside():
        unshare_as_root(CloneFlags(0))
        linux.setgid(0)
        linux.setuid(0)
        ids = linux.getuid(), linux.getgid()
        with pytest.raises(OSError, match="Invalid argument"):
            linux.setgid(5)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            linux.setuid(5)
        return ids, caught.value.errno, caught.value.__notes__

    ids, number, notes = in_child(inside)
    assert ids == (0, 0)
    assert number == errno.EINVAL
    assert "uid_map" in notes[0]


@pytest.mark.root(reason="only root may change its ids")
def test_root_becomes_another_user_permanently():
    def inside():
        os.setgroups([])
        linux.setgid(12345)
        linux.setuid(54321)
        return (
            os.getresuid(),
            os.getresgid(),
            raised_again(linux.setuid),
            raised_again(linux.setgid),
        )

    def raised_again(call):
        with pytest.raises(PermissionError):
            call(0)
        return True

    assert in_child(inside) == ((54321,) * 3, (12345,) * 3, True, True)
    assert os.getresuid() == (0, 0, 0)


@pytest.mark.plain(reason="root may become any user")
@pytest.mark.parametrize("call", [linux.setuid, linux.setgid])
def test_a_plain_user_cannot_become_root(call):
    error = raised_by(call, 0)
    assert isinstance(error, PermissionError)
    assert error.errno == errno.EPERM


@pytest.mark.parametrize("call", [linux.setuid, linux.setgid])
@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_number_outside_the_range_of_ids_is_refused(call, number):
    with pytest.raises(OverflowError):
        call(number)


# --- processes ---------------------------------------------------------------------------------


def waited(script, options=0):
    """Fork, execute a shell command line in the child, and wait for it."""

    def inside():
        pid = linux.fork()
        if pid == 0:
            linux.execv("/bin/sh", ["sh", "-c", script])
        return linux.waitpid(pid, options)

    return in_child(inside)


def test_waitpid_returns_the_exit_status():
    pid, status = waited("exit 7")
    assert pid > 1
    assert os.WEXITSTATUS(status) == 7
    assert waited("exit 7").returncode == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 6])
def test_waitpid_returns_the_signal_that_ended_the_child(number):
    assert waited(f"kill -{int(number)} $$").returncode == -number


def test_waitpid_distinguishes_a_stopped_child_from_an_ended_one():
    def inside():
        pid = linux.fork()
        if pid == 0:
            linux.execv("/bin/sh", ["sh", "-c", "kill -STOP $$; exit 3"])
        stopped = linux.waitpid(pid, os.WUNTRACED)
        os.kill(pid, signal.SIGCONT)
        return os.WSTOPSIG(stopped.status), stopped.returncode, linux.waitpid(pid).returncode

    assert in_child(inside) == (signal.SIGSTOP, None, 3)


def test_waitpid_without_a_change_returns_pid_0_and_no_returncode():
    def inside():
        reader, writer = os.pipe()
        pid = linux.fork()
        if pid == 0:
            os.read(reader, 1)
            os._exit(0)
        running = linux.waitpid(-1, os.WNOHANG)
        os.write(writer, b"x")
        return running, running.returncode, linux.waitpid(-1).pid == pid

    assert in_child(inside) == ((0, 0), None, True)


def test_waitpid_lets_other_threads_run():
    def inside():
        pid = linux.fork()
        if pid == 0:
            signal.pause()
        threading.Timer(0.02, os.kill, (pid, signal.SIGKILL)).start()
        return linux.waitpid(pid).returncode

    assert in_child(inside) == -signal.SIGKILL


def test_only_a_signal_handler_that_raises_ends_waitpid():
    class RangError(Exception):
        pass

    def inside(handler):
        pid = linux.fork()
        if pid == 0:
            signal.pause()
        rings = []
        signal.signal(signal.SIGALRM, lambda *_: handler(rings, pid))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            return linux.waitpid(pid).returncode
        except RangError:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "ended"

    def raises(rings, pid):
        raise RangError

    def kills_at_the_third(rings, pid):
        rings.append(pid)
        if len(rings) == 3:
            os.kill(pid, signal.SIGTERM)

    assert in_child(inside, raises) == "ended"
    assert in_child(inside, kills_at_the_third) == -signal.SIGTERM


def test_fork_runs_the_at_fork_functions_of_python_on_both_sides():
    script = """
import os
from minidocker import linux

def say(word):  # in one write, or the output of both sides could mix
    return lambda: os.write(1, word)

os.register_at_fork(before=say(b"before "), after_in_parent=say(b"parent "),
                    after_in_child=say(b"child "))
pid = linux.fork()
if pid == 0:
    os._exit(0)
linux.waitpid(pid)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split()) == ["before", "child", "parent"]


def test_execv_needs_the_name_of_the_program():
    with pytest.raises(ValueError, match="argv is empty"):
        linux.execv("/bin/true", [])


def test_execv_takes_bytes_and_paths_and_passes_them_unchanged(tmp_path):
    out = tmp_path / "out"

    def inside():
        pid = linux.fork()
        if pid == 0:
            script = f"printf %s \"$1\" > '{out}'"
            linux.execv(Path("/bin/sh"), ["sh", b"-c", script, "sh", os.fsdecode(b"\xff\xfe")])
        return linux.waitpid(pid).returncode

    assert in_child(inside) == 0
    assert out.read_bytes() == b"\xff\xfe"


def test_a_failed_execv_names_the_program_and_the_caller_continues(tmp_path):
    script = tmp_path / "script"
    script.write_text("not a program")
    missing = raised_by(linux.execv, tmp_path / "none", ["none"])
    assert isinstance(missing, FileNotFoundError)
    assert missing.filename == tmp_path / "none"
    assert isinstance(raised_by(linux.execv, script, ["script"]), PermissionError)
    script.chmod(0o755)
    assert raised_by(linux.execv, script, ["script"]).errno == errno.ENOEXEC


# --- names -------------------------------------------------------------------------------------


def defined_in(header, prefix):
    """Return the constants of a C header, from the preprocessor, without their prefix."""
    source = f"#include <linux/{header}.h>\n"
    command = ["cc", "-E", "-dM", "-"]
    macros = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    found = {}
    row = re.compile(rf"#define {prefix}(\w+) \(?(0x[0-9a-fA-F]+|\d+)U?L?(?: ?<< ?(\d+))?\)?$")
    for line in macros.stdout.splitlines():
        if match := row.match(line):
            found[match[1]] = int(match[2], 0) << int(match[3] or 0)
    return found


@pytest.mark.parametrize(
    ("flags", "header", "prefix"), [(CloneFlags, "sched", "CLONE_"), (MountFlags, "mount", "MS_")]
)
def test_flags_have_the_names_and_numbers_of_the_kernels_headers(flags, header, prefix):
    known = defined_in(header, prefix)
    assert {flag.name: flag.value for flag in flags} == {
        flag.name: known[flag.name] for flag in flags
    }


@pytest.mark.parametrize(
    ("call", "names"),
    {
        linux.unshare: ["flags"],
        linux.setns: ["fd", "nstype"],
        linux.chroot: ["path"],
        linux.chdir: ["path"],
        linux.mount: ["source", "target", "filesystemtype", "mountflags", "data"],
        linux.umount2: ["target", "flags"],
        linux.pivot_root: ["new_root", "put_old"],
        linux.sethostname: ["name"],
        linux.setdomainname: ["name"],
        linux.getpid: [],
        linux.getppid: [],
        linux.getuid: [],
        linux.getgid: [],
        linux.setuid: ["uid"],
        linux.setgid: ["gid"],
        linux.fork: [],
        linux.execv: ["pathname", "argv"],
        linux.waitpid: ["pid", "options"],
    }.items(),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_keywords_are_those_of_the_manual_page_which_the_docstring_names(call, names):
    assert list(inspect.signature(call).parameters) == names
    assert re.search(rf"See ({call.__name__}\(2\)|getuid\(2\)|getgid\(2\)|exec\(3\))", call.__doc__)
    assert call.__name__ in linux.__all__
