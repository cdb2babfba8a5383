"""Untrusted code of a root caller has ids of its own outside, and none of them is root's."""

import ctypes
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.rootfs import make_rootfs

pytestmark = pytest.mark.root(reason="a plain caller's root inside is the caller outside")

EVERY_ID = {"uid_map": [(0, 0, 4294967295)], "gid_map": [(0, 0, 4294967295)]}
"""As without ids of its own: the positive control of each attempt."""

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE = 1, 2, 3

LOCKS = "/run/minidocker.ids"
RANGE = 65536


def untrusted(*args, **options):
    return minidocker.run(
        args, profile="untrusted", capture_output=True, text=True, timeout=60, **options
    )


def output(*args, **options):
    done = untrusted(*args, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def closed(tmp_path):
    """Return a directory that only root may enter, with a file that only root may read."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    file = directory / "file"
    file.write_text("of root\n")
    file.chmod(0o600)
    return directory


def test_a_file_of_root_in_a_directory_that_the_profile_shows_stays_closed():
    file = Path(f"/usr/share/minidocker-test-{uuid.uuid4().hex}")
    file.write_text("of root\n")
    try:
        file.chmod(0o600)
        assert output("cat", str(file), **EVERY_ID) == "of root\n"
        refused = untrusted("cat", str(file))
        assert refused.returncode == 1
        assert "Permission denied" in refused.stderr
        file.chmod(0o640)
        assert "Permission denied" in untrusted("cat", str(file)).stderr, "through a group"
        file.chmod(0o644)
        assert output("cat", str(file)) == "of root\n"
    finally:
        file.unlink()


def test_root_inside_is_another_user_outside_for_each_living_container():
    with (
        minidocker.Container(profile="untrusted") as one,
        minidocker.Container(profile="untrusted") as other,
    ):
        first = []
        for container in (one, other):
            for file in ("uid_map", "gid_map"):
                rows = Path(f"/proc/{container.pid}/{file}").read_text().split()
                assert (rows[0], rows[2]) == ("0", str(RANGE))
            status = Path(f"/proc/{container.pid}/status").read_text()
            uids = next(line for line in status.splitlines() if line.startswith("Uid:"))
            rows = Path(f"/proc/{container.pid}/uid_map").read_text().split()
            assert uids.split()[1:] == [rows[1]] * 4
            assert "\nGroups:\t \n" in status or "\nGroups:\t\n" in status
            first.append(int(rows[1]))
        assert min(first) > 0
        assert abs(first[0] - first[1]) >= RANGE
        assert [is_taken(uid) for uid in first] == [True, True]
    assert [is_taken(uid) for uid in first] == [False, False]


def is_taken(first):
    with open(f"{LOCKS}/{first}") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_launch_that_fails_leaves_its_ids_free(tmp_path):
    with pytest.raises(FileNotFoundError):
        untrusted("/usr/bin/there-is-no-such-program")
    links = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
    assert [link for link in links if LOCKS in os.path.realpath(link)] == []


def test_a_limit_on_processes_binds_a_root_caller():
    script = "sleep 60 & sleep 60 & sleep 60 & echo made"
    options = {"ulimits": {"nproc": 2}, "capture_output": True}
    free = minidocker.run(["sh", "-c", script], profile="untrusted", **options, **EVERY_ID)
    assert free.stdout == b"made\n"
    bound = minidocker.run(["sh", "-c", script], profile="untrusted", **options)
    assert bound.stdout == b""
    assert b"Cannot fork" in bound.stderr


EXHAUST = """
import ctypes, sys
made = 0
while ctypes.CDLL(None).inotify_init1(0) >= 0:
    made += 1
print(made, flush=True)
sys.stdin.read()
"""


def test_a_container_that_uses_up_its_inotify_instances_leaves_root_and_others_theirs():
    """The kernel counts them for the creator of the user namespace, too."""
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    code = ["/usr/bin/python3", "-c", EXHAUST]
    with (
        minidocker.Popen(code, profile="untrusted", **streams) as one,
        minidocker.Popen(code, profile="untrusted", **streams) as other,
    ):
        made = [int(container.stdout.readline()) for container in (one, other)]
        assert made[0] == made[1] > 0
        instance = ctypes.CDLL(None, use_errno=True).inotify_init1(os.O_CLOEXEC)
        assert instance >= 0, os.strerror(ctypes.get_errno())
        os.close(instance)
        for container in (one, other):
            container.stdin.close()


def of_this_thread():
    """Return the ids, the capabilities and the death signal of this thread."""
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number))
    wanted = ("Uid:", "Gid:", "Groups:", "Cap", "SigBlk:")
    return [line for line in status.splitlines() if line.startswith(wanted)], number.value


def test_launches_leave_each_thread_and_the_process_as_they_were():
    def launch(_):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGURG)
        before = of_this_thread()
        for _ in range(5):
            output("true")
        return before == of_this_thread() and before[1] == signal.SIGURG

    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE) == 1
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(launch, range(4)))
    assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE) == 1


def test_a_mount_shows_its_files_as_those_of_the_same_ids(closed):
    other = closed / "other"
    other.touch()
    os.chown(other, 1000, 1001)
    view = {"mounts": [Mount("/mnt", str(closed))]}
    assert output("cat", "/mnt/file", **view) == "of root\n"
    assert output("stat", "-c", "%u:%g", "/mnt/file", "/mnt/other", **view) == "0:0\n1000:1001\n"
    script = "echo new > /mnt/new && echo more >> /mnt/file && mkdir /mnt/directory"
    output("sh", "-c", script, **view)
    assert [(closed / name).stat().st_uid for name in ("new", "directory", "file")] == [0, 0, 0]
    assert (closed / "file").read_text() == "of root\nmore\n"
    assert untrusted("cat", "/mnt/file", user=1000, **view).returncode == 1


def test_a_mount_is_read_only_and_ends_with_its_container(closed):
    file = Mount("/opt/file", str(closed / "file"), read_only=True)
    refused = untrusted("sh", "-c", "cat /opt/file; echo x > /opt/file", mounts=[file])
    assert refused.stdout == "of root\n"
    assert "Read-only file system" in refused.stderr
    assert str(closed) not in Path("/proc/self/mountinfo").read_text()


def test_a_mount_in_a_mount_stays_inside(closed, tmp_path):
    (closed / "inner").mkdir()
    inner = tmp_path / "inner"
    inner.mkdir()
    mounts = [Mount("/mnt", str(closed)), Mount("/mnt/inner", str(inner))]
    output("sh", "-c", "echo x > /mnt/inner/file", mounts=mounts)
    assert (inner / "file").read_text() == "x\n"
    assert list((closed / "inner").iterdir()) == []


REMEDY = r"pass uid_map=\[\(0, 0, 4294967295\)\] and gid_map=\[\(0, 0, 4294967295\)\]"


def test_a_mount_that_cannot_map_ids_is_refused_with_a_remedy():
    view = {"mounts": [Mount("/mnt", "/sys/kernel/mm", read_only=True)]}
    assert "hugepages" in output("ls", "/mnt", **EVERY_ID, **view)
    reason = rf'^mounts="/sys/kernel/mm": its file system cannot map ids to those.*{REMEDY}$'
    with pytest.raises(minidocker.SpecError, match=reason):
        untrusted("true", **view)


@pytest.fixture
def mixed(tmp_path):
    """Return a directory with a mount of a file system that cannot map ids, and the mount."""
    inner = tmp_path / "mixed" / "overlay"
    inner.mkdir(parents=True)
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "script").write_text("#!/bin/sh\necho ran\n")
    (lower / "script").chmod(0o755)
    options = f"lowerdir={lower}:{tmp_path / 'mixed'}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, inner], check=True)
    yield inner.parent, inner
    subprocess.run(["umount", inner], check=True)


def test_the_mount_below_a_source_that_cannot_map_ids_is_named(mixed):
    directory, overlay = mixed
    reason = rf'^mounts=".*/mixed": the file system .* below it, on {overlay}, .*{REMEDY}$'
    with pytest.raises(minidocker.SpecError, match=reason):
        untrusted("true", mounts=[Mount("/mnt", str(directory))])
    with pytest.raises(minidocker.SpecError, match=rf'^rootfs=".*": its.*{REMEDY}$'):
        untrusted("true", rootfs=overlay)
    kept = output("/mnt/overlay/script", mounts=[Mount("/mnt", str(directory))], **EVERY_ID)
    assert kept == "ran\n"


def test_a_program_on_a_file_system_that_cannot_map_ids_runs(mixed):
    assert output(str(mixed[1] / "script")) == "ran\n"


def test_a_limit_on_processes_ends_a_fork_bomb_of_a_root_caller():
    """The script makes processes until one is refused, and no more than a hundred."""
    script = "n=0; while [ $n -lt 100 ]; do sleep 60 & n=$((n+1)); echo $n; done"
    for others in range(2):
        with minidocker.Container(profile="untrusted"):
            made = untrusted("sh", "-c", script, ulimits={"nproc": 20}).stdout.split()
            assert 10 < len(made) < 20, f"beside {others} other containers"


@pytest.mark.parametrize("user", [None, 1000])
def test_a_command_in_a_container_opens_its_pipes_by_name(user):
    script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin"
    options = {"input": "in\n", "capture_output": True, "text": True, "user": user}
    with minidocker.Container(profile="untrusted") as container:
        for _ in range(2):
            done = container.run(["sh", "-c", script], **options)
            assert (done.stdout, done.stderr) == ("out\nin\n", "err\n")


def test_one_pipe_opens_by_name_in_one_container_after_another():
    reading, writing = os.pipe()
    for word in ("one", "other"):
        script = f"echo {word} > /proc/self/fd/{writing}"
        assert output("sh", "-c", script, pass_fds=[writing]) == ""
    assert os.read(reading, 100) == b"one\nother\n"
    os.close(reading)
    os.close(writing)


def test_a_container_that_shares_a_network_shares_the_ids_that_own_it(closed):
    view = {"mounts": [Mount("/mnt", str(closed))]}
    program = closed / "program"
    program.write_text("#!/bin/sh\ncat /mnt/file; head -n1 /proc/self/uid_map; echo > /mnt/new\n")
    program.chmod(0o700)
    with minidocker.Container(profile="untrusted") as other:
        rows = Path(f"/proc/{other.pid}/uid_map").read_text()
        assert output(str(program), network=other, **view) == "of root\n" + rows
    assert (closed / "new").stat().st_uid == 0


def test_commands_and_functions_join_a_container_as_its_root():
    with minidocker.Container(profile="untrusted") as container:
        assert container.run(["id", "-u"], capture_output=True, text=True).stdout == "0\n"
        done = container.run(["cat", "/proc/self/status"], capture_output=True, text=True)
        assert "\nCapEff:\t0000000000000000\n" in done.stdout


def test_a_function_has_the_ids_of_its_container():
    for method in ("fork", "spawn"):
        assert minidocker.isolated(method=method, profile="untrusted")(os.getuid)() == 0


@pytest.mark.parametrize("user", [None, 1000])
def test_the_standard_streams_open_by_name(user):
    script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin"
    done = untrusted("sh", "-c", script, input="in\n", user=user)
    assert (done.stdout, done.stderr) == ("out\nin\n", "err\n")


def test_a_user_outside_of_the_range_is_refused():
    with pytest.raises(minidocker.SpecError, match=r"^user=65536: uid_map does not map that id"):
        untrusted("true", user=65536)
    assert output("id", "-u", user=65535) == "65535\n"


@pytest.mark.parametrize("mount_points", [True, False])
def test_a_root_of_the_users_shows_its_files_as_those_of_the_same_ids(closed, mount_points):
    root = make_rootfs(closed / "root", mount_points=mount_points)
    (root / "tmp").mkdir(exist_ok=True)
    secret = root / "bin/secret"
    secret.write_text("of root\n")
    secret.chmod(0o600)
    other = root / "bin/other"
    other.touch()
    os.chown(other, 1000, 70000)
    options = {"rootfs": root, "env": {"PATH": "/bin"}}
    shown = output("stat", "-c", "%u:%g", "/bin", "/bin/secret", "/bin/other", **options)
    assert shown == "0:0\n0:0\n1000:65534\n"
    script = "cat /bin/secret && id -u && echo x > /tmp/x && stat -c %u /tmp /tmp/x"
    assert output("sh", "-c", script, **options) == "of root\n0\n0\n0\n"
    assert "Permission denied" in untrusted("cat", "/bin/secret", user=1000, **options).stderr
    mounts = [Mount("/bin/inner/mount", str(closed))]
    assert output("cat", "/bin/inner/mount/file", mounts=mounts, **options) == "of root\n"
    with minidocker.Container(profile="untrusted", rootfs=root) as container:
        assert Path(f"/proc/{container.pid}/uid_map").read_text().split()[1] != "0"
        done = container.run(["cat", "/bin/secret"], capture_output=True, env={"PATH": "/bin"})
        assert done.stdout == b"of root\n"


def test_an_overlay_that_is_thrown_away_shows_its_files_as_those_of_the_same_ids(closed, tmp_path):
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "other").touch()
    os.chown(lower / "other", 1000, 1001)
    both = Mount("/mnt", [str(closed), str(lower)], type="overlay")
    script = "cat /mnt/file && echo x >> /mnt/file && rm /mnt/other && cat /mnt/file && id -u"
    shown = output("stat", "-c", "%u:%g", "/mnt", "/mnt/file", "/mnt/other", mounts=[both])
    assert shown == "0:0\n0:0\n1000:1001\n"
    assert output("sh", "-c", script, mounts=[both]) == "of root\nof root\nx\n0\n"
    assert (closed / "file").read_text() == "of root\n"
    assert int(output("cat", "/proc/self/uid_map", mounts=[both]).split()[1]) > 0
    assert untrusted("cat", "/mnt/file", mounts=[both], user=1000).returncode == 1


def test_an_overlay_on_the_root_makes_its_files_writable_with_ids_of_its_own():
    script = "echo new > /usr/bin/false && cat /usr/bin/false && rm /usr/bin/env && echo gone"
    assert output("sh", "-c", script, overlay=True) == "new\ngone\n"
    assert int(output("cat", "/proc/self/uid_map", overlay=True).split()[1]) > 0
    assert Path("/usr/bin/false").read_bytes() != b"new\n"


def test_an_overlay_on_a_file_system_that_cannot_map_ids_is_refused(mixed):
    mounts = [Mount("/mnt", str(mixed[1]), type="overlay")]
    with pytest.raises(minidocker.SpecError, match=rf'^mounts=".*/overlay": its.*{REMEDY}$'):
        untrusted("true", mounts=mounts)
    assert output("/mnt/script", mounts=mounts, **EVERY_ID) == "ran\n"


def test_a_layer_that_is_kept_keeps_the_callers_ids(closed, tmp_path):
    """It outlives the container, and belongs to the caller."""
    layer = tmp_path / "layer"
    layer.mkdir()
    overlay = Mount("/mnt", str(closed), type="overlay", upper=str(layer))
    script = "cat /proc/self/uid_map /mnt/file; echo > /mnt/new"
    rows = output("sh", "-c", script, mounts=[overlay]).split()
    assert rows == ["0", "0", "4294967295", "of", "root"]
    assert (layer / "upper" / "new").stat().st_uid == 0


NESTED = """
import sys, minidocker
from minidocker import Mount
show = ["cat", "/proc/self/uid_map", "/mnt/file"]
minidocker.run(show, profile="untrusted", mounts=[Mount("/mnt", sys.argv[1])], check=True)
"""


IN_ANOTHER_USER_NAMESPACE = {"namespaces": minidocker.NamespaceOptions.all()}
WITHOUT_CAP_SYS_ADMIN = {
    "namespaces": minidocker.NamespaceOptions.none(),
    "cap_drop": ["SYS_ADMIN"],
}


@pytest.mark.parametrize("options", [IN_ANOTHER_USER_NAMESPACE, WITHOUT_CAP_SYS_ADMIN])
def test_a_caller_that_cannot_map_the_ids_of_mounts_keeps_its_own(closed, options):
    code = [sys.executable, "-c", NESTED, closed]
    done = minidocker.run(code, capture_output=True, text=True, **options)
    assert done.stderr == ""
    assert done.stdout.split() == ["0", "0", "4294967295", "of", "root"]


@pytest.mark.parametrize("mode", [0o666, 0o600])
def test_a_device_is_open_to_its_owner(closed, mode):
    device = closed / "device"
    os.mknod(device, mode | stat.S_IFCHR, os.makedev(1, 5))
    device.chmod(mode)
    for path in (device, "/dev/zero"):
        assert output("head", "-c1", "/dev/inside", devices=[f"{path}:/dev/inside"]) == "\0"
    os.chown(device, 1000, 1000)
    refused = untrusted("head", "-c1", "/dev/inside", devices=[f"{device}:/dev/inside"])
    assert refused.returncode == (0 if mode == 0o666 else 1)


INNER = "minidocker.run(['cat', '/proc/self/uid_map'], profile='untrusted', check=True)"


def in_a_machine(code, *mounts, **options):
    """Run Python code as a root caller whose machine has these mounts. Return its output."""
    done = minidocker.run(
        [sys.executable, "-c", f"import minidocker\n{code}"],
        namespaces=minidocker.NamespaceOptions.none().with_mount(),
        mounts=mounts,
        **options,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("ids", "dropped"), [((1000, 0, 0), []), ((1000, 0, 1000), []), ((0, 0, 0), ["SYS_PTRACE"])]
)
def test_a_caller_with_other_real_ids_or_fewer_capabilities_gives_ids_as_well(closed, ids, dropped):
    code = f"import os\nos.setresuid{ids}\nview = [minidocker.Mount('/mnt', {str(closed)!r})]\n"
    code += "show = ['cat', '/proc/self/uid_map', '/mnt/file']\n"
    code += "minidocker.run(show, profile='untrusted', mounts=view, check=True)\n"
    code += "print(os.getresuid())"
    rows, content, after = in_a_machine(code, cap_drop=dropped).splitlines()
    assert int(rows.split()[1]) > 0
    assert (content, after) == ("of root", str(ids))


def test_an_overlay_on_another_one_keeps_the_callers_ids():
    code = "minidocker.run(['cat', '/proc/self/uid_map'], profile='untrusted', overlay=True)"
    own, kept = in_a_machine(f"{INNER}\n{code}", overlay=True).splitlines()
    assert own.split()[1] != "0"
    assert kept.split() == ["0", "0", "4294967295"]


def test_a_caller_without_a_writable_run_gives_ids_as_well(tmp_path):
    rows = in_a_machine(INNER, Mount("/run", str(tmp_path), read_only=True)).split()
    assert (rows[0], rows[2]) == ("0", str(RANGE))
    assert int(rows[1]) > 0


def test_the_ids_are_roots_subordinate_ones_first(tmp_path):
    (tmp_path / "subuid").write_text("root:3000000000:65536\n")
    (tmp_path / "subgid").write_text("root:3100000000:70000\n")
    mounts = [Mount(f"/etc/{name}", str(tmp_path / name)) for name in ("subuid", "subgid")]
    code = f"{INNER}\nwith minidocker.Container(profile='untrusted'):\n {INNER}"
    first, second = in_a_machine(code, *mounts).splitlines()[:2]
    assert first.split() == ["0", "3000000000", str(RANGE)]
    assert int(second.split()[1]) in range(1_879_048_192, 2_147_352_576)


def test_a_path_that_is_shown_by_itself_is_open_to_root_inside(closed):
    link = closed / "link"
    link.symlink_to("file")
    spec = minidocker.Spec(profile="untrusted").showing([str(closed / "link"), str(closed / "no")])
    done = minidocker.run(["cat", str(link)], spec=spec, capture_output=True)
    assert (done.stdout, done.stderr) == (b"of root\n", b"")
    assert untrusted("cat", str(link)).returncode == 1


def test_a_path_that_is_shown_by_itself_may_be_on_a_file_system_without_mapped_ids():
    spec = minidocker.Spec(profile="untrusted").showing(["/sys/kernel/mm"])
    done = minidocker.run(["ls", "/sys/kernel/mm"], spec=spec, capture_output=True)
    assert b"transparent_hugepage" in done.stdout
