"""The command line as a job of a shell: background, foreground, stopped and continued."""

import os
import shlex
import signal

import pytest

from support.callers import is_alive
from support.command_line import CLI, Window
from support.waiting import descendants_of, wait_for_descendant, wait_for_state, wait_until

RUN = shlex.join([*CLI, "run"])
BASH = ("bash", "--norc", "--noprofile", "-i")
PROMPT = r"outer\$ "
ECHO = "sh -c 'echo in''side; stty -a | grep -o \" icanon\"; read line; echo got $line'"


@pytest.fixture
def window():
    with Window(BASH) as shell:
        shell.expect(PROMPT)
        yield shell


def foreground(window):
    return os.tcgetpgrp(window.master)


def in_background(window, line):
    """Start a job that stops in the background, and return its pid."""
    window.type(f"{line} &\n")
    pid = int(window.expect(r"\[1\] (\d+)\r\n").group(1))
    wait_for_state(pid, "T")
    return pid


def leave(window, status):
    window.expect(PROMPT)
    window.type("echo status $?; exit\n")
    window.expect(f"status {status}\r\n")
    assert window.wait() == 0
    assert window.attributes == window.attributes_before
    assert b"Traceback" not in window.seen


def test_a_background_job_with_a_terminal_stops_and_fg_starts_its_command(window):
    in_background(window, f"{RUN} -it {ECHO}")
    window.type("fg\n")
    # The command's terminal is like the caller's in the foreground, and not like that of a shell
    # that edits a line.
    window.expect("inside\r\n icanon")
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 0)


def test_a_background_job_does_not_take_the_input_of_its_shell(window):
    in_background(window, f"{RUN} -i sh -c 'read line; echo got $line; exit 3'")
    window.type("echo for the sh''ell\n")
    window.expect("for the shell\r\n")
    window.type("fg\n")
    window.expect(r"read line")
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 3)


def test_a_background_job_that_uses_no_terminal_does_not_stop(window):
    window.type(f"{RUN} sh -c 'read line; echo got $? in''side' &\n")
    window.expect("got 1 inside")
    window.type("wait %1\n")
    leave(window, 0)


def test_a_job_that_continues_in_the_background_stops_until_it_is_in_the_foreground(window):
    window.type(f"{RUN} -it {ECHO}\n")
    window.expect("inside")
    pid = foreground(window)
    os.kill(pid, signal.SIGTSTP)
    for _ in range(2):
        window.expect(rf"Stopped.*{PROMPT}")
        window.type("bg\n")
        window.expect(PROMPT)
        wait_for_state(pid, "T")
        window.type("jobs\n")
    window.expect(rf"Stopped.*{PROMPT}")
    window.type("fg\n")
    wait_until(lambda: foreground(window) == pid and window.is_raw)
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 0)


@pytest.fixture
def reader(tmp_path):
    script = tmp_path / "reader"
    script.write_text("echo started; read line; echo got $line\n")
    return str(script)


@pytest.mark.parametrize(
    "command",
    [
        "sh READER",
        "sh -c 'sh READER; :'",
        "sh -c 'setsid -w sh READER; :'",
        "sh -c 'trap \"\" TSTP; . READER'",
        "--init sh READER",
        "--pid host sh READER",
    ],
    ids=["command", "child", "other session", "ignores SIGTSTP", "init", "host's pids"],
)
def test_a_stopped_job_leaves_the_terminal_to_its_shell(window, reader, command):
    window.type(f"{RUN} -i {command.replace('READER', reader)}\n")
    window.expect("started\r\n")
    pid = foreground(window)
    window.type("\x1a")
    window.expect(rf"Stopped.*{PROMPT}")
    window.type("bg\n")
    window.expect(PROMPT)
    wait_for_state(pid, "T")
    read_by_the_shell_then_by_the_job(window, pid)


def test_a_job_continued_after_sigstop_leaves_the_terminal_to_its_shell(window, reader):
    window.type(f"{RUN} -i sh {reader}\n")
    window.expect("started\r\n")
    pid = foreground(window)
    os.kill(pid, signal.SIGSTOP)
    window.expect(rf"Stopped.*{PROMPT}")
    os.kill(pid, signal.SIGCONT)
    for process in (*descendants_of(pid), pid):
        wait_for_state(process, "T")
    read_by_the_shell_then_by_the_job(window, pid)


def read_by_the_shell_then_by_the_job(window, pid):
    for word in ("one", "two", "three"):
        window.type(f"echo for the sh''ell {word}\n")
        window.expect(f"for the shell {word}\r\n")
    window.type("fg\n")
    wait_until(lambda: foreground(window) == pid)
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_job_ends_in_the_background(window, signum):
    window.type(f"{RUN} -it sleep 100\n")
    command = wait_for_descendant(window.process.pid, "sleep", "100")
    pid = foreground(window)
    wait_until(lambda: window.is_raw)
    os.kill(pid, signal.SIGTSTP)
    window.expect(rf"Stopped.*{PROMPT}")
    os.kill(pid, signum)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_alive(pid) and not is_alive(command))
    window.type("exit\n")
    window.wait()
    assert window.attributes == window.attributes_before


def test_sigstop_and_fg_leave_the_terminal_usable(window):
    window.type(f"{RUN} -it {ECHO}\n")
    window.expect("inside")
    pid = foreground(window)
    wait_until(lambda: window.is_raw)
    os.kill(pid, signal.SIGSTOP)
    window.expect(rf"Stopped.*{PROMPT}")
    window.type("fg\n")
    wait_until(lambda: foreground(window) == pid and window.is_raw)
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 0)


def test_a_background_process_that_no_shell_can_continue_is_refused(window):
    # The process group has no parent in the session: the kernel does not stop it.
    window.type(f"sh -c '{RUN} -it true < /dev/tty & ' &\n")
    window.expect("minidocker: this process is in the background of its terminal, and no shell")
    window.type("wait\n")
    leave(window, 0)


def test_a_terminal_of_another_session_is_restored(window):
    window.type(f"setsid -w {RUN} -it {ECHO}\n")
    window.expect("inside")
    wait_until(lambda: window.is_raw)
    window.type("hello\n")
    window.expect("got hello")
    leave(window, 0)
