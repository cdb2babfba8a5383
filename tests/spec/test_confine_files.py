"""Profiles combined with the options for files: mounts, tmpfs, overlays, roots, devices."""

import errno
import os
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, Spec, SpecError, changes
from support.launches import Launch, run_by
from support.rootfs import make_rootfs, snapshot

BOTH = pytest.mark.parametrize("profile", ["docker", "untrusted"])
NAME = f"minidocker-test-{os.getpid()}"


def sh(script, **options):
    """Return the output of a script, followed by its error messages."""
    options.setdefault("cwd", "/")
    done = minidocker.run(["/bin/sh", "-c", script], capture_output=True, text=True, **options)
    return done.stdout + done.stderr


@pytest.fixture
def data(tmp_path):
    """A directory with a file that every user may read, and root inside may write."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "file").write_text("outside\n")
    return directory


@pytest.fixture
def root(tmp_path):
    return make_rootfs(tmp_path / "root")


def options_of_ids(profile, directory):
    """Return the options of the error's remedy if a file system cannot map ids, as an overlay."""
    try:
        minidocker.run(["true"], profile=profile, mounts=[Mount("/mnt", directory)], check=True)
    except SpecError as error:
        if "cannot map ids" not in str(error):
            raise
        every = [(0, 0, 4294967295)]
        return {"uid_map": every, "gid_map": every}
    return {}


@pytest.mark.smoke
@pytest.mark.needs("devices")
@BOTH
def test_a_mount_is_visible_and_is_writable_unless_it_is_read_only(profile, data):
    script = "cat /srv/in/file; echo inside > /srv/in/new && echo written"
    ids = options_of_ids(profile, data)
    output = sh(script, profile=profile, mounts=[Mount("/srv/in", data)], **ids)
    assert output == "outside\nwritten\n"
    assert (data / "new").read_text() == "inside\n"
    (data / "new").unlink()
    output = sh(script, profile=profile, mounts=[Mount("/srv/in", data, read_only=True)], **ids)
    assert output.startswith("outside\n")
    assert "written" not in output
    assert not (data / "new").exists()


@BOTH
def test_a_single_file_of_the_caller_can_be_writable(profile, data):
    target = f"/srv/{NAME}"
    output = sh(
        f"cat {target}; echo inside > {target}; ls /srv",
        profile=profile,
        mounts=[Mount(target, data / "file")],
    )
    assert output.splitlines()[0] == "outside"
    assert (data / "file").read_text() == "inside\n"


def test_a_mount_in_a_hidden_home_shows_nothing_else_of_it(data):
    home = os.path.expanduser("~")
    mounts = [Mount(f"{home}/deep/in", data, read_only=True)]
    script = f"cat {home}/deep/in/file; ls -A {home} {home}/deep; echo x > {home}/{NAME}"
    output = sh(script, profile="untrusted", mounts=mounts)
    assert output.startswith("outside\n")
    assert output.split(f"{home}:\n")[1] == f"deep\n\n{home}/deep:\nin\n"
    assert not Path(home, NAME).exists()


@BOTH
def test_content_and_tmpfs_work_with_a_profile(profile):
    output = sh(
        f"cat /mnt/{NAME}/hello; echo x > /mnt/{NAME}/scratch/y && cat /mnt/{NAME}/scratch/y",
        profile=profile,
        mounts=[Mount(f"/mnt/{NAME}/hello", content="hello\n", read_only=True)],
        tmpfs=[f"/mnt/{NAME}", f"/mnt/{NAME}/scratch"],
    )
    assert output == "hello\nx\n"


@BOTH
def test_an_overlay_takes_the_writes_with_a_profile(profile):
    script = f"""
        for path in /usr/{NAME} /etc/{NAME} /usr/local/bin/{NAME}; do
            echo x > $path; cat $path
        done
        rm /etc/hostname /usr/bin/env
        ls -A /root
    """
    output = sh(script, profile=profile, overlay=True)
    if os.geteuid() == 0:
        assert output.startswith("x\nx\nx\n")
        assert "cannot" not in output
    assert not any(Path(path, NAME).exists() for path in ("/usr", "/etc", "/usr/local/bin"))
    assert Path("/usr/bin/env").exists()


def test_a_layer_keeps_the_writes_with_a_profile(tmp_path, leaks):
    layer = tmp_path / "layer"
    layer.mkdir()
    script = f"echo x > /etc/{NAME}; rm /etc/hostname; cat /etc/{NAME}"
    assert sh(script, profile="docker", overlay=layer) == "x\n"
    assert not Path("/etc", NAME).exists()
    assert f"/etc/{NAME}" in changes(layer).added
    assert changes(layer).deleted == ("/etc/hostname",)
    # The root of this profile is made in memory.
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(minidocker.SpecError, match=r"rootfs") as caught:
        minidocker.run(["true"], profile="untrusted", overlay=empty)
    assert caught.value.option == "overlay"
    assert not list(empty.iterdir())


def test_docker_writes_to_its_root_and_untrusted_does_not(root):
    script = "echo x > /root/new; echo x > /tmp/new; ls /tmp"
    assert sh(script, rootfs=root, profile="docker") == "new\n"
    assert (root / "root/new").read_text() == "x\n"
    (root / "root/new").unlink()
    (root / "tmp/new").unlink()
    before = snapshot(root)
    output = sh(script, rootfs=root, profile="untrusted")
    assert "Read-only file system" in output
    assert "new\n" in output
    assert snapshot(root) == before, "untrusted code wrote to the root's own files"


def test_an_overlay_over_a_root_lets_untrusted_code_write(root):
    before = snapshot(root)
    assert (
        sh("echo x > /root/new; cat /root/new", rootfs=root, profile="untrusted", overlay=True)
        == "x\n"
    )
    assert snapshot(root) == before


@BOTH
def test_read_only_holds_with_a_profile(profile, root):
    options = {"profile": profile, "read_only": True, "tmpfs": ["/mnt"]}
    output = sh(f"touch /var/{NAME} && echo written; echo x > /mnt/y && cat /mnt/y", **options)
    assert "written" not in output
    assert "x\n" in output
    output = sh("touch /root/x && echo written", rootfs=root, profile=profile, read_only=True)
    assert "written" not in output


@pytest.mark.smoke
@pytest.mark.needs("devices")
@BOTH
def test_dev_has_the_usual_devices_with_and_without_a_root(profile, root):
    script = (
        "echo x > /dev/null && head -c4 /dev/zero | wc -c; head -c4 /dev/urandom | wc -c; "
        "ls /dev; ls -l /dev/ptmx"
    )
    usual = {"fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    usual |= {"tty", "urandom", "zero", "mqueue"}
    own = {"rootfs": root, "mounts": [Mount("/bin/head", "/bin/busybox")]}
    for options in ({}, own | options_of_ids(profile, root)):
        four, again, *names, link = sh(script, profile=profile, **options).splitlines()
        assert (four, again) == ("4", "4")
        assert set(names) == usual
        assert link.endswith("pts/ptmx")


@pytest.mark.parametrize("init", [False, True])
@BOTH
def test_a_failure_at_any_step_leaves_nothing_of_a_confined_root(
    profile, init, root, data, leaks, survivors
):
    spec = Spec(
        profile=profile,
        rootfs=root,
        init=init,
        hostname="lab",
        tmpfs=["/tmp/new"],
        mounts=[Mount("/root/data", data, read_only=True), Mount("/root/x", content=b"x")],
    )
    before = snapshot(root)
    count = len(minidocker.explain(["/bin/true"], spec=spec))
    failed = []
    for number in range(count):
        launch = Launch(inject=(number, errno.EXDEV))
        try:
            run_by(launch, ["/bin/true"], spec=spec, env=survivors.env)
        except minidocker.SpawnError as error:
            failed.append(error.errno)
    assert failed.count(errno.EXDEV) > count / 2
    assert snapshot(root) == before


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"mounts": [Mount("/srv/../etc/x", content=b"")]}, "mounts", ".."),
        ({"mounts": [Mount("/srv/x", "/no/such/source")]}, "mounts", "/no/such/source"),
        ({"rootfs": "/etc/passwd"}, "rootfs", "/etc/passwd"),
        ({"rootfs": "/no/such/root"}, "rootfs", "/no/such/root"),
        ({"tmpfs": ["/mnt"], "mounts": [Mount("/", content=b"")]}, "mounts", "/"),
    ],
)
@BOTH
def test_bad_input_is_refused_with_a_profile_too(profile, options, option, words, leaks):
    with pytest.raises(minidocker.SpecError) as caught:
        minidocker.run(["/bin/true"], profile=profile, **options)
    assert caught.value.option == option
    assert words in str(caught.value)


@BOTH
def test_a_command_that_is_missing_in_the_root_is_reported(profile, root, leaks):
    with pytest.raises(minidocker.CommandNotFound) as caught:
        minidocker.run(["/bin/no-such"], profile=profile, rootfs=root)
    assert caught.value.filename == "/bin/no-such"
