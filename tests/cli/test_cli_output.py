"""Output that is not read, not wanted or not writable, of commands and of minidocker itself."""

import errno
import os
import signal
import subprocess
import time

import pytest

import minidocker
from support.callers import is_alive
from support.command_line import CLI, TIMEOUT, cli, start
from support.denied import deny
from support.waiting import is_full, wait_for_descendant, wait_until

SIGPIPE = 128 + signal.SIGPIPE
LOOP = "while :; do echo y; done"
ENDLESS = {
    "as PID 1": ["run", "yes"],
    "below init": ["run", "--init", "yes"],
    "with the caller's processes": ["run", "--pid", "host", "yes"],
    "a shell's loop": ["run", "sh", "-c", f"trap '' TERM; {LOOP}"],
    "a child of a shell": ["run", "sh", "-c", "yes; exit 3"],
    "untrusted": ["run", "--profile", "untrusted", "yes"],
}


def read_a_line(command, stream="stdout", **options):
    """Close a stream of a command after one line, and return the exit status."""
    with subprocess.Popen([*CLI, *command], **{stream: subprocess.PIPE}, **options) as process:
        assert getattr(process, stream).readline() == b"y\n"
        getattr(process, stream).close()
        return process.wait(TIMEOUT)


@pytest.mark.parametrize("command", ENDLESS.values(), ids=ENDLESS)
def test_a_command_whose_reader_has_gone_ends_by_sigpipe(command, survivors):
    assert {read_a_line(command, env=survivors.env) for _ in range(3)} == {SIGPIPE}


def test_an_entered_command_whose_reader_has_gone_ends_by_sigpipe():
    with minidocker.Container() as box:
        assert read_a_line(["exec", str(box.pid), "yes"]) == SIGPIPE


def test_standard_error_without_a_reader_ends_a_command_too(survivors):
    command = ["run", "sh", "-c", "exec yes >&2"]
    assert read_a_line(command, "stderr", env=survivors.env) == SIGPIPE


def test_a_filter_without_splice_changes_nothing(survivors):
    denied = {"preexec_fn": lambda: deny("splice", errno.EPERM), "env": survivors.env}
    assert read_a_line(["run", "yes"], **denied) == SIGPIPE
    done = cli("run", "seq", "100000", **denied)
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 100_001))


def test_a_command_that_handles_sigpipe_decides_itself(survivors):
    ignoring = "trap '' PIPE; while echo y; do :; done 2>&-; exit 5"
    handling = f"trap 'exit 6' PIPE; {LOOP}"
    for script, status in ((ignoring, 5), (handling, 6)):
        assert read_a_line(["run", "sh", "-c", script], env=survivors.env) == status


def test_a_command_that_writes_nothing_does_not_end_with_its_reader():
    script = "echo y; read line; exit 4"
    with start("run", "-i", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(TIMEOUT) == 4


def test_a_command_that_outlives_minidocker_still_has_its_reader(survivors):
    script = "echo ready; sleep 1000 & wait; echo end; exec sleep 1000"
    with start("run", "--no-die-with-parent", "sh", "-c", script, env=survivors.env) as process:
        assert process.stdout.readline() == "ready\n"
        inner = wait_for_descendant(process.pid, "sleep", "1000")
        process.kill()
        os.kill(inner, signal.SIGTERM)
        assert process.stdout.readline() == "end\n"
        survivors.kill()


def test_the_output_of_a_command_that_has_ended_is_complete_and_in_order():
    script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done"
    done = cli("run", "sh", "-c", script, capture_output=False, stdout=-1, stderr=-2)
    assert done.stdout == "".join(f"out {n}\nerr {n}\n" for n in (1, 2, 3))
    with start("run", "seq", "60000", text=False) as process:
        wait_until(lambda: is_full(process.stdout))
        assert process.stdout.read() == b"".join(b"%d\n" % n for n in range(1, 60_001))
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("tty", "lines"), [((), 20_000), (("-t",), 11_300)], ids=["a pipe", "a terminal"]
)
def test_a_reader_that_does_not_read_does_not_outlast_the_timeout(tty, lines, survivors):
    # One command never ends. The other one has written a little more than a pipe holds.
    for script, timeout, status in (("exec yes", "0.5", 137), (f"exec seq {lines}", "8", 0)):
        options = {"env": survivors.env, "stderr": subprocess.PIPE}
        with start("run", "--timeout", timeout, *tty, "sh", "-c", script, **options) as process:
            assert process.wait(TIMEOUT) == status
            assert "--timeout" in process.stderr.read()


def test_a_second_signal_discards_output_that_is_not_read(survivors):
    with start("run", "yes", env=survivors.env) as process:
        command = wait_for_descendant(process.pid, "yes")
        wait_until(lambda: is_full(process.stdout))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_alive(command))
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130


def test_waiting_for_a_reader_uses_no_cpu_time(survivors):
    with start("run", "yes", env=survivors.env) as process:
        wait_until(lambda: is_full(process.stdout))
        before = _cpu_seconds(process.pid)
        # Measure during this time.
        time.sleep(0.5)
        assert _cpu_seconds(process.pid) - before <= 0.1
        process.kill()


def _cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- minidocker's own output ---------------------------------------------------------------------

OWN = {
    "--help": ["--help"],
    "help run": ["help", "run"],
    "--version": ["--version"],
    "ps": ["ps"],
    "ps --json": ["ps", "--json"],
    "inspect": ["inspect", str(os.getpid())],
    "explain": ["explain", "true"],
    "doctor": ["doctor"],
    "completion": ["completion", "bash"],
}


@pytest.mark.parametrize("command", OWN.values(), ids=OWN)
def test_own_output_without_a_reader_is_no_error(command):
    # The output fits into a pipe, so close the reader before it is written.
    reader, writer = os.pipe()
    os.close(reader)
    done = cli(*command, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (SIGPIPE, "")


@pytest.mark.parametrize("name", ["--version", "help run", "ps --json"])
def test_own_output_that_cannot_be_written_is_an_error(name):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = cli(*OWN[name], capture_output=False, stdout=full, stderr=subprocess.PIPE)
    message = "minidocker: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (125, message)


@pytest.mark.parametrize(
    ("command", "status"),
    [(["run", "no-such-command"], 127), (["run", "--nosuch", "true"], 125), (["rum"], 125)],
)
def test_an_error_message_without_a_reader_leaves_the_exit_status(command, status):
    reader, writer = os.pipe()
    os.close(reader)
    done = cli(*command, capture_output=False, stdout=subprocess.PIPE, stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (status, "")
