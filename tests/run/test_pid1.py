"""The command as PID 1 and under an init: its signals, status and orphans."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, Popen, SpecError
from support.commands import MODES, python, read_line, sh
from support.places import TESTS
from support.waiting import state_of, wait_for_state, wait_until

PIPE = subprocess.PIPE
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
pid_1_or_not = pytest.mark.parametrize("init", [False, True], ids=["pid1", "init"])

ENDS = [
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT,
    signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGUSR1, signal.SIGSEGV, signal.SIGUSR2,
    signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGXCPU, signal.SIGXFSZ,
    signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR, signal.SIGSYS,
    signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMAX,
]  # fmt: skip
"""The signals whose default action ends a process, signal(7)."""


def open_files(pid):
    """Return the targets of a process's descriptors."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # The process may close it in the meantime.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def command_pid(process):
    """Return the host pid of the command, which is a child of init if there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with_init = Path(f"/proc/{process.pid}/comm").read_text() == "minidocker-init\n"
    return int(children[0]) if with_init else process.pid


@contextlib.contextmanager
def kill_at_exit(process):
    """Enter the process's context, and kill it at the end: a test may have failed to end it."""
    with process:
        try:
            yield process
        finally:
            process.kill()


# --- pids -----------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_the_command_is_pid_1_and_its_pid_outside_is_that_of_the_popen():
    with Popen(sh("echo $$; cat"), stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"NSpid:\t{process.pid}\t1\n" in status
        process.stdin.close()


def test_with_init_the_command_is_another_process_and_the_popen_has_the_pid_of_init():
    with Popen(sh("echo $$ $PPID; cat"), init=True, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout.readline() == b"2 1\n"
        assert f"NSpid:\t{process.pid}\t1\n" in Path(f"/proc/{process.pid}/status").read_text()
        assert Path(f"/proc/{process.pid}/comm").read_text() == "minidocker-init\n"
        process.stdin.close()


def test_init_without_a_pid_namespace_is_refused(leaks):
    with pytest.raises(SpecError) as caught:
        minidocker.run(["true"], init=True, namespaces=NamespaceOptions.all().without_pid())
    assert caught.value.option == "init"


# --- signals from outside -------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("number", ENDS)
def test_a_signal_that_ends_any_other_process_ends_the_command(mode, number, leaks):
    with Popen(["sleep", "50"], restore_signals=True, **mode) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) == -number


@every_mode
@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT])
def test_a_signal_that_does_nothing_by_default_does_nothing(mode, number, leaks):
    with Popen(["cat"], stdin=PIPE, **mode) as process:
        process.send_signal(number)
        process.send_signal(0)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
        process.stdin.close()
        assert process.wait(timeout=20) == 0


@every_mode
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTSTP, signal.SIGRTMIN + 5])
def test_a_handler_gets_its_signal_and_decides_the_exit_status(mode, number, leaks):
    handling = python(
        "import os, signal\n"
        "def handler(number, frame):\n"
        "    os.write(1, b'%d\\n' % number)\n"
        "    os._exit(3)\n"
        f"signal.signal({number}, handler)\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    with Popen(handling, stdout=PIPE, bufsize=0, **mode) as process:
        assert read_line(process.stdout) == "ready"
        process.send_signal(number)
        assert read_line(process.stdout) == str(int(number))
        assert process.wait(timeout=20) == 3


@every_mode
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGTSTP, signal.SIGRTMIN + 5])
def test_a_signal_that_is_ignored_does_nothing(mode, number, leaks):
    ignoring = python(
        f"import signal, sys; signal.signal({number}, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    with Popen(ignoring, stdin=PIPE, stdout=PIPE, bufsize=0, **mode) as process:
        assert read_line(process.stdout) == "ready"
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
        assert state_of(command_pid(process)) in "SR"
        process.stdin.close()
        assert process.wait(timeout=20) == 0


@every_mode
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGRTMIN + 5])
def test_a_blocked_signal_stays_pending_until_it_is_waited_for(mode, number, leaks):
    blocking = python(
        "import signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(*map(int, signal.sigpending()), flush=True)\n"
        f"print(int(signal.sigwait([{number}])), flush=True)"
    )
    with Popen(blocking, stdin=PIPE, stdout=PIPE, bufsize=0, **mode) as process:
        assert read_line(process.stdout) == "ready"
        process.send_signal(number)
        process.stdin.write(b"\n")
        assert read_line(process.stdout) == str(int(number))
        assert read_line(process.stdout) == str(int(number))
        assert process.wait(timeout=20) == 0


@every_mode
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGRTMIN + 5])
def test_a_thread_that_waits_for_a_signal_gets_it(mode, number, leaks):
    # During sigwait(3) the signal is not in the blocked mask. The masks in /proc do not show that a
    # thread waits for the signal; only the thread's system call does.
    waiting = python(
        "import signal, sys, threading\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{number}])\n"
        "def wait():\n"
        f"    print(int(signal.sigwait([{number}])), flush=True)\n"
        "thread = threading.Thread(target=wait)\n"
        "thread.start()\n"
        "print('ready', flush=True)\n"
        "thread.join()"
    )
    with Popen(waiting, stdout=PIPE, bufsize=0, **mode) as process:
        assert read_line(process.stdout) == "ready"
        process.send_signal(number)
        assert read_line(process.stdout) == str(int(number))
        assert process.wait(timeout=20) == 0


@every_mode
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU])
def test_sigcont_resumes_a_stopped_command(mode, number, leaks):
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0, **mode) as process:
        process.stdin.write(b"one\n")
        assert read_line(process.stdout) == "one"
        command = command_pid(process)
        process.send_signal(number)
        wait_for_state(command, "T")
        assert process.poll() is None
        process.stdin.write(b"two\n")
        process.send_signal(signal.SIGCONT)
        assert read_line(process.stdout) == "two"
        process.send_signal(number)
        wait_for_state(command, "T")
        # A stopped command can be killed.
        process.kill()
        assert process.wait(timeout=20) == -signal.SIGKILL


@every_mode
def test_a_stopped_command_dies_of_sigterm_when_it_is_resumed(mode, leaks):
    with Popen(["sleep", "50"], **mode) as process:
        process.send_signal(signal.SIGSTOP)
        process.terminate()
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_the_status_is_the_first_signal_that_ends_the_command(mode, leaks):
    with Popen(["sleep", "50"], **mode) as process:
        process.kill()
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGKILL
    with Popen(["sleep", "50"], **mode) as process:
        process.terminate()
        process.kill()
        assert process.wait(timeout=20) in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_signal_that_ends_pid_1_ends_its_descendants_too(survivors, leaks):
    command = sh("sleep 60 & (setsid sleep 70 &) ; echo ready; wait")
    with Popen(command, stdout=PIPE, bufsize=0, env=survivors.env) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM
    survivors.wait_until_gone()


@every_mode
def test_sigterm_ends_a_shell_at_any_moment(mode, leaks):
    # A shell blocks all signals for a moment when it forks, and this one forks all the time.
    for round_ in range(20):
        with kill_at_exit(Popen(sh("while :; do /bin/true; done"), **mode)) as process:
            time.sleep(0.002 * round_)
            process.terminate()
            assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_a_thread_that_blocks_a_signal_does_not_keep_it_from_the_others(mode, leaks):
    threads = python(
        "import signal, threading, time\n"
        "def block():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(50)\n"
        "threading.Thread(target=block, daemon=True).start()\n"
        "time.sleep(50)"
    )
    with kill_at_exit(Popen(threads, stdout=PIPE, bufsize=0, **mode)) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_a_signalfd_gets_a_signal_that_is_then_unblocked(mode, leaks):
    # /proc does not show whether the process has handled the signal that it read from the signalfd.
    reading = python(
        "import ctypes, os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "mask = ctypes.c_uint64(1 << 14)\n"
        "fd = ctypes.CDLL(None).signalfd(-1, ctypes.byref(mask), 0)\n"
        "print('ready', flush=True)\n"
        "os.read(fd, 128)\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])\n"
        "import time; time.sleep(0.3)\n"
        "print('done', flush=True)"
    )
    with kill_at_exit(Popen(reading, stdout=PIPE, bufsize=0, **mode)) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert read_line(process.stdout) == "done"
        assert process.wait(timeout=20) == 0


# --- signals from inside --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, signal.SIGABRT])
def test_pid_1_cannot_signal_itself_and_with_init_the_command_can(number, leaks):
    itself = sh(f"kill -{int(number)} $$; echo survived; exit 4")
    done = minidocker.run(itself, capture_output=True)
    assert (done.stdout, done.returncode) == (b"survived\n", 4)
    done = minidocker.run(itself, capture_output=True, init=True)
    assert (done.stdout, done.returncode) == (b"", -number)


def test_pid_1_can_signal_itself_where_it_has_a_handler(leaks):
    done = minidocker.run(sh("trap 'echo caught; exit 5' TERM; kill $$"), capture_output=True)
    assert (done.stdout, done.returncode) == (b"caught\n", 5)


@pid_1_or_not
def test_abort_ends_pid_1_by_an_illegal_access(init, leaks):
    aborting = python("import os; os.abort()")
    expected = -signal.SIGABRT if init else -signal.SIGSEGV
    assert minidocker.run(aborting, init=init).returncode == expected


@pid_1_or_not
def test_a_fault_ends_pid_1(init, leaks):
    fault = python("import ctypes; ctypes.string_at(0)")
    assert minidocker.run(fault, init=init).returncode == -signal.SIGSEGV


@pid_1_or_not
def test_an_alarm_ends_the_command_under_init_and_not_as_pid_1(init, leaks):
    alarmed = python(
        "import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.1)\n"
        "time.sleep(0.3); print('survived')"
    )
    done = minidocker.run(alarmed, init=init, capture_output=True)
    if init:
        assert (done.stdout, done.returncode) == (b"", -signal.SIGALRM)
    else:
        assert (done.stdout, done.returncode) == (b"survived\n", 0)


@pid_1_or_not
def test_a_shell_loop_as_pid_1_runs_on_after_its_reader_has_gone(init, survivors, leaks):
    loop = sh("while :; do echo line; done 2>/dev/null")
    process = Popen(loop, init=init, stdout=PIPE, env=survivors.env)
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    if init:
        assert process.wait(timeout=20) == -signal.SIGPIPE
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        # A signal from outside ends it.
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM


@pytest.mark.smoke
@pid_1_or_not
def test_init_reaps_orphans_and_a_command_as_pid_1_does_not(init, leaks):
    # The middle process ends, and PID 1 becomes its child's parent.
    orphaning = python(
        "import os, time\n"
        "read, write = os.pipe()\n"
        "middle = os.fork()\n"
        "if middle == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.close(read)\n"
        "        while os.getppid() != 1: time.sleep(0.001)\n"
        "        os._exit(0)\n"
        "    os._exit(0)\n"
        "os.close(write)\n"
        "os.waitpid(middle, 0)\n"
        # The pipe is at its end when the orphan has ended.
        "os.read(read, 1)\n"
        "deadline = time.monotonic() + 30\n"
        "def states():\n"
        "    stats = []\n"
        "    for name in filter(str.isdigit, os.listdir('/proc')):\n"
        "        try: stats.append(open(f'/proc/{name}/stat').read())\n"
        # Init may reap it after listdir.
        "        except (FileNotFoundError, ProcessLookupError): pass\n"
        "    return sorted(stat.rpartition(')')[2].split()[0] for stat in stats)\n"
        # Init reaps the orphan; without init it stays a zombie.
        f"wanted = {['R', 'S'] if init else ['R', 'Z']}\n"
        "while states() != wanted and time.monotonic() < deadline: time.sleep(0.01)\n"
        "print(*states())"
    )
    done = minidocker.run(orphaning, init=init, capture_output=True, text=True, check=True)
    assert done.stdout == ("R S\n" if init else "R Z\n")


@every_mode
def test_a_container_with_a_pid_namespace_ends_with_its_command(mode, survivors, leaks):
    done = minidocker.run(
        sh("sleep 50 >/dev/null 2>&1 & exit 3"), env=survivors.env, capture_output=True, **mode
    )
    assert done.returncode == 3
    if "namespaces" in mode:
        # Without a PID namespace the background job runs on, as after subprocess.run.
        wait_until(lambda: any("sleep 50" in line for line in survivors.find().values()))
        survivors.kill()
    survivors.wait_until_gone()


# --- init -----------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_init_reports_the_commands_own_status(leaks):
    for status in (0, 1, 42, 255):
        assert minidocker.run(sh(f"exit {status}"), init=True).returncode == status
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGRTMIN + 7):
        assert minidocker.run(sh(f"kill -{int(number)} $$"), init=True).returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_init_forwards_the_signals_that_others_send_to_its_pid(number, leaks):
    handling = sh(
        f"trap 'echo got; exit 6' {int(number)}; echo ready; while :; do sleep 0.05; done"
    )
    with Popen(handling, init=True, stdout=PIPE, bufsize=0) as process:
        assert read_line(process.stdout) == "ready"
        os.kill(process.pid, number)
        assert read_line(process.stdout) == "got"
        assert process.wait(timeout=20) == 6
    with Popen(["sleep", "50"], init=True) as process:
        os.kill(process.pid, number)
        assert process.wait(timeout=20) == -number


def test_killing_init_ends_everything_and_is_reported(survivors, leaks):
    with Popen(["sleep", "50"], init=True, env=survivors.env) as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
    survivors.wait_until_gone()


def test_init_does_not_take_an_orphans_status_for_the_commands(leaks):
    # Two hundred orphans with another status end at about the same time as the command.
    many = sh("i=0; while [ $i -lt 200 ]; do (exit 9 &); i=$((i + 1)); done; exit 5")
    assert minidocker.run(many, init=True).returncode == 5


def test_init_holds_none_of_the_callers_descriptors(leaks):
    with Popen(["cat"], init=True, stdin=PIPE, stdout=PIPE) as process:
        # Init may still have the command's pidfd, which it has just sent.
        deadline = time.monotonic() + 20
        while len(links := open_files(process.pid)) > 3 and time.monotonic() < deadline:
            assert {link.partition(":")[0] for link in links} <= {"anon_inode", "socket", "pidfd"}
        # Its signals, the caller's pidfd, and the socket to the caller.
        assert len(links) == 3, links
        assert sum(link.startswith("socket:") for link in links) == 1
        assert os.readlink(f"/proc/{process.pid}/cwd") == "/"
        process.stdin.close()


def test_usage_with_init_is_that_of_the_command(leaks):
    busy = python("import time\nwhile time.process_time() < 0.2: pass")
    usage = minidocker.run(busy, init=True).usage
    assert 0.1 < usage.user + usage.system < 2
    usage = minidocker.run(["sleep", "0.2"], init=True).usage
    assert usage.user + usage.system < 0.1
    assert 0.19 < usage.wall < 5


# --- kill 0 ---------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("start_new_session", [None, True])
def test_kill_0_inside_reaches_no_process_outside(mode, start_new_session):
    # The caller is a separate process with a bystander in its group: a stray signal would end both.
    package = Path(minidocker.__file__).parents[1]
    name = next(name for name, options in MODES.items() if options == mode)
    code = (
        f"import subprocess, sys; sys.path += [{str(package)!r}, {str(TESTS)!r}]\n"
        "import minidocker\n"
        "from support.commands import MODES, sh\n"
        "bystander = subprocess.Popen(['sleep', '50'])\n"
        f"options = dict(MODES[{name!r}], start_new_session={start_new_session})\n"
        "for script in ('kill -9 0', 'kill -9 -1 2>/dev/null', 'trap \"\" TERM; kill 0'):\n"
        # Without a PID namespace, -1 means every process that the user may signal.
        f"    if '-1' in script and {'namespaces' in mode}: continue\n"
        "    done = minidocker.run(sh(script + '; exit 3'), **options)\n"
        "    print(done.returncode, bystander.poll(), flush=True)\n"
        "bystander.kill()\n"
        "bystander.wait()"
    )
    done = subprocess.run(
        python(code), capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == 0, done.stderr
    codes = [line.split() for line in done.stdout.splitlines()]
    assert all(bystander == "None" for _, bystander in codes)
    # PID 1 cannot kill itself either; any other command ends with its group.
    assert codes[0][0] == ("3" if not mode else "-9")
    assert codes[-1][0] == "3"
