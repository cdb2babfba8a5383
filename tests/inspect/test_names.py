"""Names that processes chose: any byte in them, inside a container, leaves the readers at work."""

import json
import os
import signal
import sys

import pytest

import minidocker
from support.command_line import cli
from support.surroundings import mounts_of_any_name, report_in
from support.waiting import wait_until

#: Bytes that end a line or a word for Python, that are not UTF-8, or that the kernel escapes.
NAMES = [b"\xff", b"a\rb", b"a\nb", b"a b\\c\t", "\x85\u2028\u00a0".encode(), b"\x0b\x1c\x1b[31m"]

MOUNT = f"""
import os
from minidocker import linux
for name in {NAMES!r}:
    path = os.fsdecode(b"/dev/shm/" + name)
    os.mkdir(path)
    linux.mount(path, path, "tmpfs")
"""

NAMED = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(15, ctypes.c_char_p(bytes.fromhex(sys.argv[1])))
sys.stdout.write("ready\\n"); sys.stdout.flush()
time.sleep(100)
"""
PROCESSES = [b"\xff", b"a) R 1 (", b"x\rUid:\t77", b"a\nUid:\t77", "\u2028\x85".encode()]


def test_mount_points_of_a_container_may_have_any_name():
    with minidocker.Container() as box:
        box.run([sys.executable, "-c", MOUNT], check=True)
        expected = {os.fsdecode(b"/dev/shm/" + name) for name in NAMES}
        view = box.view()
        mounted = {entry.target for entry in view.container.mounts}
        sources = {entry.source for entry in view.container.mounts}
        assert mounted >= expected
        assert sources >= expected
        for text in (str(view), view._repr_html_()):
            assert text.encode()
            assert "\x1b" not in text
        done = cli("inspect", str(box.pid))
        assert done.returncode == 0, done.stderr
        assert {row["target"] for row in json.loads(done.stdout)["mounts"]} == mounted


def test_the_doctor_works_beside_mount_points_of_any_name():
    found = report_in(mounts_of_any_name, *(name.hex() for name in NAMES))
    assert found.failing == set()
    assert found["overlay"]["status"] == "works", found["overlay"]


def test_processes_of_a_container_may_have_any_name():
    with minidocker.Container() as box:
        running = [
            box.popen([sys.executable, "-c", NAMED, name.hex()], stdout=-1) for name in PROCESSES
        ]
        for process in running:
            assert process.stdout.readline() == b"ready\n"
        seen = {process.pid: process for process in box.view().processes}
        for process in running:
            assert seen[process.pid].uid == os.geteuid()
            assert seen[process.pid].container_uid == 0
            done = cli("inspect", str(process.pid))
            assert json.loads(done.stdout)["age"] < 1000, done.stderr
        assert cli("ps").returncode == 0
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("name", PROCESSES, ids=repr)
def test_a_signal_ends_pid_1_of_any_name(name):
    """Its default action is taken, as the masks in /proc/PID/status show."""
    with minidocker.Popen([sys.executable, "-c", NAMED, name.hex()], stdout=-1) as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        wait_until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGTERM


def test_the_name_of_the_caller_may_have_any_byte(noop):
    """A launch that enters a container reads the caller's name, which its child has too."""
    script = f"""
import ctypes, minidocker
ctypes.CDLL(None).prctl(15, ctypes.c_char_p(b"\\xff) R 1"))
with minidocker.Container() as box:
    box.run([{str(noop)!r}], check=True)
    print(box.processes()[0].container_pid, end="")
"""
    done = minidocker.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1"


def test_a_hostile_passwd_of_a_container_names_no_other_user():
    """U+0085 ends no line, a FIFO is not waited for, and digits are those of ASCII."""
    script = (
        "mount -t tmpfs tmpfs /etc && printf 'x:x:1:1:\\302\\205y:x:7:7:\\ny:x:\\302\\262:1::\\n'"
        " > /etc/passwd && mkfifo /etc/group"
    )
    with minidocker.Container() as box:
        box.run(["/bin/sh", "-c", script], check=True)
        for user in ("y", "x:nogroup"):
            with pytest.raises(minidocker.SpecError, match="no such name"):
                box.run(["/bin/true"], user=user)
