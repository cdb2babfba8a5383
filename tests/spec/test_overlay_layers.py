"""Layers that are kept: one container at a time, and no link leads the writes elsewhere."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.callers import calling
from support.command_line import captured
from support.rootfs import make_rootfs
from support.waiting import wait_while


@pytest.fixture
def layer(tmp_path):
    directory = tmp_path / "layer"
    directory.mkdir()
    return directory


@pytest.fixture
def rootfs(tmp_path):
    return make_rootfs(tmp_path / "root")


def attempt(rootfs, script="true", **options):
    """Run a script, and return its status or the error's step and number."""
    command = ["/bin/sh", "-c", script]
    try:
        return minidocker.run(command, rootfs=rootfs, env={"PATH": "/bin"}, **options).returncode
    except minidocker.SpawnError as error:
        return error.step, error.errno


BUSY = ("overlay", errno.EBUSY)


@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_a_layer_is_for_one_container_at_a_time(rootfs, layer, options, leaks):
    script = ["/bin/sh", "-c", "echo ready; read line; echo kept > /new"]
    running = minidocker.Popen(
        script, rootfs=rootfs, overlay=layer, env={"PATH": "/bin"}, stdin=-1, stdout=-1, **options
    )
    with running as process:
        assert process.stdout.readline() == b"ready\n"
        # The same directory by another name, in this process and in another one.
        (layer.parent / "link").symlink_to(layer)
        assert attempt(rootfs, overlay=layer.parent / "link") == BUSY
        other = f"import minidocker; minidocker.run(['true'], overlay={str(layer)!r})"
        done = subprocess.run(
            [sys.executable, "-c", other], capture_output=True, text=True, check=False
        )
        assert "Another container uses that directory" in done.stderr
        mount = Mount("/tmp", rootfs, type="overlay", upper=layer)
        assert attempt(rootfs, mounts=[mount]) == BUSY
        process.stdin.close()
        process.wait()
    assert attempt(rootfs, "test -e /new", overlay=layer) == 0


def test_two_mounts_cannot_share_a_layer(rootfs, layer, leaks):
    mounts = [Mount(path, rootfs, type="overlay", upper=layer) for path in ("/root", "/tmp")]
    step, number = attempt(rootfs, mounts=mounts)
    assert (step, number) == BUSY
    assert os.listdir(layer) == []


def test_a_container_that_has_ended_leaves_no_lock_in_forked_children(rootfs, layer):
    """A forked child has the descriptor of the lock, and cannot release the lock either."""
    options = {"rootfs": rootfs, "overlay": layer}
    with minidocker.Container(**options) as box:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                del box
            signal.pause()
            os._exit(0)
        assert attempt(rootfs, overlay=layer) == BUSY
    assert attempt(rootfs, overlay=layer) == 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_lock_ends_with_the_caller(rootfs, layer):
    script = f"""
box = minidocker.Container(rootfs={str(rootfs)!r}, overlay={str(layer)!r}).__enter__()
say("ready")
time.sleep(100)
"""
    with calling(script) as caller:
        assert caller.line() == "ready"
        assert attempt(rootfs, overlay=layer) == BUSY
        caller.kill9()
    wait_while(lambda: attempt(rootfs, overlay=layer) == BUSY)


def test_functions_use_a_layer_one_after_the_other(layer, leaks):
    kept = minidocker.Spec(overlay=layer)
    for number in range(2):
        assert minidocker.call(os.path.exists, "/made", spec=kept) == bool(number)
        minidocker.call(Path("/made").touch, spec=kept)


SWAP = """
import os, sys
os.chdir(sys.argv[1])
for _ in range(10**9):
    for name in ("upper", "work"):
        os.rename(name, "real")
        os.symlink("../victim", name)
        os.unlink(name)
        os.rename("real", name)
"""


def test_no_link_of_another_user_leads_the_writes_elsewhere(tmp_path, rootfs, layer):
    """Meanwhile the parts of the layer are replaced by links, again and again."""
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("upper", "work"):
        (layer / name).mkdir()
    outcomes = set()
    with subprocess.Popen([sys.executable, "-c", SWAP, layer], stderr=subprocess.DEVNULL) as swap:
        for _ in range(60):
            # A launch that meets a link, or nothing, fails.
            with contextlib.suppress(minidocker.SpecError):
                outcomes.add(attempt(rootfs, "echo x > /new; mkdir -p /made", overlay=layer))
            assert os.listdir(victim) == []
            if swap.poll() is not None:
                # It stops where a launch has made a part that it was about to rename.
                break
        swap.kill()
    assert outcomes
    # Without its upper directory, the overlay of a running container refuses writes.
    failures = [found for found in outcomes if isinstance(found, tuple)]
    assert {step for step, _ in failures} <= {"overlay"}


def test_a_failed_launch_removes_what_it_made_and_nothing_else(tmp_path, rootfs, layer):
    (layer / "mine").mkdir()
    (layer / "upper").mkdir()
    (layer / "upper/kept").touch()
    with pytest.raises(minidocker.CommandNotFound):
        minidocker.run(["/no/such/command"], rootfs=rootfs, overlay=layer)
    assert sorted(os.listdir(layer)) == ["mine", "upper"]
    assert os.listdir(layer / "upper") == ["kept"]
    shutil.rmtree(layer)


@pytest.mark.parametrize("foreign", ["project", "1a", ".git", "\udcff"])
def test_a_work_directory_of_something_else_is_refused(rootfs, layer, foreign, leaks):
    (layer / "work" / foreign).mkdir(parents=True)
    with pytest.raises(
        minidocker.SpecError, match="not the work directory of an overlay"
    ) as caught:
        minidocker.run(["/bin/true"], rootfs=rootfs, overlay=layer)
    assert caught.value.option == "overlay"
    mount = Mount("/mnt", rootfs, type="overlay", upper=layer)
    with pytest.raises(minidocker.SpecError, match="not the work directory of an overlay"):
        minidocker.run(["/bin/true"], rootfs=rootfs, mounts=[mount])
    assert os.listdir(layer) == ["work"]
    assert os.listdir(layer / "work") == [foreign]


@pytest.mark.parametrize("whole", [True, False], ids=["host", "rootfs"])
def test_a_layer_can_be_used_again(rootfs, layer, whole):
    root = {} if whole else {"rootfs": rootfs}
    for _ in range(2):
        minidocker.run(["/bin/true"], overlay=layer, check=True, **root)


@pytest.mark.root(reason="a plain caller cannot remount its files")
def test_a_layer_on_a_read_only_file_system_is_named(layer):
    script = (
        "mount --bind $1 $1 && mount -o remount,bind,ro $1 "
        "&& exec $2 -m minidocker run --overlay-dir $1 true"
    )
    shell = ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]
    done = captured([*shell, layer, sys.executable])
    assert done.returncode == 125
    assert "Remedy: That directory is on a read-only file system" in done.stderr


def test_a_plan_shows_that_no_link_is_followed(rootfs, layer):
    calls = [line.call for line in minidocker.explain(["true"], rootfs=rootfs, overlay=layer)]
    assert any("RESOLVE_NO_SYMLINKS" in call and str(layer) in call for call in calls)
    assert "flock(<layer>, LOCK_EX|LOCK_NB)" in calls
    assert any("upperdir=/proc/self/fd/<upper>" in call for call in calls)
