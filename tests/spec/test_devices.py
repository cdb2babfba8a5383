"""The option ``devices``: what of the host's devices is there inside."""

import os
import stat

import pytest

import minidocker
from minidocker import NamespaceOptions, SpecError
from support.command_line import cli
from support.rootfs import make_rootfs

PROFILES = pytest.mark.parametrize("profile", ["namespaces", "docker", "untrusted"])
WITHOUT_USER = NamespaceOptions.all().without_user()
# A device of another kind than a file shows itself by what is read from it.
READ = "dd if={} bs=4 count=1 2> /dev/null | od -An -tx1; ls -l {}"


def sh(script, **options):
    done = minidocker.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, cwd="/", **options
    )
    return done.stdout


@PROFILES
def test_a_device_is_there_under_another_name(profile):
    said = sh(READ.replace("{}", "/dev/nil"), profile=profile, devices=["/dev/zero:/dev/nil"])
    assert said.split()[:4] == ["00"] * 4
    assert said.splitlines()[1].startswith("c")
    assert not os.path.exists("/dev/nil")


@PROFILES
def test_a_device_is_there_in_a_root_of_its_own(profile, tmp_path):
    options = {"rootfs": make_rootfs(tmp_path / "root"), "profile": profile}
    for device in ("/dev/zero:/dev/nil", "/dev/zero:/dev/nil:rwm"):
        said = sh("dd if=/dev/nil bs=4 count=1 2> /dev/null | wc -c", devices=[device], **options)
        assert said == "4\n"
    assert not (tmp_path / "root/dev/nil").exists()


@pytest.mark.root(reason="only root makes device files")
@pytest.mark.parametrize("namespaces", [None, WITHOUT_USER])
@pytest.mark.parametrize("profile", ["docker", "untrusted"])
def test_a_profile_hides_a_device_that_is_not_asked_for(profile, namespaces, tmp_path):
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    options = {"profile": profile}
    if namespaces is not None:
        options["namespaces"] = namespaces
    script = "dd if=/dev/node bs=4 count=1 2> /dev/null | wc -c"
    assert sh(script, **options) == "0\n"
    assert sh(script, devices=[f"{node}:/dev/node"], **options) == "4\n"
    # A bind mount alone does not bring a device in.
    plain = [minidocker.Mount("/dev/node", node)]
    assert sh(script, mounts=plain, **options) == "0\n"


def test_the_command_line_has_it():
    done = cli("run", "--profile", "docker", "--device", "/dev/zero:/dev/nil", "ls", "/dev/nil")
    assert done.stdout == "/dev/nil\n"


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("/dev/zero", "give a list"),
        ([3], "it is a int"),
        (["/dev/zero:/dev/a:/dev/b"], "it has the wrong form"),
        (["/dev/zero::rwm"], "it has the wrong form"),
        (["/dev/zero:/dev/nil:r"], "control group"),
        (["/dev/no-such-device"], "No such file"),
        (["/etc/passwd"], "is not a device"),
        (["/dev/zero:relative"], "relative"),
    ],
)
def test_what_is_no_device_is_refused(devices, words, leaks):
    with pytest.raises(SpecError) as caught:
        minidocker.run(["true"], devices=devices)
    assert caught.value.option == "devices"
    assert words in str(caught.value)


def test_what_enters_a_container_gets_no_devices_of_its_own():
    with minidocker.Container() as box, pytest.raises(SpecError):
        box.run(["true"], devices=["/dev/zero:/dev/nil"])
