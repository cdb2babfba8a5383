"""The option `overlay` beside mount points: what it keeps of directories, and how many it takes."""

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import minidocker
from minidocker import Container, changes, linux, run
from minidocker._inspect import proc
from minidocker.linux import CloneFlags
from support.child import in_child, unshare_as_root

#: An access control list, acl(5): version 2, and the entries user::rwx, user:0:rwx, group::r-x,
#: mask::rwx, other::r-x, each with a tag, permissions and an id.
NO_ID = 0xFFFFFFFF
ENTRIES = [(1, 7, NO_ID), (2, 7, 0), (4, 5, NO_ID), (0x10, 7, NO_ID), (0x20, 5, NO_ID)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)

READ = """
for path in /tmp/*; do
    stat -c '%n %a %u %g %F %Y' "$path"
done
stat -c '%n %a %Y' /tmp /tmp/between/*
"""


def mounted_tmp(layer=None):
    """Become root of a user namespace with a /tmp in which a mount point has siblings.

    `layer` is a directory that stays visible as /mnt.
    """
    unshare_as_root(CloneFlags.NEWNS)
    os.umask(0)
    if layer is not None:
        linux.mount(layer, "/mnt", None, linux.MountFlags.BIND)
    linux.mount("tmpfs", "/tmp", "tmpfs", data="mode=1777")
    top = Path("/tmp")
    modes = {"set-gid": 0o2775, "sticky": 0o1777, "all": 0o7777, "secret": 0o700}
    for name, mode in modes.items():
        (top / name).mkdir()
        (top / name).chmod(mode)
    (top / "file").write_text("x")
    (top / "program").write_text("x")
    (top / "program").chmod(0o6755)
    (top / "between/mounted").mkdir(parents=True)
    (top / "between/file").write_text("x")
    (top / "between").chmod(0o2750)
    for path in (*top.iterdir(), top / "between/file"):
        os.utime(path, (10**9, 10**9))
    linux.mount("tmpfs", "/tmp/between/mounted", "tmpfs")
    os.utime("/tmp/between", (10**9, 10**9))
    os.utime("/tmp", (10**9, 10**9))


def inside(script, **options):
    done = run(["/bin/sh", "-c", script], capture_output=True, text=True, cwd="/", **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_directories_beside_a_mount_point_keep_their_mode_owner_and_time():
    def check():
        mounted_tmp()
        return inside(READ), inside(READ, overlay=True)

    outside, found = in_child(check)
    assert "/tmp/set-gid 2775" in outside
    assert "/tmp/program 6755" in outside
    assert found == outside


def test_a_kept_layer_lists_no_directory_beside_a_mount_point_as_changed(tmp_path):
    def check():
        mounted_tmp(tmp_path)
        inside("true", overlay="/mnt")
        first = list(changes("/mnt"))
        inside("echo x > /tmp/set-gid/new; chmod 2770 /tmp/sticky", overlay="/mnt")
        return first, list(changes("/mnt"))

    first, second = in_child(check)
    assert first == []
    assert second == [
        ("C", "/tmp"),
        ("C", "/tmp/set-gid"),
        ("A", "/tmp/set-gid/new"),
        ("C", "/tmp/sticky"),
    ]


def test_directories_beside_a_mount_point_keep_access_control_lists_and_attributes():
    def check():
        mounted_tmp()
        os.setxattr("/tmp/secret", "system.posix_acl_access", ACL)
        os.setxattr("/tmp/secret", "system.posix_acl_default", ACL)
        os.setxattr("/tmp/file", "system.posix_acl_access", ACL)

        def attributes(root):
            paths = (f"{root}/tmp/secret", f"{root}/tmp/file")
            return [
                {name: os.getxattr(path, name) for name in os.listxattr(path)} for path in paths
            ]

        with Container(overlay=True) as box:
            return attributes(""), attributes(f"/proc/{box.pid}/root")

    outside, found = in_child(check)
    assert set(outside[0]) >= {"system.posix_acl_access", "system.posix_acl_default"}
    assert set(outside[1]) >= {"system.posix_acl_access"}
    assert found == outside


@pytest.mark.root(reason="one user is enough for a slow test")
def test_a_host_with_thousands_of_mounts_is_covered():
    def check():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount("tmpfs", "/tmp", "tmpfs")
        for number in range(2100):
            path = f"/tmp/m{number}"
            os.mkdir(path)
            linux.mount(path, path, None, linux.MountFlags.BIND)
        inside("echo x > /tmp/m7/new && echo y > /tmp/m2099/new", overlay=True)
        return os.path.exists("/tmp/m7/new")

    assert in_child(check) is False


def test_deeply_nested_directories_are_listed():
    """Their path is longer than the kernel takes, and deeper than Python recurses."""
    depth = 3000
    script = f"""
import os, sys
os.chdir(sys.argv[1])
for _ in range({depth}):
    os.mkdir("d")
    os.chdir("d")
open("file", "w").close()
"""
    # In memory: removing such a tree takes seconds on a disk.
    scratch = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        for name in ("layer/upper/same", "root/same"):
            (scratch / name).mkdir(parents=True)
        for name in ("layer/upper", "layer/upper/same", "root/same"):
            command = [sys.executable, "-I", "-S", "-c", script, scratch / name]
            subprocess.run(command, check=True)
        found = changes(scratch / "layer", rootfs=scratch / "root")
    finally:
        # Deeper than shutil.rmtree recurses.
        subprocess.run(["rm", "-rf", scratch], check=True)
    assert found.added[-1] == "/d" * depth + "/file"
    assert len(found) == len(found.added) == depth + 1


STACKED = """
cd $0
cat visible/file visible/deep/file over/file siblings/7/file
ls hidden
test -e proc/self/status
for path in visible/file visible/deep/file over/new siblings/7/file siblings/new hidden/new new; do
    echo inside > $path || exit 1
done
cat visible/deep/file siblings/7/file
stat -c %a visible/deep
"""


def without_mounts_of_other_programs():
    """Take off all mounts of this mount namespace but those of the kernel's file systems."""
    for entry in reversed(proc.mounts()):
        if Path(entry.target).parts[1:2] not in ((), ("dev",), ("proc",), ("sys",)):
            with contextlib.suppress(OSError):
                linux.umount2(entry.target, linux.UmountFlags.DETACH)


@pytest.mark.root(reason="only a caller that may mount can clone a mount without those below it")
@pytest.mark.parametrize("on_a_file", [False, True], ids=["directories", "a file"])
def test_root_covers_each_mount_by_one_overlay(tmp_path, on_a_file):
    """Also mounts on mounts, hidden ones, and those of the kernel's file systems."""

    def mount(path, kind="tmpfs"):
        path.mkdir(exist_ok=True)
        linux.mount(kind, path, kind)

    def check():
        linux.unshare(CloneFlags.NEWNS)
        linux.mount(None, "/", None, linux.MountFlags.REC | linux.MountFlags.PRIVATE)
        without_mounts_of_other_programs()
        for number in range(60):
            (tmp_path / f"siblings/{number}").mkdir(parents=True)
        (tmp_path / "siblings/7/file").write_text("sibling\n")
        for name in ("visible", "visible/deep", "over", "over", "hidden", "hidden/below"):
            mount(tmp_path / name)
            (tmp_path / name / "file").write_text(f"{name}\n")
        (tmp_path / "visible/deep").chmod(0o2751)
        mount(tmp_path / "hidden")
        mount(tmp_path / "siblings/3")
        mount(tmp_path / "proc", "proc")
        if on_a_file:
            (tmp_path / "a").write_text("a\n")
            (tmp_path / "b").write_text("b\n")
            linux.mount(tmp_path / "a", tmp_path / "b", None, linux.MountFlags.BIND)
        command = ["/bin/sh", "-c", STACKED, tmp_path]
        plan = minidocker.explain(command, overlay=True)
        overlays = sum('mount("overlay"' in line.call for line in plan)
        done = run(command, overlay=True, capture_output=True, text=True, cwd="/")
        linux.umount2(tmp_path / "proc")
        left = {path.name for path in tmp_path.rglob("new")}
        return overlays, done.stdout.split(), done.stderr, left

    overlays, output, error, left = in_child(check)
    expected = "visible visible/deep over sibling inside inside 2751"
    assert (output, error, left) == (expected.split(), "", set())
    assert (overlays < 30) is not on_a_file
