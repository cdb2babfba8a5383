"""The lifecycle of a Container: start, enter, inspect, pause, stop."""

import concurrent.futures
import errno
import os
import pickle
import pwd
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

import minidocker
from minidocker._run import explain
from support.launches import Launch
from support.waiting import wait_for_state, wait_while


@pytest.fixture
def box():
    with minidocker.Container(hostname="db") as box:
        yield box


def output(box, *args, **options):
    return box.run(args, capture_output=True, text=True, check=True, **options).stdout.strip()


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_a_command_enters_the_namespaces_of_the_container(box):
    assert output(box, "hostname") == "db"
    assert os.uname().nodename != "db"
    links = output(box, "sh", "-c", "readlink /proc/self/ns/pid /proc/self/ns/net").split()
    inodes = box.namespaces()
    assert links == [f"pid:[{inodes['pid']}]", f"net:[{inodes['net']}]"]
    assert not box.namespaces().shared_with(minidocker.namespaces()) - {"time"}


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_the_next_command_sees_the_changes_of_the_last_and_the_host_does_not(box):
    box.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    name = uuid.uuid4().hex
    box.run(["touch", f"/mnt/{name}"], check=True)
    assert output(box, "ls", "/mnt") == name
    assert not os.path.exists(f"/mnt/{name}")


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_processes_have_a_pid_on_each_side(box):
    with box.popen(["sleep", "1000"]) as sleeper:
        found = {process.pid: process for process in box.processes()}
        assert found[box.pid].container_pid == 1
        assert found[sleeper.pid].command == "sleep 1000"
        seen = output(box, "ps", "-o", "pid=", "-C", "sleep")
        assert found[sleeper.pid].container_pid == int(seen)
        sleeper.kill()


def test_the_exit_status_of_an_entered_command_is_its_own(box):
    assert box.run(["sh", "-c", "exit 3"]).returncode == 3
    assert box.run(["sh", "-c", "kill -TERM $$"]).returncode == -signal.SIGTERM
    with pytest.raises(minidocker.CommandNotFound) as caught:
        box.run(["no-such-command"])
    assert caught.value.filename == "no-such-command"
    with pytest.raises(FileNotFoundError):
        box.run(["true"], cwd="/no/such/directory")


def test_a_timeout_ends_the_command_and_not_the_container(box):
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        box.run(
            ["sh", "-c", "echo so far; sleep 1000 & sleep 1000"], capture_output=True, timeout=0.3
        )
    assert caught.value.output == b"so far\n"
    assert time.monotonic() - started < 30
    assert output(box, "hostname") == "db"


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_pause_stops_every_process_until_unpause(box):
    with box.popen(["sh", "-c", "while :; do :; done"]) as loop:
        box.pause()
        assert box.status == "paused"
        stat = Path(f"/proc/{loop.pid}/stat").read_text().rpartition(")")[2].split()
        assert stat[0] == "T"
        box.unpause()
        assert box.status == "running"
        loop.kill()


def test_a_process_that_waits_for_its_vfork_child_is_paused_with_it(box, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # The child of posix_spawn(3) opens the FIFO before it executes anything, and blocks there.
    script = (
        "import os, sys; "
        "os.posix_spawn('/bin/sh', ['sh', '-c', 'exit 5'], {}, "
        "file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]); "
        "sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    with box.popen([sys.executable, "-c", script, str(fifo)]) as parent:
        wait_for_state(parent.pid, "D")
        box.pause()
        assert box.status == "paused"
        box.unpause()
        fifo.write_bytes(b"")
        assert parent.wait() == 5


def test_stop_sends_sigterm_first_and_then_kills(box):
    polite = box.popen(
        ["sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.01; done"], stdout=-1
    )
    polite.stdout.readline()
    deaf = box.popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.01; done"], stdout=-1)
    deaf.stdout.readline()
    box.stop(timeout=0.5)
    assert polite.wait() == 7
    assert deaf.wait() == -signal.SIGKILL
    assert box.status == "exited"
    polite.stdout.close()
    deaf.stdout.close()


@pytest.mark.smoke
def test_leaving_the_block_leaves_nothing_behind(leaks):
    with minidocker.Container() as box:
        box.popen(["sleep", "1000"])
        pids = [process.pid for process in box.processes()]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_container_that_has_ended_says_so():
    box = minidocker.Container(hostname="gone")
    assert box.status == "created"
    with pytest.raises(ProcessLookupError, match="start it"):
        box.run(["true"])
    with box:
        pass
    assert box.status == "exited"
    with pytest.raises(ProcessLookupError):
        box.run(["true"])


@pytest.mark.parametrize("user", [1234, "1234:5678", "daemon", "daemon:daemon"])
def test_commands_are_the_user_of_the_container(user):
    named = pwd.getpwnam("daemon")
    uid = named.pw_uid if "daemon" in str(user) else 1234
    with minidocker.Container(user=user) as box:
        assert output(box, "id", "-u") == str(uid)
        if ":" in str(user):
            assert output(box, "id", "-g") == ("5678" if uid == 1234 else str(named.pw_gid))
    assert os.getuid() not in (named.pw_uid, 1234)


def test_a_container_is_not_a_value(box):
    with pytest.raises(TypeError, match="pass its pid"):
        pickle.dumps(box)


def test_options_of_the_container_are_refused_when_a_command_enters(box):
    for options in ({"hostname": "other"}, {"init": True}, {"network": "host"}):
        with pytest.raises(minidocker.SpecError, match="belongs to the container"):
            box.run(["true"], **options)


def test_an_unknown_option_is_refused_when_a_command_enters(box):
    with pytest.raises(minidocker.SpecError, match="unknown option: did you mean 'hostname'"):
        box.run(["true"], hostnme="x")
    with pytest.raises(minidocker.SpecError, match="unknown option: did you mean 'capture_output'"):
        box.run(["true"], captur_output=True)
    with pytest.raises(minidocker.SpecError, match="unknown option"):
        box.popen(["true"], timeout=1)


def test_wrong_options_are_refused_before_the_container_is_started():
    with pytest.raises(minidocker.SpecError):
        minidocker.Container(hostname="x" * 65)


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_two_containers_share_a_network(box):
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 7)); print(flush=True); s.accept()"
    )
    with box.popen([sys.executable, "-c", script], stdout=-1) as server:
        server.stdout.readline()
        client = "import socket; socket.create_connection(('127.0.0.1', 7))"
        done = minidocker.run([sys.executable, "-c", client], network=box, hostname="side")
        assert done.returncode == 0
        interfaces = minidocker.run(
            ["ls", "/sys/class/net"], network=box, capture_output=True, text=True
        )
        assert interfaces.stdout.split() == ["lo"]
        with minidocker.Container(network=box, hostname="side") as side:
            assert output(side, "hostname") == "side"
            shared = side.namespaces().shared_with(box.namespaces())
            assert shared - {"time"} == {"user", "net"}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 7), timeout=5)


def test_a_container_without_a_pid_namespace_ends_with_everything_in_it(leaks):
    options = minidocker.NamespaceOptions.all().without_pid()
    with minidocker.Container(namespaces=options) as box:
        child = box.popen(["sh", "-c", "setsid sleep 1000 & echo $!"], stdout=-1)
        orphan = int(child.stdout.readline())
        assert orphan in {process.pid for process in box.processes()}
        child.stdout.close()
    wait_while(lambda: os.path.exists(f"/proc/{orphan}"))


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_attach_enters_namespaces_that_unshare_made():
    unshare = subprocess.Popen(
        ["unshare", "-Urmpuf", "--mount-proc", "sh", "-c", "hostname theirs; echo; sleep 1000"],
        stdout=subprocess.PIPE,
        restore_signals=True,
    )
    unshare.stdout.readline()
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    box = minidocker.attach(int(children[0]))
    assert output(box, "hostname") == "theirs"
    assert output(box, "id", "-u") == "0"
    assert next(process.container_pid for process in box.processes()) == 1
    box.kill()
    unshare.wait()
    unshare.stdout.close()
    box.close()


def test_attach_refuses_a_process_that_is_not_a_container():
    with pytest.raises(minidocker.SpecError, match="shares every namespace"):
        minidocker.attach(os.getpid())
    with pytest.raises(ProcessLookupError) as caught:
        minidocker.attach(2**22 - 1)
    assert caught.value.errno == errno.ESRCH


@pytest.fixture
def attached():
    with (
        minidocker.Popen(["sleep", "1000"], init=True) as theirs,
        minidocker.attach(theirs.pid) as box,
    ):
        yield box
        theirs.kill()


def test_an_attached_container_has_a_status_and_can_be_waited_for(attached):
    assert attached.status == "running"
    attached.pause()
    assert attached.status == "paused"
    attached.unpause()
    assert attached.status == "running"
    with pytest.raises(TimeoutError, match=r"still runs after 0\.01 seconds"):
        attached.wait(0.01)
    attached.kill()
    assert attached.wait(10) is None
    assert attached.status == "exited"
    attached.wait()


def test_stop_resumes_an_attached_container_that_is_paused(attached):
    attached.pause()
    started = time.monotonic()
    attached.stop(timeout=30)
    assert time.monotonic() - started < 15
    assert attached.status == "exited"
    attached.stop()


def test_a_closed_attached_container_cannot_be_stopped_or_waited_for(attached):
    attached.close()
    assert attached.status == "closed"
    for method in (attached.stop, attached.wait):
        with pytest.raises(minidocker.SpecError, match="attach to the container again"):
            method()


def test_a_process_inside_cannot_hang_the_one_that_enters_past_its_timeout(box):
    """A process inside stops every new process that it sees."""
    hunter = (
        "import os, signal\n"
        "print(flush=True)\n"
        "while True:\n"
        "    for name in os.listdir('/proc'):\n"
        "        if name.isdigit() and int(name) > int(os.environ['SELF']):\n"
        "            try: os.kill(int(name), signal.SIGSTOP)\n"
        "            except ProcessLookupError: pass\n"
    )
    start = "import os; os.environ['SELF'] = str(os.getpid());" + f"exec({hunter!r})"
    with box.popen([sys.executable, "-c", start], stdout=-1) as hunting:
        hunting.stdout.readline()
        started = time.monotonic()
        for _ in range(10):
            with pytest.raises(subprocess.TimeoutExpired):
                box.run(["sh", "-c", "sleep 1; sleep 1"], timeout=0.3)
        assert time.monotonic() - started < 60
        hunting.kill()


def test_explain_shows_how_a_command_would_enter(box):
    shared = {"namespaces": minidocker.NamespaceOptions.none()}
    plan = explain.plan(Launch(enter=box.pid), ["true"], shared)
    assert [call.actor for call in plan if call.step == "enter"] == ["joiner"]


def test_a_container_is_known_even_if_init_is_ready_first(leaks):
    """The joiner that starts init in another container's network may report after init does."""

    def share(_):
        with minidocker.Container() as box, minidocker.Container(network=box) as side:
            return side.pid != box.pid

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(share, range(160)))
    leaks.assert_unchanged()
