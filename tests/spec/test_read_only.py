"""The option `read_only`: the root is read-only, the user's own mounts are not."""

import os

import pytest

import minidocker
from minidocker import Mount, NamespaceOptions
from support.launches import Launch, run_by
from support.rootfs import make_rootfs, snapshot


def sh(script, **options):
    return minidocker.run(["/bin/sh", "-c", script], capture_output=True, text=True, **options)


def refused(paths, **options):
    """Return the number of paths that cannot be written on a read-only file system."""
    script = "; ".join(f"echo x > {path}" for path in paths)
    return sh(script, **options).stderr.count("Read-only file system")


@pytest.mark.smoke
def test_the_hosts_root_and_every_mount_below_it_are_read_only(tmp_path):
    paths = [tmp_path / "file", "/tmp/minidocker-ro", "/dev/minidocker-ro", "/run/minidocker-ro"]
    assert refused(paths[:1]) == 0
    (tmp_path / "file").unlink()
    assert refused(paths, read_only=True) == len(paths)
    assert not (tmp_path / "file").exists()
    script = "grep -v ' /proc\\| /sys\\| /dev/shm\\| /dev/mqueue' /proc/self/mountinfo"
    flags = [line.split()[5] for line in sh(script, read_only=True).stdout.splitlines()]
    assert flags
    assert all("ro" in flag.split(",") for flag in flags)


def test_devices_shared_memory_and_proc_stay_writable():
    script = (
        "echo x > /dev/null && echo y > /dev/shm/y && cat /dev/shm/y &&"
        " echo 500 > /proc/self/oom_score_adj && cat /proc/self/oom_score_adj"
    )
    done = sh(script, read_only=True)
    assert done.stdout.split() == ["y", "500"], done.stderr
    done = sh(script, read_only=True, namespaces=NamespaceOptions.all().without_pid())
    assert done.stdout.split() == ["y", "500"], done.stderr


@pytest.mark.smoke
def test_the_users_mounts_stay_writable(tmp_path):
    options = {
        "read_only": True,
        "tmpfs": ["/tmp"],
        "mounts": [Mount("/no-such/place", tmp_path), Mount("/opt", tmp_path, read_only=True)],
    }
    done = sh("echo x > /tmp/x && echo y > /no-such/place/y && cat /tmp/x /opt/y", **options)
    assert done.stdout.split() == ["x", "y"], done.stderr
    assert (tmp_path / "y").read_text() == "y\n"
    assert refused(["/opt/z", "/no-such/z", "/z"], **options) == 3
    assert os.listdir(tmp_path) == ["y"]


@pytest.mark.parametrize("mount_points", [True, False])
def test_a_rootfs_is_read_only(tmp_path, mount_points):
    rootfs = make_rootfs(tmp_path / "root", mount_points=mount_points)
    before = snapshot(rootfs)
    options = {"rootfs": rootfs, "env": {"PATH": "/bin"}, "hostname": "box"}
    paths = ["/x", "/bin/x", "/etc/x"]
    assert refused(paths, read_only=True, **options) == 3
    script = "grep -c box /etc/hosts && echo x > /dev/shm/x && echo y > /dev/null && cat /dev/shm/x"
    assert sh(script, read_only=True, **options).stdout.split() == ["1", "x"]
    assert snapshot(rootfs) == before
    # The positive control.
    assert refused(paths, **options) == 0


def test_a_failure_at_any_step_leaves_nothing(tmp_path, leaks):
    options = {"read_only": True, "mounts": [Mount("/no-such", tmp_path)]}
    calls = [
        call for call in minidocker.explain(["/bin/true"], **options) if call.actor != "caller"
    ]
    index = next(index for index, call in enumerate(calls) if call.step == "read-only")
    with pytest.raises(minidocker.PermissionDenied) as caught:
        run_by(Launch(inject=(index, 1)), ["/bin/true"], **options)
    assert caught.value.step == "read-only"
