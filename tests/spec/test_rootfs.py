"""The option `rootfs`: pivot_root(2), and a /dev, /proc, /sys and /etc for the container."""

import os
import socket
import stat
import uuid
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, SpecError
from support.launches import Launch, run_by, start_by
from support.rootfs import make_rootfs, snapshot

ALL = NamespaceOptions.all()
ENV = {"PATH": "/bin"}


@pytest.fixture
def rootfs(tmp_path):
    return make_rootfs(tmp_path / "root")


def output(rootfs, script, **options):
    options.setdefault("env", ENV)
    done = minidocker.run(
        ["/bin/sh", "-c", script], rootfs=rootfs, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.smoke
def test_the_directory_is_the_root_and_the_old_one_is_gone(rootfs):
    (rootfs / "mark").write_text("inside\n")
    assert output(rootfs, "cat /mark; ls /") == "inside\nbin\ndev\netc\nmark\nproc\nroot\nsys\ntmp"
    points = output(rootfs, "cat /proc/self/mountinfo").splitlines()
    assert all(Path(line.split()[4]).parts[:2] in {
        ("/",), ("/", "dev"), ("/", "proc"), ("/", "sys"), ("/", "etc")
    } for line in points)  # fmt: skip
    # The usual escape from a chroot ends at the same root.
    assert "mark" in output(rootfs, "cd /; cd ../../../..; ls -a .")


def test_writes_to_the_root_go_to_the_directory(rootfs):
    assert output(rootfs, "echo hello > /new; echo there > /tmp/other") == ""
    assert (rootfs / "new").read_text() == "hello\n"
    assert (rootfs / "tmp/other").read_text() == "there\n"


@pytest.mark.smoke
@pytest.mark.needs("devices")
def test_dev_has_the_devices_that_programs_rely_on_and_no_other(rootfs):
    mark = f"/dev/shm/{uuid.uuid4().hex}"
    names = output(rootfs, "ls /dev").split()
    assert " ".join(names) == (
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    )
    script = (
        f"echo x > /dev/null && dd if=/dev/zero of={mark} bs=16 count=1 2>/dev/null &&"
        f" wc -c < {mark} && wc -c < /dev/null && dd if=/dev/urandom bs=4 count=1 2>/dev/null |"
        " wc -c && (echo y > /dev/full) 2>&1 | grep -c 'No space' && echo via-fd > /dev/stdout"
    )
    assert output(rootfs, script).split() == ["16", "0", "4", "1", "via-fd"]
    assert not os.path.exists(mark)


def test_the_container_has_its_own_pseudo_terminals(rootfs):
    assert output(rootfs, "ls /dev/pts; readlink /dev/ptmx") == "ptmx\npts/ptmx"
    assert "crw-rw-rw-" in output(rootfs, "ls -l /dev/pts/ptmx")


@pytest.mark.smoke
def test_proc_and_sys_are_those_of_the_container(rootfs):
    assert output(rootfs, "echo $$; cat /proc/1/comm; :").split() == ["1", "sh"]
    assert output(rootfs, "ls /sys/class/net") == "lo"


def test_etc_fits_the_container_and_the_files_on_disk_stay_as_they_are(rootfs):
    before = snapshot(rootfs)
    assert output(
        rootfs, "cat /etc/hostname; ping -c 1 -q box | grep -c ' 0%'", hostname="box"
    ) == ("box\n1")
    assert output(rootfs, "ping -c 1 -q localhost | grep -c ' 0%'") == "1"
    assert snapshot(rootfs) == before
    assert (rootfs / "etc/hosts").read_text() == ""


def test_without_a_hostname_etc_has_the_kernels_hostname(rootfs):
    assert output(rootfs, "cat /etc/hostname; hostname").split() == [socket.gethostname()] * 2


def test_the_hosts_resolv_conf_is_visible_only_with_its_network(rootfs):
    resolver = Path("/etc/resolv.conf")
    if not resolver.exists():
        pytest.skip("the host has no /etc/resolv.conf")
    assert output(rootfs, "cat /etc/resolv.conf", network="host") == resolver.read_text().strip()
    assert output(rootfs, "cat /etc/resolv.conf") == ""


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_the_mount_points_that_a_root_lacks_are_made_only_inside(tmp_path):
    rootfs = make_rootfs(tmp_path / "root", mount_points=False)
    before = snapshot(rootfs)
    assert output(rootfs, "ls /", hostname="box").split() == ["bin", "dev", "etc", "proc", "sys"]
    assert "127.0.1.1\tbox" in output(rootfs, "cat /etc/hosts", hostname="box")
    assert (
        output(rootfs, "echo bound > /bin/new; echo own > /top; cat /bin/new /top") == "bound\nown"
    )
    (rootfs / "bin/new").unlink()
    assert set(snapshot(rootfs)) == set(before)


def test_links_in_the_root_do_not_lead_outside(rootfs, tmp_path):
    outside = tmp_path / "outside"
    for name in ("dev", "proc", "etc"):
        (outside / name).mkdir(parents=True)
    (outside / "etc/hosts").write_text("host's own\n")
    for name in ("dev", "proc"):
        (rootfs / name).rmdir()
        (rootfs / name).symlink_to(outside / name)
    (rootfs / "etc/hosts").unlink()
    (rootfs / "etc/hosts").symlink_to(f"../../../../../../../..{outside}/etc/hosts")
    before = snapshot(outside)
    assert output(rootfs, "ls /dev/null; cat /proc/1/comm; cat /etc/hosts", hostname="box").split()[
        :2
    ] == ["/dev/null", "sh"]
    assert snapshot(outside) == before
    assert (outside / "etc/hosts").read_text() == "host's own\n"
    # The launch makes the link's target inside the root, and only in the container's view.
    assert not (rootfs / str(outside)[1:]).exists()


def test_names_of_users_come_from_the_root(rootfs):
    (rootfs / "etc/passwd").write_text("worker:x:0:0::/:/bin/sh\n")
    (rootfs / "etc/group").write_text("staff:x:0:\n")
    assert output(rootfs, "id -un; id -gn", user="worker:staff") == "worker\nstaff"
    with pytest.raises(SpecError, match="no such name in the container's /etc/passwd"):
        output(rootfs, "id", user="nobody-there")


def test_the_working_directory_is_the_callers_or_the_root(rootfs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output(rootfs, "pwd") == "/"
    monkeypatch.chdir("/tmp")
    assert output(rootfs, "pwd") == "/tmp"
    assert output(rootfs, "pwd", cwd="/etc") == "/etc"
    with pytest.raises(FileNotFoundError) as caught:
        output(rootfs, "pwd", cwd=str(tmp_path))
    assert caught.value.filename == str(tmp_path)


def test_shared_namespaces_show_the_hosts_proc_and_shared_memory(rootfs):
    shared = ALL.without_pid().without_ipc().without_net()
    script = "cat /proc/sys/kernel/random/boot_id; ls -d /dev/shm; echo $$"
    boot, shm, pid = output(rootfs, script, namespaces=shared).split()
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert shm == "/dev/shm"
    assert int(pid) > 1
    mark = Path(f"/dev/shm/minidocker-test-{os.getpid()}")
    mark.touch()
    try:
        assert output(rootfs, f"ls {mark}", namespaces=shared) == str(mark)
    finally:
        mark.unlink()


def test_init_and_entering_commands_have_the_same_root(rootfs):
    assert output(rootfs, "cat /proc/1/comm; pwd", init=True).split() == ["minidocker-init", "/"]
    with minidocker.Container(rootfs=rootfs, hostname="box") as box:
        done = box.run(
            ["/bin/sh", "-c", "ls /; cat /etc/hostname"], env=ENV, capture_output=True, text=True
        )
        assert " ".join(done.stdout.split()) == "bin dev etc proc root sys tmp box"


def test_the_terminal_is_the_console(rootfs):
    master, slave = os.openpty()
    try:
        with start_by(
            Launch(terminal=True),
            ["/bin/sh", "-c", "tty && ls -l /dev/console && tty < /dev/console"],
            rootfs=rootfs,
            env=ENV,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        ) as process:
            process.wait(30)
            seen = os.read(master, 4096).decode()
        assert process.returncode == 0, seen
        assert seen.split()[0] == "/dev/console"
    finally:
        os.close(master)
        os.close(slave)


def test_an_impossible_root_is_refused_before_the_launch(rootfs, tmp_path, leaks):
    with pytest.raises(SpecError, match="it is not a directory"):
        output(rootfs / "bin/busybox", "true")
    with pytest.raises(SpecError, match=f'Did you mean "{rootfs}"'):
        output(tmp_path / "rot", "true")
    (rootfs / "proc").rmdir()
    (rootfs / "proc").touch()
    with pytest.raises(SpecError, match="/proc in it is a file"):
        output(rootfs, "true")
    with pytest.raises(SpecError, match="mount namespace"):
        output(rootfs, "true", namespaces=ALL.without_mount())
    with pytest.raises(SpecError, match="give a directory"):
        minidocker.Spec(rootfs=3)


def test_a_command_that_is_missing_in_the_root_is_reported(rootfs):
    with pytest.raises(minidocker.CommandNotFound) as caught:
        minidocker.run(["/bin/bash"], rootfs=rootfs)
    assert caught.value.filename == "/bin/bash"


@pytest.mark.parametrize("mount_points", [True, False])
def test_a_failure_at_any_step_leaves_nothing(tmp_path, leaks, mount_points):
    rootfs = make_rootfs(tmp_path / "root", mount_points=mount_points)
    before = snapshot(tmp_path)
    options = {"rootfs": rootfs, "hostname": "box", "env": ENV}
    plan = minidocker.explain(["/bin/true"], **options)
    calls = [call for call in plan if call.actor != "caller"]
    first = next(index for index, call in enumerate(calls) if call.step == "private-mounts")
    for index, call in enumerate(calls[first:], first):
        if call.call.startswith("chdir"):
            continue
        if call.step == "ping":
            # A failure of this optional step does not fail the launch.
            run_by(Launch(inject=(index, 5)), ["/bin/true"], **options, check=True)
            continue
        with pytest.raises(minidocker.SpawnError) as caught:
            run_by(Launch(inject=(index, 5)), ["/bin/true"], **options)
        assert caught.value.step == call.step
    assert snapshot(tmp_path) == before


def test_setting_up_a_root_leaks_nothing(rootfs, leaks):
    for _ in range(20):
        output(rootfs, "true")


def test_explain_shows_the_calls_with_their_arguments(rootfs):
    text = str(minidocker.explain(["/bin/sh"], rootfs=rootfs))
    assert f'open_tree(AT_FDCWD, "{rootfs}"' in text
    assert 'openat2(<fd>, "proc", {O_PATH|O_CLOEXEC|O_DIRECTORY, 0, RESOLVE_IN_ROOT' in text
    assert 'pivot_root(".", ".")' in text
    assert stat.S_ISDIR((rootfs / "proc").stat().st_mode)


def test_a_container_inside_can_have_a_hosts_file_of_its_own(rootfs):
    # The kernel refuses a mount on an unlinked file, so /etc/hosts must not be one.
    script = "echo nested > /tmp/hosts && mount -o bind /tmp/hosts /etc/hosts && cat /etc/hosts"
    assert output(rootfs, script, hostname="box") == "nested"
    assert output(rootfs, "ls -A /dev/pts", hostname="box") == "ptmx"
