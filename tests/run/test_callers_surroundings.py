"""Callers in a chroot, without the dumpable attribute, or in a user namespace with few ids."""

import os
import sys

import pytest

import minidocker
from minidocker import NamespaceOptions, linux
from support.child import in_child
from support.rootfs import make_rootfs

#: A user namespace that maps only the caller.
ONE_ID = {"uid_map": [(0, os.geteuid(), 1)], "gid_map": [(0, os.getegid(), 1)]}


@pytest.mark.root(reason="only root may change its root directory, or make a mount namespace there")
def test_a_root_directory_that_is_no_mount_point_is_named(tmp_path):
    rootfs = make_rootfs(tmp_path / "root")

    def check(bound):
        assert callable(minidocker.run)
        if bound:
            linux.unshare(linux.CloneFlags.NEWNS)
            linux.mount(rootfs, rootfs, None, linux.MountFlags.BIND | linux.MountFlags.REC)
        linux.mount("proc", rootfs / "proc", "proc")
        os.chroot(rootfs)
        os.chdir("/")
        try:
            shared = NamespaceOptions.all().without_user()
            command = ["/bin/true"]
            # The watchdog needs /dev/null.
            return minidocker.run(command, namespaces=shared, die_with_parent=False).returncode
        except minidocker.SpawnError as error:
            return error.step, error.hint
        finally:
            linux.umount2("/proc")

    step, hint = in_child(check, False)
    assert step == "private-mounts"
    assert "mount --bind DIR DIR" in hint
    assert in_child(check, True) == 0


HIDDEN = """
import os, sys
import minidocker
from minidocker import linux
assert callable(minidocker.run)
linux.mount("proc", "/proc", "proc", data=sys.argv[1])
os.setresuid(65534, 65534, 65534)
for options in {}, {"init": True}:
    try:
        minidocker.run(["/bin/true"], **options)
    except minidocker.SpawnError as error:
        print(error.step, error.hint)
"""


@pytest.mark.root(reason="only root can become another user")
@pytest.mark.parametrize("hide", ["hidepid=0", "hidepid=2"])
def test_a_caller_that_is_not_dumpable_is_named_whatever_proc_shows(hide):
    done = minidocker.run(
        [sys.executable, "-c", HIDDEN, hide], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        assert line.startswith("id-maps The caller is not dumpable")
        assert "PR_SET_DUMPABLE" in line
    assert len(done.stdout.splitlines()) == 2


NESTED = """
import sys
import minidocker
from minidocker import Container, NamespaceOptions
rootfs, shared = sys.argv[1], NamespaceOptions.all().without_user()
show = ["/bin/sh", "-c", "stat -c %g /dev/pts/ptmx; ls /dev/pts"]
for options in {"namespaces": shared}, {"namespaces": shared, "profile": "docker"}, {}:
    done = minidocker.run(show, rootfs=rootfs, env={}, capture_output=True, text=True, **options)
    print(done.stdout.split(), done.stderr)
minidocker.run(["/bin/true"], namespaces=shared, profile="docker", check=True)
"""


def test_terminals_have_no_group_where_that_has_no_id(tmp_path):
    """A devpts with gid=5 is EINVAL in a user namespace that does not map 5."""
    rootfs = make_rootfs(tmp_path / "root")
    done = minidocker.run(
        [sys.executable, "-c", NESTED, rootfs], capture_output=True, text=True, **ONE_ID
    )
    assert done.stdout.splitlines() == ["['0', 'ptmx'] "] * 3, done.stderr


def test_terminals_have_no_group_where_the_joined_namespace_has_no_id_for_it(tmp_path):
    rootfs = make_rootfs(tmp_path / "root")
    with minidocker.Container(**ONE_ID) as box:
        done = minidocker.run(["/bin/ls", "/dev/pts"], rootfs=rootfs, env={}, network=box)
    assert done.returncode == 0
