"""The option ``devices``: the host's devices inside."""

import os
import stat

import pytest

import minidocker
from minidocker import NamespaceOptions, SpecError
from support.command_line import cli
from support.rootfs import make_rootfs

PROFILES = pytest.mark.parametrize("profile", ["namespaces", "docker", "untrusted"])
WITHOUT_USER = NamespaceOptions.all().without_user()
# Reads four bytes and lists the node, to tell a working device from a regular file.
READ = "dd if={} bs=4 count=1 2> /dev/null | od -An -tx1; ls -l {}"


def sh(script, **options):
    done = minidocker.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True, cwd="/", **options
    )
    return done.stdout


@PROFILES
def test_a_device_can_have_another_name_inside(profile):
    output = sh(READ.replace("{}", "/dev/nil"), profile=profile, devices=["/dev/zero:/dev/nil"])
    assert output.split()[:4] == ["00"] * 4
    assert output.splitlines()[1].startswith("c")
    assert not os.path.exists("/dev/nil")


@PROFILES
def test_a_device_works_with_a_rootfs(profile, tmp_path):
    options = {"rootfs": make_rootfs(tmp_path / "root"), "profile": profile}
    for device in ("/dev/zero:/dev/nil", "/dev/zero:/dev/nil:rwm"):
        output = sh("dd if=/dev/nil bs=4 count=1 2> /dev/null | wc -c", devices=[device], **options)
        assert output == "4\n"
    assert not (tmp_path / "root/dev/nil").exists()


@pytest.mark.root(reason="only root makes device files")
@pytest.mark.parametrize("namespaces", [None, WITHOUT_USER])
@pytest.mark.parametrize("profile", ["docker", "untrusted"])
def test_a_profile_hides_a_device_that_is_not_listed(profile, namespaces, tmp_path):
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    options = {"profile": profile}
    if namespaces is not None:
        options["namespaces"] = namespaces
    script = "dd if=/dev/node bs=4 count=1 2> /dev/null | wc -c"
    assert sh(script, **options) == "0\n"
    assert sh(script, devices=[f"{node}:/dev/node"], **options) == "4\n"
    # Under these profiles a bind mount does not give access to a device.
    plain = [minidocker.Mount("/dev/node", node)]
    assert sh(script, mounts=plain, **options) == "0\n"


def test_the_command_line_has_the_option_device():
    done = cli("run", "--profile", "docker", "--device", "/dev/zero:/dev/nil", "ls", "/dev/nil")
    assert done.stdout == "/dev/nil\n"


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ("/dev/zero", "give a list"),
        ([3], "it is of type int"),
        (["/dev/zero:/dev/a:/dev/b"], "it has the wrong form"),
        (["/dev/zero::rwm"], "it has the wrong form"),
        (["/dev/zero:/dev/nil:r"], "control group"),
        (["/dev/no-such-device"], "No such file"),
        (["/etc/passwd"], "is not a device"),
        (["/dev/zero:relative"], "relative"),
    ],
)
def test_invalid_devices_are_refused(devices, words, leaks):
    with pytest.raises(SpecError) as caught:
        minidocker.run(["true"], devices=devices)
    assert caught.value.option == "devices"
    assert words in str(caught.value)


def test_a_command_that_enters_a_container_cannot_add_devices():
    with minidocker.Container() as box, pytest.raises(SpecError):
        box.run(["true"], devices=["/dev/zero:/dev/nil"])
