"""Containers inside containers."""

import sys

import pytest

import minidocker

RESOLVES = (
    "import minidocker, socket, os;"
    "options = {'hostname': 'inner', 'capture_output': True, 'text': True};"
    "done = minidocker.run(['getent', 'hosts', 'inner'], **options);"
    "print(done.stdout.split(), socket.gethostbyname('outer'), os.listdir('/dev/shm'))"
)


@pytest.mark.smoke
def test_both_hostnames_resolve_each_in_its_own_container():
    command = [sys.executable, "-c", RESOLVES]
    done = minidocker.run(command, hostname="outer", capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "['127.0.1.1', 'inner'] 127.0.1.1 []\n"


def test_containers_nest_six_deep():
    code = (
        "import minidocker, sys; depth = int(sys.argv[1]);"
        "command = [sys.executable, '-c', sys.argv[2], str(depth - 1), sys.argv[2]];"
        "done = minidocker.run(command if depth else ['hostname'], hostname=f'at-{depth}');"
        "sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", code, "4", code]
    done = minidocker.run(command, hostname="at-5", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "at-0\n", "")


LINKED = """
import os, minidocker
from minidocker import linux
for directory in ("shm", "mqueue"):
    linux.umount2(f"/dev/{directory}")
    os.rmdir(f"/dev/{directory}")
    os.mkdir(f"/run/{directory}")
    os.symlink(f"/run/{directory}", f"/dev/{directory}")
for hostname in (None, "lab"):
    command = ["stat", "-f", "-c", "%T", "/run/shm", "/dev/shm/", "/run/mqueue"]
    minidocker.run(command, hostname=hostname, check=True)
"""


def test_file_systems_are_mounted_at_the_targets_of_symbolic_links():
    command = [sys.executable, "-B", "-c", LINKED]
    done = minidocker.run(command, rootfs="/", tmpfs=["/run"], capture_output=True, text=True)
    assert done.stdout.split() == ["tmpfs", "tmpfs", "mqueue"] * 2, done.stderr
