"""Containers inside containers."""

import subprocess
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
@pytest.mark.needs("hostname")
def test_both_hostnames_resolve_each_in_its_own_container():
    command = [sys.executable, "-c", RESOLVES]
    done = minidocker.run(command, hostname="outer", capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "['127.0.1.1', 'inner'] 127.0.1.1 []\n"


NULL_DOES_NOT_OPEN = """
import os, subprocess, minidocker
subprocess.run(["mount", "-o", "remount,bind,nodev", "/dev"], check=True)
done = minidocker.run(["cat"], stdin=subprocess.DEVNULL, capture_output=True)
print(done.stdout, minidocker.call(os.read, 0, 1))
print(minidocker.isolated(method="spawn")(os.read)(0, 1))
with minidocker.Container(hostname="inner") as box:
    print(box.view().container.hostname)
try:
    minidocker.run(["true"], stdout=subprocess.DEVNULL)
except minidocker.PermissionDenied as error:
    print(error)
"""


def test_an_empty_input_needs_no_device():
    command = [sys.executable, "-c", NULL_DOES_NOT_OPEN]
    done = minidocker.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    *worked, refused = done.stdout.splitlines()
    assert worked == ["b'' b''", "b''", "inner"]
    assert refused.startswith("cannot open the device '/dev/null': Permission denied (errno 13).")
    assert refused.endswith("as root: mount -o remount,dev /dev")


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


# --- root with few ids or rights ---------------------------------------------------------------

LAYERS = """
import minidocker, sys
from minidocker import Mount
data, layer = sys.argv[1:]
minidocker.run(["sh", "-c", f"echo inside > {data}/file"], overlay=layer, check=True)
found = [f"{kind} {path}" for kind, path in minidocker.changes(layer) if path.startswith(data)]
print(*found, flush=True)
mount = Mount("/usr/share/no-such/file", content="shown")
minidocker.run(["cat", mount.target], overlay=True, mounts=[mount], check=True)
"""


def test_root_of_a_user_namespace_with_one_id_uses_overlays(tmp_path):
    """Files of other owners belong to nobody there: they can be neither written nor given away."""
    data, layer = tmp_path / "data", tmp_path / "layer"
    data.mkdir()
    layer.mkdir()
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", LAYERS]
    done = subprocess.run([*command, data, layer], capture_output=True, text=True, check=False)
    assert done.stdout == f"C {data} A {data}/file\nshown", done.stderr
    assert list(data.iterdir()) == []


STATE = (
    "import minidocker; minidocker.run(['sh', '-c', 'id -u; cat /proc/self/uid_map'], check=True)"
)


@pytest.mark.root(reason="only root has capabilities to drop")
def test_root_without_the_capabilities_to_map_ids_maps_its_own():
    """As after docker's --cap-drop ALL --cap-add SETFCAP."""
    command = ["setpriv", "--bounding-set=-setuid,-setgid", sys.executable, "-c", STATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "0", "0", "1"], done.stderr


@pytest.mark.root(reason="only root has capabilities to drop")
def test_the_doctor_names_the_capability_that_root_needs_to_map_itself():
    code = "import minidocker; print(minidocker.doctor()['user'].detail); minidocker.run(['true'])"
    command = ["setpriv", "--bounding-set=-setfcap", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "root without CAP_SETFCAP may not map its own id" in done.stdout
    assert "PermissionDenied: cannot map user and group ids" in done.stderr
