"""The confinement of a function, which both start methods apply before any of its code runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, NamespaceOptions, Seccomp, Spec, SpecError, isolated
from support.places import TESTS
from support.rootfs import make_rootfs

METHODS = pytest.mark.parametrize("method", ["fork", "spawn"])
SOURCE = TESTS / "support" / "atfork.c"
# A clean interpreter imports this file, which may be in a directory that "untrusted" hides.
SOURCES = [Mount(TESTS, TESTS, read_only=True)]
DOCKER = 0xA80425FB
EVERY = (1 << int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1) - 1


def status():
    """Return the process's capability sets, no_new_privs and filter mode, as in proc(5)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines)
    sets = [int(fields[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    return sets, int(fields["NoNewPrivs"]), int(fields["Seccomp"])


def links():
    """Return the path and the entries of each directory that is open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        if os.path.isdir(path) and os.path.realpath(path) != f"/proc/{os.getpid()}/fd":
            found.append((os.readlink(path), sorted(os.listdir(path))))
    return found


def limits():
    return subprocess.check_output(["sh", "-c", "ulimit -Sn; ulimit -c"], text=True).split()


def write_home():
    Path("~/minidocker-test").expanduser().touch()


@METHODS
@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize(
    ("profile", "sets", "no_new_privileges", "filters"),
    [("namespaces", EVERY, 1, 0), ("docker", DOCKER, 0, 2), ("untrusted", 0, 1, 2)],
)
def test_a_profile_confines_a_function(method, init, profile, sets, no_new_privileges, filters):
    confined = isolated(method=method, spec=Spec(profile=profile, init=init, mounts=SOURCES))(
        status
    )
    assert confined() == ([0, sets, sets, sets, 0], no_new_privileges, filters)
    assert status()[2] == 0, "the caller's own"


@METHODS
def test_a_command_of_a_confined_function_is_confined_too(method):
    spec = Spec(profile="untrusted", ulimits={"nofile": 77}, mounts=SOURCES)
    assert isolated(method=method, spec=spec)(limits)() == ["77", "0"]


@pytest.mark.smoke
@pytest.mark.needs("devices")
@METHODS
def test_a_confined_function_writes_nothing_at_home(method):
    isolated(method=method, spec=Spec(profile="untrusted", mounts=SOURCES))(write_home)()
    assert not Path("~/minidocker-test").expanduser().exists()


@pytest.mark.parametrize("profile", ["namespaces", "docker", "untrusted"])
def test_no_directory_of_the_host_is_open_in_a_copy(profile, tmp_path):
    root = make_rootfs(tmp_path / "root")
    before = links()
    mounts = [Mount("/mnt", str(tmp_path), read_only=True), Mount("/etc/motd", content=b"hello")]
    for spec in (
        Spec(profile=profile, rootfs=root, tmpfs=["/tmp/x"], mounts=mounts),
        Spec(profile=profile, overlay=True, mounts=mounts),
        Spec(profile=profile, hostname="lab"),
    ):
        assert isolated(spec=spec)(links)() == before


def test_a_thread_that_would_stay_unconfined_in_a_copy_is_refused(tmp_path):
    library = tmp_path / "libatfork.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-lpthread"], check=True
    )
    script = """
import ctypes, sys, minidocker
ctypes.CDLL(sys.argv[1]).install(1, 0)
print(minidocker.call(int, "7"))
try:
    minidocker.call(int, "7", spec=minidocker.Spec(profile="untrusted"))
except minidocker.SpawnError as error:
    print(error.step, error.hint)
"""
    done = minidocker.run(
        [sys.executable, "-c", script, str(library)],
        namespaces=NamespaceOptions.none(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    seven, refused = done.stdout.splitlines()
    assert seven == "7"
    assert refused.startswith("confine ")
    assert 'method="spawn"' in refused


@pytest.mark.parametrize("name", ["write", "read", "close"])
def test_a_filter_that_a_copy_could_not_begin_with_is_refused(name, leaks):
    with pytest.raises(SpecError, match=f"Allow {name}"):
        minidocker.call(int, "7", spec=Spec(seccomp=Seccomp(deny=[name])))


def look():
    """Return a freshly imported module's file, whether the library is writable, and the home."""
    import wsgiref.handlers  # noqa: PLC0415 - the test is that it can be imported now

    library = os.path.dirname(os.__file__)
    home = os.path.expanduser("~")
    there = os.listdir(home) if os.path.exists(home) else []
    return wsgiref.handlers.__file__, os.access(library, os.W_OK), there


@pytest.mark.smoke
@pytest.mark.needs("devices")
@METHODS
def test_untrusted_code_has_its_interpreter_and_nothing_else_of_a_home(method):
    """An interpreter is often in a home or in /tmp, whose other entries the profile hides."""
    file, writable, at_home = isolated(method=method, profile="untrusted", mounts=SOURCES)(look)()
    assert file.startswith(os.path.dirname(os.__file__))
    assert not writable
    home = Path.home()
    needed = {Path(part) for part in (sys.prefix, sys.base_prefix, TESTS)}
    allowed = {part.relative_to(home).parts[0] for part in needed if part.is_relative_to(home)}
    assert set(at_home) == allowed


def reach_for_pid_1():
    """Return the files in /proc/1 of the unconfined init that this process can open."""
    got = []
    for name in ("mem", "exe", "root", "cwd", "environ", "maps"):
        path = f"/proc/1/{name}"
        try:
            if name in ("exe", "root", "cwd"):
                os.readlink(path)
            else:
                os.close(os.open(path, os.O_RDWR if name == "mem" else os.O_RDONLY))
                if name != "mem" and not Path(path).read_bytes():
                    continue
        except OSError:
            continue
        got.append(name)
    return got


@METHODS
@pytest.mark.parametrize("profile", ["docker", "untrusted"])
def test_init_is_out_of_reach_of_a_confined_function(method, profile):
    assert isolated(method=method, profile=profile, mounts=SOURCES)(reach_for_pid_1)() == []


def test_the_positive_control_a_child_of_the_function_is_in_reach():
    def of_a_child():
        with subprocess.Popen(["sleep", "100"]) as child:
            os.readlink(f"/proc/{child.pid}/exe")
            os.close(os.open(f"/proc/{child.pid}/mem", os.O_RDWR))
            child.kill()
        return True

    assert isolated(profile="docker")(of_a_child)()
