"""``-t``: the command's terminal, and the state of the caller's."""

import os
import shlex
import signal
import subprocess
import time

import pytest

from support.callers import is_alive
from support.command_line import CLI, READY_THEN_SLEEP, TIMEOUT, Window, cli, start
from support.waiting import is_full, wait_for_descendant, wait_for_state, wait_until

RUN = shlex.join([*CLI, "run"])
BASH = ("bash", "--norc", "--noprofile")
TICKING = "while :; do echo tick; sleep 0.05; done"


def terminal(*arguments: str, **options) -> Window:
    return Window([*CLI, "run", *arguments], **options)


def test_the_command_gets_a_terminal_of_its_own_as_its_controlling_terminal():
    script = "test -t 0 && test -t 1 && test -t 2 && exec 3<>/dev/tty && tty"
    with terminal("-t", "sh", "-c", script) as window:
        inside = window.expect(r"(/dev/pts/\d+)\r+\n").group(1).decode()
        assert window.wait() == 0
        assert inside != os.ttyname(window.slave)


@pytest.mark.root(reason="runs the command as another user of the host")
def test_the_user_owns_the_terminal_and_can_open_it_by_name():
    with terminal("-t", "-u", "4321", "sh", "-c", "exec 3<>$(tty) && stat -Lc %u $(tty)") as window:
        window.expect("4321\r*\n")
        assert window.wait() == 0


def test_bash_inside_has_job_control_and_leaves_the_callers_terminal_as_it_was():
    with terminal("-it", *BASH, "-i") as window:
        window.type("PS1='in''ner# '\n")
        window.expect("inner# ")
        assert window.is_raw
        window.type("sleep 100\n")
        wait_for_descendant(window.process.pid, "sleep", "100")
        window.type("\x1a")
        window.expect(r"Stopped +sleep 100")
        window.type("bg; jobs\n")
        window.expect(r"Running +sleep 100")
        window.type("kill %1; wait; echo reaped\n")
        window.expect("reaped\r\n")
        window.type("fg\n")
        window.expect("no such job")
        window.type("exit 7\n")
        assert window.wait() == 7
        assert window.attributes == window.attributes_before
        assert b"no job control" not in window.seen


def test_ctrl_c_at_a_shell_inside_ends_its_command_and_not_the_shell():
    with terminal("-it", *BASH, "-i") as window:
        window.expect(r"outer\$ ")
        window.type("sleep 100\n")
        wait_for_descendant(window.process.pid, "sleep", "100")
        window.type("\x03")
        window.expect(r"\^C.*outer\$ ")
        window.type("echo status $?\n")
        window.expect(r"status 130\r\n")
        window.type("exit\n")
        window.wait()


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["as PID 1", "below init"])
@pytest.mark.parametrize(
    ("key", "status"), [("\x03", 130), ("\x1c", 131)], ids=["ctrl-c", "ctrl-backslash"]
)
def test_the_keys_that_end_a_program_end_one_that_does_not_handle_them(key, status, init):
    with terminal("-it", *init, *READY_THEN_SLEEP) as window:
        window.expect("ready")
        window.type(key)
        assert window.wait() == status
        assert window.attributes == window.attributes_before


def test_a_program_that_handles_ctrl_c_receives_it_once():
    script = "n=0; trap 'n=$((n+1)); echo got $n' INT; echo ready; while :; do sleep 0.05; done"
    with terminal("-it", "sh", "-c", script) as window:
        window.expect("ready")
        window.type("\x03")
        window.expect("got 1")
        window.type("\x03")
        window.expect("got 2")
        window.type("\x1c")
        assert window.wait() == 131
        assert b"got 3" not in window.seen


def test_the_window_size_is_the_callers_and_follows_it():
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done"
    with terminal("-t", "sh", "-c", script, rows=31, columns=97) as window:
        window.expect(r"31 97\r+\n")
        window.expect("ready")
        window.resize(40, 120)
        window.expect(r"40 120\r+\n")
        window.type("\x03")
        assert window.wait() == 130


def test_keys_go_through_unchanged():
    with terminal(
        "-it", "sh", "-c", "stty raw -echo; echo ready; head -c 256 | od -An -v -tu1"
    ) as w:
        w.expect("ready")
        w.type(bytes(range(256)))
        expected = " ".join(str(number) for number in range(256))
        shown = b""
        while len(shown.split()) < 256:
            shown += w.expect(r"[^\n]*\n").group()
        assert " ".join(shown.decode().split()) == expected
        assert w.wait() == 0


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGQUIT, 131)],
)
def test_the_callers_terminal_is_restored_when_a_signal_ends_the_command(signum, status):
    with terminal("-it", *READY_THEN_SLEEP) as window:
        window.expect("ready")
        wait_until(lambda: window.is_raw)
        window.process.send_signal(signum)
        assert window.wait() == status
        assert window.attributes == window.attributes_before


def test_sigterm_ends_an_interactive_shell_which_ignores_it():
    with terminal("-it", *BASH, "-i") as window:
        window.type("echo rea''dy\n")
        window.expect("ready\r\n")
        window.process.send_signal(signal.SIGTERM)
        assert window.wait() != 0
        assert window.attributes == window.attributes_before


def test_the_callers_terminal_stays_as_it_is_when_the_command_cannot_be_run():
    with terminal("-it", "no-such-command") as window:
        window.expect("minidocker: cannot execute 'no-such-command'")
        assert window.wait() == 127
        assert window.attributes == window.attributes_before


def test_a_message_at_a_raw_terminal_returns_the_carriage():
    with terminal("-it", "--timeout", "1", *READY_THEN_SLEEP) as window:
        window.expect(r"minidocker: killed after 1 s \(--timeout\)\r\n")
        assert window.wait() != 0
        assert window.attributes == window.attributes_before


def test_without_i_the_callers_terminal_is_not_touched_and_its_keys_do_not_go_in():
    with terminal("-t", "sh", "-c", "echo ready; read line; echo read $line") as window:
        window.expect("ready")
        assert window.attributes == window.attributes_before
        window.type("into the void\n")
        # Give a wrong implementation time to read the keys: no event shows that it will not.
        time.sleep(0.3)
        window.type("\x03")
        assert window.wait() == 130
        assert b"read into" not in window.seen


def test_a_stopped_job_of_a_shell_continues_where_it_was():
    with Window([*BASH, "-i"]) as window:
        window.expect(r"outer\$ ")
        window.type(f"{RUN} -it bash --norc --noprofile -i\n")
        window.type("echo pid''is $PPID\n")
        window.expect("pidis 0")
        cli_pid = _foreground(window)
        assert window.is_raw
        # Send it from outside: at a terminal in raw mode Ctrl-Z goes to the inner shell.
        os.kill(cli_pid, signal.SIGTSTP)
        window.expect(r"Stopped.*outer\$ ")
        assert not window.is_raw
        window.type("echo outer''side\n")
        window.expect("outerside")
        window.type("fg\n")
        wait_until(lambda: _foreground(window) == cli_pid and window.is_raw)
        window.type("echo in''side; exit 5\n")
        window.expect("inside")
        window.expect(r"outer\$ ")
        window.type("echo status $?; stty -a > /dev/null; exit\n")
        window.expect("status 5")
        assert window.wait() == 0
        assert window.attributes == window.attributes_before


def test_ctrl_z_stops_a_command_without_a_terminal_and_fg_continues_it():
    with Window([*BASH, "-i"]) as window:
        window.expect(r"outer\$ ")
        window.type(f"{RUN} sh -c '{TICKING}'\n")
        window.expect("tick\r\n.*tick\r\n")
        loop = wait_for_descendant(window.process.pid, "sh", "-c", TICKING)
        window.type("\x1a")
        window.expect(r"Stopped.*outer\$ ")
        wait_for_state(loop, "T")
        window.type("echo qui''et\n")
        window.expect("quiet\r\n")
        assert b"tick" not in window.seen
        window.type("fg\n")
        window.expect("tick\r\n.*tick\r\n")
        window.type("\x03")
        window.expect(r"outer\$ ")
        window.type("echo status $?; exit\n")
        window.expect("status 130")
        window.wait()


def test_the_command_gets_a_terminal_even_if_the_caller_has_none():
    done = cli("run", "-it", "sh", "-c", "stty size; cat", input="hello\n")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["24 80", "hello", "hello"] or (
        # The order of echo and output depends on which process is faster.
        sorted(done.stdout.splitlines()) == ["24 80", "hello", "hello"]
    )


@pytest.mark.parametrize("text", ["echo one; sleep 0.3; echo two\n", "cat\n", ""])
def test_the_end_of_input_ends_a_shell_at_its_terminal(text):
    done = cli("run", "-it", *BASH, "-i", input=text)
    assert done.returncode == 0
    if "two" in text:
        assert "one" in done.stdout.splitlines()
        assert "two" in done.stdout.splitlines()


def test_all_output_arrives_after_the_end_of_the_command(tmp_path):
    expected = b"".join(b"%d\r\n" % number for number in range(1, 200_001))
    done = cli("run", "-t", "seq", "200000", text=False)
    assert done.returncode == 0
    assert done.stdout == expected


def test_output_arrives_whole_at_a_slow_reader():
    with start("run", "-t", "seq", "20000", text=False) as process:
        wait_until(lambda: is_full(process.stdout))
        output = process.stdout.read()
    assert process.returncode == 0
    assert output == b"".join(b"%d\r\n" % number for number in range(1, 20_001))


def test_a_background_process_does_not_delay_the_end(survivors):
    script = "setsid sleep 100 & echo done"
    begin = time.monotonic()
    done = cli("run", "--pid", "host", "-t", "sh", "-c", script, env=survivors.env, text=False)
    assert done.stdout == b"done\r\n"
    assert time.monotonic() - begin < 60
    survivors.kill()


def test_the_command_is_hung_up_when_the_reader_closes_its_output(survivors):
    with start(
        "run", "-t", "sh", "-c", "while :; do echo tick; done", env=survivors.env
    ) as process:
        assert process.stdout.readline() == "tick\n"
        process.stdout.close()
        assert process.wait(TIMEOUT) == 129


def test_a_signal_is_forwarded_while_the_output_is_not_read():
    with start("run", "-t", "yes") as process:
        command = wait_for_descendant(process.pid, "yes")
        wait_until(lambda: is_full(process.stdout))
        process.send_signal(signal.SIGINT)
        # The first signal ends the command, the second discards its unread output.
        wait_until(lambda: not is_alive(command))
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130


def test_waiting_uses_no_cpu_time():
    script = "echo ready; exec sleep 1.5"
    with start("run", "-it", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.stdout.readline() == "ready\n"
        wait_for_state(process.pid, "S")
        before = _cpu_seconds(process.pid)
        # Measure during this time.
        time.sleep(0.8)
        assert _cpu_seconds(process.pid) - before <= 0.02
        assert process.wait(TIMEOUT) == 0


def test_explain_prints_its_steps_before_the_terminal_changes():
    with terminal("-it", "--explain", "--hostname", "lab", "true") as window:
        assert window.wait() == 0
        assert b'sethostname("lab", 3)\r\n' in window.seen
        assert window.seen.endswith(b"exit status 0\r\n")


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _foreground(window: Window) -> int:
    return os.tcgetpgrp(window.master)
