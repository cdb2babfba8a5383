"""Commands that enter a running container: Container.run and Container.popen."""

import signal
import subprocess
import time

import pytest

import minidocker
from minidocker import SpecError
from support.commands import python, read_line, sh
from support.waiting import wait_for_state

PIPE = subprocess.PIPE


@pytest.fixture
def box():
    with minidocker.Container() as box:
        yield box


def test_a_timeout_ends_the_commands_session_and_not_the_container(box, survivors):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        box.run(sh("echo out; sleep 50 & sleep 60"), timeout=0.4, stdout=PIPE, env=survivors.env)
    assert 0.35 < time.monotonic() - began < 30
    assert caught.value.stdout == b"out\n"
    survivors.wait_until_gone()
    assert box.run(["true"]).returncode == 0


def test_a_timeout_does_not_wait_for_a_pipe_whose_holder_has_left_the_session(box):
    holder = python(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "print('started', flush=True)\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        box.run(holder, timeout=0.8, stdout=PIPE)
    assert time.monotonic() - began < 25
    assert caught.value.stdout == b"started\n"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGRTMIN + 1]
)
def test_a_signal_ends_the_command_and_not_the_container(box, number):
    with box.popen(["sleep", "50"]) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) == -number
    assert box.run(["true"]).returncode == 0


def test_sigtstp_stops_the_command_and_sigcont_continues_it(box):
    with box.popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as process:
        process.stdin.write(b"one\n")
        assert read_line(process.stdout) == "one"
        process.send_signal(signal.SIGTSTP)
        process.stdin.write(b"two\n")
        wait_for_state(process.pid, "T")
        process.send_signal(signal.SIGCONT)
        assert read_line(process.stdout) == "two"
        process.stdin.close()


def test_kill_0_reaches_neither_the_container_nor_other_commands(box):
    with box.popen(["sleep", "50"]) as other:
        assert box.run(sh("kill -9 0")).returncode == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
    assert box.run(["true"]).returncode == 0


def test_usage_is_that_of_the_command(box):
    usage = box.run(["true"]).usage
    assert usage.peak is not None
    assert usage.peak < 16 << 20
    busy = python("import time\nwhile time.process_time() < 0.2: pass")
    usage = box.run(busy).usage
    assert 0.1 < usage.user + usage.system < 2


def test_names_of_users_come_from_the_containers_own_files(tmp_path, box):
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\ninside:x:0:0::/:/bin/sh\n")
    (tmp_path / "group").write_text("root:x:0:\nteam:x:0:\n")
    for name in ("passwd", "group"):
        box.run(["mount", "--bind", tmp_path / name, f"/etc/{name}"], check=True)
    done = box.run(sh("id -u; id -g"), user="inside:team", stdout=PIPE, check=True)
    assert done.stdout == b"0\n0\n"
    for options in ({"user": "nobody"}, {"group": "nogroup"}, {"extra_groups": ["nogroup"]}):
        with pytest.raises(SpecError, match="there is no such"):
            box.run(["true"], **options)
    with pytest.raises(SpecError, match="there is no such"):
        minidocker.run(["true"], user="inside")


@pytest.mark.root(reason="only root may set other groups")
def test_names_of_groups_come_from_the_containers_own_files(tmp_path, box):
    (tmp_path / "group").write_text("root:x:0:\nteam:x:4321:\n")
    box.run(["mount", "--bind", tmp_path / "group", "/etc/group"], check=True)
    done = box.run(["id", "-G"], extra_groups=["team", 7], stdout=PIPE, check=True)
    assert done.stdout == b"0 7 4321\n"


def test_a_container_that_has_ended_holds_no_descriptor(leaks):
    box = minidocker.Container()
    with box:
        box.run(["true"], check=True)
    leaks.assert_unchanged()
    assert box.status == "exited"
