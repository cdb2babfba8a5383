"""``minidocker exec``: a command in a running container."""

import json
import os
import signal
import subprocess

import pytest

import minidocker
from support.command_line import CLI, READY_THEN_SLEEP, TIMEOUT, Window, cli, start
from support.waiting import wait_for_descendant


@pytest.fixture
def box():
    """A container named db."""
    with minidocker.Container(hostname="db") as container:
        yield container


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_the_command_runs_in_the_namespaces_of_the_container(box):
    script = "hostname; readlink /proc/self/ns/uts /proc/self/ns/net /proc/self/ns/pid"
    done = cli("exec", str(box.pid), "sh", "-c", script)
    assert done.stderr == ""
    name, *links = done.stdout.splitlines()
    assert name == "db"
    assert links == [os.readlink(f"/proc/{box.pid}/ns/{kind}") for kind in ("uts", "net", "pid")]


def test_any_process_of_the_container_names_it(box):
    with box.popen(["sh", "-c", "echo ready; read line"], stdin=-1, stdout=-1, text=True) as inner:
        assert inner.stdout.readline() == "ready\n"
        assert cli("exec", str(inner.pid), "hostname").stdout == "db\n"


def test_a_container_made_by_unshare_can_be_entered(survivors):
    flags = ["--user", "--map-root-user", "--pid", "--fork", "--uts", "--mount-proc"]
    script = "hostname theirs; echo ready; read line"
    command = ["unshare", *flags, "sh", "-c", script, survivors.mark]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        rows = json.loads(cli("ps", "--json").stdout)
        (pid,) = (row["pid"] for row in rows if survivors.mark in row["command"])
        done = cli("exec", str(pid), "sh", "-c", "hostname; id -u; ps -e | wc -l")
        assert (done.stdout.split()[:2], done.stderr) == (["theirs", "0"], "")
        process.stdin.close()


def test_streams_and_environment_are_those_of_run(box):
    pid = str(box.pid)
    assert cli("exec", pid, "cat", input="not for it").stdout == ""
    assert cli("exec", "-i", pid, "cat", input="for it").stdout == "for it"
    done = cli("exec", "-e", "A=1", "-w", "/usr", pid, "sh", "-c", "echo $A; pwd; echo err >&2")
    assert (done.stdout, done.stderr) == ("1\n/usr\n", "err\n")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["no-such-command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_statuses_are_those_of_run(box, command, status):
    assert cli("exec", str(box.pid), *command).returncode == status


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_command_and_what_it_started_and_not_the_container(
    box, signum, survivors
):
    script = "echo ready; sleep 100; echo not reached"
    # Not dash, which handles a signal late that arrives while it starts a program.
    with start("exec", str(box.pid), "bash", "-c", script, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        assert process.wait(TIMEOUT) == 128 + signum
        assert process.stdout.read() == ""
    survivors.wait_until_gone()
    assert box.run(["true"]).returncode == 0


def test_the_command_ends_when_minidocker_is_killed(box, survivors):
    with start("exec", str(box.pid), *READY_THEN_SLEEP, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.wait()
        survivors.wait_until_gone()


def test_a_shell_at_a_terminal_has_job_control(box):
    command = ["bash", "--norc", "--noprofile", "-i"]
    with Window([*CLI, "exec", "-it", str(box.pid), *command]) as window:
        window.type("PS1='in''ner# '\n")
        window.expect("inner# ")
        assert window.is_raw
        window.type("hostname; sleep 100\n")
        window.expect("db\r\n")
        wait_for_descendant(window.process.pid, "sleep", "100")
        window.type("\x1a")
        window.expect(r"Stopped +sleep 100")
        # Bash may not have noticed yet, and would not leave a stopped job behind.
        window.type("kill -KILL %1; disown %1; echo reap''ed\n")
        window.expect("reaped\r\n")
        window.type("exit 6\n")
        assert window.wait() == 6
        assert window.attributes == window.attributes_before
        assert b"no job control" not in window.seen


def test_ctrl_c_ends_a_command_at_a_terminal(box):
    with Window([*CLI, "exec", "-it", str(box.pid), *READY_THEN_SLEEP]) as window:
        window.expect("ready")
        window.type("\x03")
        assert window.wait() == 130
        assert window.attributes == window.attributes_before


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        ("web", "exec: 'web' is not a PID"),
        ("4194303", "exec: no process 4194303 is alive here; see minidocker ps"),
        ("own", "it shares every namespace with this process"),
    ],
)
def test_a_pid_without_a_container_is_refused(pid, words):
    done = cli("exec", str(os.getpid()) if pid == "own" else pid, "true")
    assert done.returncode == 125
    (line,) = done.stderr.splitlines()
    assert line.startswith("minidocker: ")
    assert words in line


@pytest.mark.plain(reason="root may inspect every process")
def test_another_users_process_is_refused_with_the_remedy():
    done = cli("exec", "1", "true")
    assert done.returncode == 125
    assert done.stderr == (
        "minidocker: exec: process 1 belongs to another user; run this as that user or as root\n"
    )


def test_run_can_share_the_network_of_a_container(box):
    script = "readlink /proc/self/ns/net; hostname"
    network = f"container:{box.pid}"
    done = cli("run", "--network", network, "-h", "other", "sh", "-c", script)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [os.readlink(f"/proc/{box.pid}/ns/net"), "other"]
    done = cli("run", "--network", "container:4194303", "true")
    assert done.returncode == 125
    assert "--network container: no process 4194303 is alive here" in done.stderr
