"""The option `overlay`: writes to the root go to a layer, which is discarded or kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, SpecError, changes
from support.launches import IGNORED, failures
from support.rootfs import make_rootfs, snapshot

ENV = {"PATH": "/bin"}


def sh(script, **options):
    return minidocker.run(["/bin/sh", "-c", script], capture_output=True, text=True, **options)


def output(script, **options):
    done = sh(script, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def data(tmp_path):
    """A directory of the caller with a file, and two subdirectories with a file each."""
    for name in ("kept", "gone"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "file").write_text(f"{name}\n")
    (tmp_path / "data/file").write_text("outside\n")
    return tmp_path / "data"


@pytest.fixture
def layer(tmp_path):
    directory = tmp_path / "layer"
    directory.mkdir()
    return directory


CHANGE = "echo inside > {0}/file && rm -r {0}/gone && mkdir {0}/new && echo x > {0}/new/file"


# --- the host's root ---------------------------------------------------------------------------


@pytest.mark.smoke
def test_writes_to_the_hosts_files_are_visible_only_inside(data, leaks):
    before = snapshot(data)
    script = CHANGE.format(data) + f" && cat {data}/file {data}/new/file && ls {data}"
    assert output(script, overlay=True).split() == ["inside", "x", "file", "kept", "new"]
    assert snapshot(data) == before
    # The layer is discarded: the next container sees the host's file.
    assert output(f"cat {data}/file", overlay=True) == "outside"


def test_the_root_directory_itself_can_be_written_to():
    assert (
        output("echo x > /new && cat /new && mkdir /dir && ls -d /dir", overlay=True) == "x\n/dir"
    )
    assert not os.path.exists("/new")
    assert not os.path.exists("/dir")


def test_the_host_looks_the_same_through_an_overlay():
    script = "cd / && stat -c '%n %a %F' * .[!.]* 2>/dev/null | grep -v '^proc\\|^sys\\|^run'"
    assert output(script, overlay=True) == output(script)
    script = "ls /dev; readlink /proc/self/exe; ls /sys/class/net"
    assert output(script, overlay=True) == output(script)


@pytest.mark.root(reason="mounts a file system before the launch")
def test_an_overlay_covers_the_mounts_below_too(tmp_path):
    # The caller unshares its mount namespace, so that the host does not get the mount.
    program = f"""
import minidocker, subprocess, pathlib
from minidocker import linux
linux.unshare(linux.CloneFlags.NEWNS)
linux.mount(None, "/", None, linux.MountFlags.REC | linux.MountFlags.PRIVATE, None)
base = pathlib.Path({str(tmp_path)!r})
for name in ("mounted", "mounted/deep", "beside"):
    (base / name).mkdir()
(base / "small").write_text("small\\n")
(base / "link").symlink_to("small")
linux.mount("tmpfs", str(base / "mounted"), "tmpfs", 0, None)
(base / "mounted/file").write_text("on a tmpfs\\n")
(base / "mounted/deep").mkdir()
script = f'''
set -e
cat {{base}}/mounted/file {{base}}/small {{base}}/link
for name in mounted/file mounted/deep/new beside/new small new; do
    echo inside > {{base}}/$name
done
cat {{base}}/mounted/deep/new {{base}}/small
'''
done = minidocker.run(["/bin/sh", "-c", script], overlay=True, capture_output=True, text=True)
assert done.returncode == 0, done.stderr
assert done.stdout.split() == "on a tmpfs small small inside inside".split(), done.stdout
found = sorted(str(path.relative_to(base)) for path in base.rglob("*"))
assert found == ["beside", "link", "mounted", "mounted/deep", "mounted/file", "small"], found
assert (base / "mounted/file").read_text() == "on a tmpfs\\n"
assert (base / "small").read_text() == "small\\n"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.root(reason="mounts a file system before the launch")
def test_an_entry_that_disappears_during_the_launch_is_not_a_failure(tmp_path):
    """The launch covers each sibling of a mount separately; meanwhile siblings disappear."""
    program = f"""
import minidocker, subprocess, pathlib
from minidocker import linux
linux.unshare(linux.CloneFlags.NEWNS)
linux.mount(None, "/", None, linux.MountFlags.REC | linux.MountFlags.PRIVATE, None)
base = pathlib.Path({str(tmp_path)!r})
(base / "mounted").mkdir()
linux.mount("tmpfs", str(base / "mounted"), "tmpfs", 0, None)
churn = "i=0; while :; do i=$((i+1)); : > $0/$i; mkdir $0/d$i; rm $0/$i; rmdir $0/d$i; done"
with subprocess.Popen(["/bin/sh", "-c", churn, base]) as churning:
    for _ in range(40):
        done = minidocker.run(["test", "-d", base / "mounted"], overlay=True)
        assert done.returncode == 0
    churning.kill()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_modes_and_owners_are_those_of_the_host():
    script = "stat -c '%a %n' /tmp /usr /etc/passwd"
    assert output(script, overlay=True) == output(script)
    if os.geteuid() == 0:
        assert output("stat -c %u:%g /var/mail /usr", overlay=True) == output(
            "stat -c %u:%g /var/mail /usr"
        )


@pytest.mark.smoke
def test_mounts_go_on_top_of_an_overlay(data, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    mounts = [Mount("/out", results), Mount("/usr/share/no-such/file", content="given\n")]
    script = f"echo kept > /out/result; cat /usr/share/no-such/file; echo x > {data}/file"
    assert output(script, overlay=True, mounts=mounts) == "given"
    assert (results / "result").read_text() == "kept\n"
    assert (data / "file").read_text() == "outside\n"
    assert not os.path.exists("/usr/share/no-such")


# --- with rootfs -------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_an_overlay_leaves_the_rootfs_unchanged(tmp_path):
    for mount_points in (True, False):
        rootfs = make_rootfs(tmp_path / f"root-{mount_points}", mount_points=mount_points)
        before = snapshot(rootfs)
        script = "echo x > /new; rm /bin/wc; echo y > /etc/hosts2; ls / /bin | grep -c 'new\\|wc'"
        assert output(script, rootfs=rootfs, env=ENV, overlay=True, hostname="box") == "1"
        assert "box" in output(
            "cat /etc/hosts", rootfs=rootfs, env=ENV, overlay=True, hostname="box"
        )
        assert snapshot(rootfs) == before


# --- kept layers -------------------------------------------------------------------------------


def test_a_layer_is_kept_for_the_next_container_and_listed(data, layer):
    before = snapshot(data)
    output(CHANGE.format(data), overlay=layer)
    assert snapshot(data) == before
    assert output(f"cat {data}/file; ls {data}", overlay=layer).split() == [
        "inside",
        "file",
        "kept",
        "new",
    ]
    found = changes(layer)
    own = [(kind, path) for kind, path in found if path.startswith(str(data))]
    assert own == [
        ("C", str(data)),
        ("C", f"{data}/file"),
        ("D", f"{data}/gone"),
        ("A", f"{data}/new"),
        ("A", f"{data}/new/file"),
    ]
    # The only other changes are to the parent directories; other programs may change files beside.
    parents = {str(parent) for parent in data.parents if str(parent) != "/"}
    others = {path for _, path in found} - {path for _, path in own}
    assert parents <= others
    assert not [path for path in others - parents if path.startswith(str(data.parent))]
    assert f"A {data}/new" in str(found).splitlines()
    assert len(found) == len(list(found))


def test_files_in_the_root_directory_itself_are_kept(layer):
    output("echo x > /new", overlay=layer)
    assert output("cat /new; echo y >> /new; cat /new", overlay=layer).split() == ["x", "x", "y"]
    assert changes(layer).added == ("/new",)
    assert not changes(layer).changed


def test_the_changes_to_a_rootfs_are_listed(tmp_path, layer):
    rootfs = make_rootfs(tmp_path / "root")
    script = "rm /bin/wc && touch /tmp/new && chmod 700 /root && ln -s x /link"
    options = {"rootfs": rootfs, "env": ENV}
    output(script, overlay=layer, **options)
    assert list(changes(layer, rootfs=rootfs)) == [
        ("C", "/bin"),
        ("D", "/bin/wc"),
        ("A", "/link"),
        ("C", "/root"),
        ("C", "/tmp"),
        ("A", "/tmp/new"),
    ]
    assert (rootfs / "bin/wc").is_symlink()


def test_a_directory_that_was_removed_and_made_again_hides_the_old_one(tmp_path, layer):
    rootfs = make_rootfs(tmp_path / "root")
    (rootfs / "old").mkdir()
    (rootfs / "old/file").touch()
    options = {"rootfs": rootfs, "env": ENV, "overlay": layer}
    output("rm -r /old && mkdir /old && touch /old/other", **options)
    assert output("ls /old", **options) == "other"
    assert str(changes(layer, rootfs=rootfs)) == "C /old\nD /old/file\nA /old/other"


def test_a_container_lists_its_changes(data, layer):
    with minidocker.Container(overlay=layer) as box:
        assert not box.changes().added
        box.run(["/bin/sh", "-c", f"echo x > {data}/new"], check=True)
        assert box.changes().added == (f"{data}/new",)
    with minidocker.Container(overlay=True) as box, pytest.raises(SpecError, match="a directory"):
        box.changes()


def test_the_layer_can_be_removed_by_its_owner(tmp_path, layer):
    output("echo x > /new", overlay=layer)
    shutil.rmtree(layer)
    rootfs = make_rootfs(tmp_path / "root")
    layer.mkdir()
    output("echo x > /new", overlay=layer, rootfs=rootfs, env=ENV)
    shutil.rmtree(layer)


# --- invalid overlays --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"overlay": "/no-such-layer"}, "it does not exist"),
        ({"overlay": "/etc/passwd"}, "it is not a directory"),
        ({"overlay": 1}, "give True, False or a directory"),
        ({"overlay": True, "read_only": True}, "contradicts overlay"),
        (
            {"overlay": True, "namespaces": minidocker.NamespaceOptions.all().without_mount()},
            "mount namespace is shared",
        ),
    ],
)
def test_an_impossible_overlay_is_refused_before_the_launch(options, why, leaks):
    with pytest.raises(SpecError, match=why):
        output("true", **options)


def test_a_directory_without_a_layer_has_no_changes(tmp_path):
    with pytest.raises(SpecError, match="this directory contains no layer"):
        changes(tmp_path)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("own_root", [True, False])
def test_a_failure_at_any_step_leaves_nothing(tmp_path, layer, leaks, keep, own_root):
    options = {"overlay": layer if keep else True}
    if own_root:
        options["rootfs"] = make_rootfs(tmp_path / "root")
    tried = ("overlay", "make-root", "mount-point", "pivot-root")

    def choose(calls):
        assert {"overlay", "pivot-root"} <= {call.step for call in calls}
        return [
            index
            for index, call in enumerate(calls)
            if call.step in tried and not call.call.startswith(IGNORED)
        ]

    def empty():
        shutil.rmtree(layer)
        layer.mkdir()

    for call, error in failures(["/bin/true"], choose, empty, **options):
        if keep and not own_root and call.call.startswith(("mkdirat", "mknodat")):
            # The launch goes on: a kept layer may have the mount point already. If it does not, the
            # next call fails.
            continue
        assert error is not None
        assert error.step == call.step
        assert os.listdir(layer) == []


# --- real programs -----------------------------------------------------------------------------


@pytest.mark.root(reason="dpkg changes root's files")
def test_a_package_is_installed_on_an_overlay_of_the_host(tmp_path, layer):
    for program in ("dpkg", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    package = tmp_path / "package"
    (package / "DEBIAN").mkdir(parents=True)
    (package / "DEBIAN/control").write_text(
        "Package: minidocker-test\nVersion: 1.0\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: made by a test\n"
    )
    for path, text in {
        "usr/bin/minidocker-test-program": "#!/bin/sh\necho installed\n",
        "etc/minidocker-test.conf": "x\n",
    }.items():
        (package / path).parent.mkdir(parents=True)
        (package / path).write_text(text)
    (package / "usr/bin/minidocker-test-program").chmod(0o755)
    (package / "DEBIAN/conffiles").write_text("/etc/minidocker-test.conf\n")
    archive = tmp_path / "package.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", package, archive],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    script = (
        f"dpkg -i {archive} && minidocker-test-program && dpkg -s minidocker-test | grep Status"
    )
    done = sh(script, overlay=layer, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["installed", "Status: install ok installed"]
    listed = subprocess.run(["dpkg", "-s", "minidocker-test"], capture_output=True, check=False)
    assert listed.returncode != 0
    assert not os.path.exists("/usr/bin/minidocker-test-program")
    assert "/usr/bin/minidocker-test-program" in changes(layer).added
    assert "/etc/minidocker-test.conf" in changes(layer).added
    assert "/var/lib/dpkg/status" in changes(layer).changed
    assert sh("minidocker-test-program && dpkg -r minidocker-test", overlay=layer).returncode == 0
    assert "/usr/bin/minidocker-test-program" not in changes(layer).added


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_git_commits_on_an_overlay(data):
    script = (
        f"cd {data} && git init -q . && git add -A && "
        "git -c user.name=x -c user.email=x@example.org commit -qm first && git log --format=%s && "
        "git status --short | wc -l"
    )
    assert output(script, overlay=True).split() == ["first", "0"]
    assert not (data / ".git").exists()


def test_a_program_is_compiled_and_run_on_an_overlay(data):
    (data / "main.c").write_text("int main(void) { return 7; }\n")
    done = sh(f"cd {data} && cc -o program main.c && ./program", overlay=True)
    assert done.returncode == 7, done.stderr
    assert not (data / "program").exists()


def test_python_with_sqlite_and_processes_on_an_overlay(data):
    program = f"""
import multiprocessing, sqlite3
def square(number): return number * number
if __name__ == "__main__":
    with sqlite3.connect({str(data / "base.db")!r}) as base:
        base.execute("create table t (x)")
        with multiprocessing.Pool(2) as pool:
            base.executemany("insert into t values (?)", [(x,) for x in pool.map(square, range(5))])
    print(*[row[0] for row in base.execute("select x from t")])
"""
    (data / "program.py").write_text(program)
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    done = minidocker.run(
        [python, data / "program.py"], overlay=True, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("0 1 4 9 16\n", "")
    assert not (data / "base.db").exists()
    assert Path(data / "file").read_text() == "outside\n"
