"""Attempts by a malicious root: its links, its races, its programs and devices.

An attacker made the root, or changes it during the launch. The target is `outside`, a directory
beside the root.
"""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.attack import (
    PROFILES,
    apart,
    assert_escapes,
    assert_held,
    attack,
    interpreter,
    python_root,
)
from support.launches import Launch, run_by
from support.rootfs import make_rootfs, snapshot

pytestmark = pytest.mark.parametrize("profile", PROFILES)

WITHOUT_USER = minidocker.NamespaceOptions.all().without_user()
AS_ROOT = [None, WITHOUT_USER] if os.geteuid() == 0 else [None]
ENTRIES = (
    "canary", "console", "core", "fd", "full", "hostname", "hosts", "kernel", "mqueue", "null",
    "ptmx", "pts", "random", "resolv.conf", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
    "zero",
)  # fmt: skip


@pytest.fixture
def outside(tmp_path):
    """Make the directory beside the root, with a file under each name that a runtime opens."""
    directory = tmp_path / "outside"
    directory.mkdir()
    for name in ENTRIES:
        (directory / name).write_text("outside")
    return directory


@pytest.fixture
def root(tmp_path):
    return make_rootfs(tmp_path / "root")


def replace(path, link):
    """Replace a path by a symbolic link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(link)


def start(root, profile, *words, launch=Launch(), **options):  # noqa: B008 - it is frozen
    """Run a command of busybox in a root; return its output, or the step that was refused."""
    options.setdefault("env", {"PATH": "/bin"})
    try:
        done = run_by(
            launch, words, rootfs=root, profile=profile, capture_output=True, text=True, **options
        )
    except minidocker.SpawnError as error:
        return f"refused: {error.step}"
    except minidocker.SpecError as error:
        return f"refused: {error.option}"
    return done.stdout + done.stderr


def naive(command):
    """Run the positive control, a runtime that follows paths; return its output."""
    done = minidocker.run(["sh", "-c", command], capture_output=True, text=True)
    return done.stdout


LINKS = {
    "absolute": str,
    "relative": lambda outside: os.path.join("../" * 20, str(outside)[1:]),
    "up": lambda outside: f"../{outside.name}",
}


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc", "tmp", "data"])
def test_cve_2026_41579_2026_47766_a_directory_of_the_root_that_is_a_link_leads_nowhere(
    profile, root, outside, name, kind
):
    replace(root / name, LINKS[kind](outside))
    naively = naive(f"mount -t tmpfs tmpfs {root}/{name} && ls {outside}; echo done")
    if kind != "up" or os.path.exists(root / name):
        assert naively == "done\n", "the positive control: the path leads outside"
    before = snapshot(outside)
    options = {
        "hostname": "lab",
        "tmpfs": ["/data/new"],
        "mounts": [Mount("/data/more", content=b"inside")],
    }
    output = start(root, profile, "sh", "-c", "cat /data/canary /tmp/canary", **options)
    assert "outside" not in output.split(), output
    assert snapshot(outside) == before


@pytest.mark.parametrize("name", ["etc/hosts", "etc/hostname", "etc/resolv.conf"])
def test_cve_2021_30465_a_file_that_is_a_link_leads_nowhere(profile, root, outside, name):
    target = outside / Path(name).name
    replace(root / name, target)
    assert naive(f"echo x > {root}/{name}; cat {target}") == "x\n"
    target.write_text("outside")
    before = snapshot(outside)
    output = start(root, profile, "cat", f"/{name}", hostname="lab")
    assert "outside" not in output
    assert snapshot(outside) == before


@contextlib.contextmanager
def exchanging(one, other):
    """Exchange two entries of a directory continuously, in another process."""
    script = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
one, other = sys.argv[1].encode(), sys.argv[2].encode()
print("ready", flush=True)
while not libc.renameat2(-100, one, -100, other, 2):
    pass
"""
    words = [sys.executable, "-I", "-S", "-c", script, str(one), str(other)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            assert process.poll() is None, "the exchanges ended too early"
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("name", ["dev", "proc", "sys", "etc", "data"])
def test_cve_2021_30465_2025_31133_a_race_of_links_is_lost(profile, root, outside, name):
    (root / "data").mkdir()
    (root / "link").symlink_to(outside)
    options = {
        "hostname": "lab",
        "tmpfs": ["/data"],
        "mounts": [Mount("/data/canary", content=b"inside")],
    }
    before = snapshot(outside)
    started = 0
    with exchanging(root / name, root / "link"):
        for _ in range(25):
            output = start(root, profile, "cat", "/data/canary", "/dev/canary", **options)
            assert "outside" not in output, output
            started += "inside" in output
    assert snapshot(outside) == before
    assert started or name == "data", "no run reached its command"


def test_cve_2025_31133_masks_do_not_come_from_the_root(profile, root, outside):
    # runc masked with the root's /dev/null, which could be a link to the file to mask.
    for name in ("null", "full", "file", "directory", "random"):
        (root / "dev" / name).symlink_to("/proc/sys/kernel/core_pattern")
    assert naive(f"cat {root}/dev/null"), "the positive control: it is not empty"
    before = snapshot(outside)
    output = start(
        root, profile, "sh", "-c", "ls -l /dev/null; cat /proc/keys; wc -c < /proc/interrupts"
    )
    assert output.startswith("crw-rw-rw-"), output
    assert output.splitlines()[1:] == ["0"], output
    assert snapshot(outside) == before


def test_cve_2025_52565_the_console_is_not_bound_over_a_link(profile, root, outside):
    replace(root / "dev/console", outside / "console")
    replace(root / "dev/ptmx", outside / "ptmx")
    assert naive(f"echo x > {root}/dev/console; cat {outside}/console") == "x\n"
    (outside / "console").write_text("outside")
    before = snapshot(outside)
    master, slave = os.openpty()
    try:
        output = start(
            root,
            profile,
            "sh",
            "-c",
            "ls -l /dev/console /dev/ptmx",
            stdin=slave,
            launch=Launch(terminal=True),
        )
    finally:
        os.close(master)
        os.close(slave)
    lines = output.splitlines()
    assert lines[0].startswith("crw"), output
    assert lines[1].endswith("-> pts/ptmx"), output
    assert snapshot(outside) == before


@pytest.mark.parametrize("race", [False, True])
def test_cve_2025_52881_writes_to_proc_reach_proc(profile, root, outside, race):
    canary = root / "fake/sys/net/ipv4/ping_group_range"
    canary.parent.mkdir(parents=True)
    canary.write_text("canary")
    (root / "fake/self").mkdir()
    replace(root / "link", "/fake")
    before = snapshot(outside)
    if race:
        with exchanging(root / "proc", root / "link"):
            for _ in range(25):
                start(root, profile, "true")
    else:
        replace(root / "proc", "fake")
        naively = naive(f"echo x > {root}/proc/sys/net/ipv4/ping_group_range; cat {canary}")
        assert naively == "x\n", "the positive control"
        canary.write_text("canary")
        replace(root / "proc", "/fake")
        output = start(root, profile, "cat", "/proc/self/comm")
        assert output == "cat\n", output
    assert canary.read_text() == "canary"
    assert snapshot(outside) == before


def test_cve_2026_88265_an_empty_input_is_the_hosts_null(profile, root, outside):
    replace(root / "dev/null", outside / "null")
    assert naive(f"echo x > {root}/dev/null; cat {outside}/null") == "x\n"
    before = snapshot(outside)
    output = start(root, profile, "cat", stdin=subprocess.DEVNULL)
    assert output == ""
    with minidocker.Container(rootfs=root, profile=profile) as box:
        box.run(["/bin/cat"], stdin=subprocess.DEVNULL, check=True)
    assert snapshot(outside) == before


# --- a root with programs and devices in it ------------------------------------------------------


@pytest.mark.root(reason="only root makes a program that is set-user-ID to another user")
@pytest.mark.parametrize("namespaces", [None, WITHOUT_USER])
def test_a_setuid_program_in_the_root_gives_untrusted_code_nothing(profile, tmp_path, namespaces):
    options = python_root(tmp_path / "root")
    program = tmp_path / "root/raise"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    options |= {"user": 1234} | ({} if namespaces is None else {"namespaces": namespaces})

    def effective(**more):
        done = minidocker.run(
            ["/raise", "-u"], capture_output=True, text=True, check=True, **options, **more
        )
        return done.stdout

    assert effective(no_new_privileges=False) == "0\n", "the positive control"
    # It works under "docker", as in Docker; the next test checks its capabilities.
    assert effective(profile=profile) == ("1234\n" if profile == "untrusted" else "0\n")
    assert effective(profile=profile, no_new_privileges=True) == "1234\n"


@pytest.mark.root(reason="only root makes a program that is set-user-ID to another user")
def test_a_setuid_program_has_no_more_than_the_profiles_capabilities(profile, tmp_path):
    options = python_root(tmp_path / "root")
    program = tmp_path / "root/raise"
    shutil.copy("/usr/bin/cat", program)
    program.chmod(0o4755)

    def gained(**more):
        done = minidocker.run(
            ["/raise", "/proc/self/status"],
            user=1234,
            capture_output=True,
            text=True,
            check=True,
            **options,
            **more,
        )
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("CapEff")]
        return int(line.split()[1], 16)

    docker = 0xA80425FB
    assert gained(no_new_privileges=False) & ~docker, "the positive control"
    assert gained(profile=profile) == (docker if profile == "docker" else 0)


@pytest.mark.root(reason="only root makes device files")
@pytest.mark.parametrize("namespaces", [None, WITHOUT_USER])
def test_device_files_in_the_root_are_only_files(profile, tmp_path, namespaces):
    options = python_root(tmp_path / "root")
    node = tmp_path / "root/home/node"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    node.chmod(0o666)
    code = "opens('/home/node', os.O_RDWR)"
    assert_escapes(code, profile="namespaces", namespaces=WITHOUT_USER, **options)
    chosen = {} if namespaces is None else {"namespaces": namespaces}
    assert_held(code, profile=profile, **chosen, **options)


MKNOD = """
def make(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    try:
        os.close(os.open(path, os.O_RDWR))
    finally:
        os.unlink(path)
for directory in ("/home", "/tmp", "/dev", "/dev/shm", "/"):
    attempt(directory, make, f"{directory}/node")
"""


@pytest.mark.parametrize("namespaces", AS_ROOT)
def test_device_files_made_inside_cannot_be_opened(profile, tmp_path, namespaces):
    options = python_root(tmp_path / "root")
    if os.geteuid() == 0:
        control = attack(MKNOD, profile="namespaces", namespaces=WITHOUT_USER, **options)
        assert "/home" in control.escaped, str(control)
    chosen = {} if namespaces is None else {"namespaces": namespaces}
    assert_held(MKNOD, profile=profile, **chosen, **options)


UNCOVER = """
MS_REMOUNT, MS_BIND, MS_REC, MNT_DETACH = 32, 4096, 16384, 2
for path in ("/proc/sys", "/proc/keys", "/sys", "/dev", "/usr", "/tmp", "/"):
    attempt(f"umount {path}", lambda: call("umount2", text(path), MNT_DETACH))
    attempt(f"remount {path}", lambda: call("mount", 0, text(path), 0, MS_REMOUNT | MS_BIND, 0))
attempt("another proc", lambda: call("mount", text("proc"), text("/tmp"), text("proc"), 0, 0))
attempt("pivot_root", lambda: call("pivot_root", text("/"), text("/tmp")))
opens("/proc/sysrq-trigger", os.O_WRONLY)
opens("/proc/sys/kernel/core_pattern", os.O_WRONLY)
opens("/usr/bin/new", os.O_WRONLY | os.O_CREAT)
"""


@pytest.mark.parametrize("namespaces", AS_ROOT)
def test_the_mounts_over_a_root_cannot_be_removed(profile, tmp_path, namespaces):
    options = python_root(tmp_path / "root")
    control = attack(UNCOVER, profile="namespaces", **options)
    assert {"another proc", "umount /usr"} <= set(control.escaped), str(control)
    chosen = {} if namespaces is None else {"namespaces": namespaces}
    assert_held(UNCOVER, profile=profile, **chosen, **options)


@pytest.mark.parametrize("namespaces", AS_ROOT)
@pytest.mark.parametrize("init", [False, True])
def test_the_old_root_is_out_of_reach(profile, tmp_path, init, namespaces):
    options = python_root(tmp_path / "root")
    canary = tmp_path / "canary"
    canary.touch()
    code = f"""
places = ["", "/..", "/proc/1/root", "/proc/self/root", "/proc/self/cwd"]
places += [f"/proc/self/fd/{{fd}}" for fd in os.listdir("/proc/self/fd")]
places += [f"/proc/1/fd/{{fd}}" for fd in range(20)] + ["../" * 40]
for place in places:
    (escaped if os.path.exists(place + {str(canary)!r}) else held)(place)
for line in open("/proc/self/mountinfo"):
    if {str(tmp_path.parent)!r} in line.split()[4]:
        escaped(line)
"""
    assert attack(code, profile="namespaces").escaped, "the positive control: without a root"
    chosen = {} if namespaces is None else {"namespaces": namespaces}
    assert_held(code, profile=profile, init=init, **chosen, **options)
    with minidocker.Container(profile=profile, **chosen, **options) as box:
        assert_held(code, start=box.run)


def test_an_interpreter_runs_in_the_root_of_these_tests(profile, tmp_path):
    options = apart(profile, tmp_path / "root")
    words = [interpreter(), "-I", "-S", "-c", "print(6 * 7)"]
    done = minidocker.run(words, profile=profile, capture_output=True, check=True, **options)
    assert done.stdout == b"42\n"
