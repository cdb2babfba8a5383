"""The command as PID 1, and with an init above it: what each gets, and what it cannot have."""

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
"""Every signal that ends a process that does nothing about it, signal(7)."""


def open_files(pid):
    """What the descriptors of a process are."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(link))
    return found


def command_pid(process):
    """The command's pid as the host sees it: a child of init's where there is one."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with_init = Path(f"/proc/{process.pid}/comm").read_text() == "minidocker-init\n"
    return int(children[0]) if with_init else process.pid


@contextlib.contextmanager
def killed_at_last(process):
    """The process as a context, which does not wait for one that a test has failed to end."""
    with process:
        try:
            yield process
        finally:
            process.kill()


# --- which process it is --------------------------------------------------------------------------


def test_the_command_is_pid_1_and_its_pid_outside_is_the_popens():
    with Popen(sh("echo $$; cat"), stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"NSpid:\t{process.pid}\t1\n" in status
        process.stdin.close()


def test_with_init_the_command_is_another_and_the_popens_pid_is_inits():
    with Popen(sh("echo $$ $PPID; cat"), init=True, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout.readline() == b"2 1\n"
        assert f"NSpid:\t{process.pid}\t1\n" in Path(f"/proc/{process.pid}/status").read_text()
        assert Path(f"/proc/{process.pid}/comm").read_text() == "minidocker-init\n"
        process.stdin.close()


def test_without_a_pid_namespace_there_is_no_init(leaks):
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
def test_a_handler_gets_its_signal_and_what_it_does_counts(mode, number, leaks):
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
    # While it waits, the signal is blocked in no mask: only the system call shows it.
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
def test_a_stopped_command_goes_on_with_sigcont(mode, number, leaks):
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
def test_a_stopped_command_dies_of_sigterm_when_it_goes_on(mode, leaks):
    with Popen(["sleep", "50"], **mode) as process:
        process.send_signal(signal.SIGSTOP)
        process.terminate()
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_of_several_signals_the_first_that_ends_the_command_is_told(mode, leaks):
    with Popen(["sleep", "50"], **mode) as process:
        process.kill()
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGKILL
    with Popen(["sleep", "50"], **mode) as process:
        process.terminate()
        process.kill()
        assert process.wait(timeout=20) in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_signal_ends_what_pid_1_started_as_well(survivors, leaks):
    command = sh("sleep 60 & (setsid sleep 70 &) ; echo ready; wait")
    with Popen(command, stdout=PIPE, bufsize=0, env=survivors.env) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM
    survivors.wait_until_gone()


@every_mode
def test_a_shell_is_ended_whenever_it_is_asked_to(mode, leaks):
    # A shell blocks every signal for a moment when it forks, and this one does little else.
    for round_ in range(20):
        with killed_at_last(Popen(sh("while :; do /bin/true; done"), **mode)) as process:
            time.sleep(0.002 * round_)
            process.terminate()
            assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_a_thread_that_blocks_a_signal_keeps_it_from_no_other(mode, leaks):
    threads = python(
        "import signal, threading, time\n"
        "def block():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(50)\n"
        "threading.Thread(target=block, daemon=True).start()\n"
        "time.sleep(50)"
    )
    with killed_at_last(Popen(threads, stdout=PIPE, bufsize=0, **mode)) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM


@every_mode
def test_a_signalfd_gets_a_signal_that_is_then_unblocked(mode, leaks):
    # Between the two, nothing of the process shows that it cared.
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
    with killed_at_last(Popen(reading, stdout=PIPE, bufsize=0, **mode)) as process:
        assert read_line(process.stdout) == "ready"
        process.terminate()
        assert read_line(process.stdout) == "done"
        assert process.wait(timeout=20) == 0


# --- what PID 1 does to itself --------------------------------------------------------------------


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
def test_a_fault_of_pid_1s_own_ends_it(init, leaks):
    fault = python("import ctypes; ctypes.string_at(0)")
    assert minidocker.run(fault, init=init).returncode == -signal.SIGSEGV


@pid_1_or_not
def test_an_alarm_does_not_end_pid_1(init, leaks):
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
        # From outside it is ended all the same.
        process.terminate()
        assert process.wait(timeout=20) == -signal.SIGTERM


@pid_1_or_not
def test_nobody_reaps_orphans_of_pid_1_and_init_does(init, leaks):
    # The middle process ends, and its child becomes PID 1's.
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
        # Until the orphan has ended.
        "os.read(read, 1)\n"
        "deadline = time.monotonic() + 30\n"
        "def states():\n"
        "    stats = []\n"
        "    for name in filter(str.isdigit, os.listdir('/proc')):\n"
        "        try: stats.append(open(f'/proc/{name}/stat').read())\n"
        # Reaped meanwhile.
        "        except (FileNotFoundError, ProcessLookupError): pass\n"
        "    return sorted(stat.rpartition(')')[2].split()[0] for stat in stats)\n"
        # Init reaps it; without one it stays a zombie.
        f"wanted = {['R', 'S'] if init else ['R', 'Z']}\n"
        "while states() != wanted and time.monotonic() < deadline: time.sleep(0.01)\n"
        "print(*states())"
    )
    said = minidocker.run(orphaning, init=init, capture_output=True, text=True, check=True).stdout
    assert said == ("R S\n" if init else "R Z\n")


@every_mode
def test_a_container_ends_with_its_command_where_that_is_or_has_pid_1(mode, survivors, leaks):
    done = minidocker.run(
        sh("sleep 50 >/dev/null 2>&1 & exit 3"), env=survivors.env, capture_output=True, **mode
    )
    assert done.returncode == 3
    if "namespaces" in mode:
        # Without a PID namespace it runs on, as after subprocess.run.
        wait_until(lambda: any("sleep 50" in line for line in survivors.find().values()))
        survivors.kill()
    survivors.wait_until_gone()


# --- init -----------------------------------------------------------------------------------------


def test_init_tells_the_commands_own_status(leaks):
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


def test_when_init_is_killed_everything_ends_and_that_is_told(survivors, leaks):
    with Popen(["sleep", "50"], init=True, env=survivors.env) as process:
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(timeout=20) == -signal.SIGKILL
    survivors.wait_until_gone()


def test_init_reaps_many_orphans_and_tells_the_command_from_them(leaks):
    # Two hundred orphans with other statuses end about when the command does.
    many = sh("i=0; while [ $i -lt 200 ]; do (exit 9 &); i=$((i + 1)); done; exit 5")
    assert minidocker.run(many, init=True).returncode == 5


def test_init_holds_nothing_of_the_callers_open(leaks):
    with Popen(["cat"], init=True, stdin=PIPE, stdout=PIPE) as process:
        # It closes the descriptor of the command that it has just handed over.
        deadline = time.monotonic() + 20
        while len(links := open_files(process.pid)) > 1 and time.monotonic() < deadline:
            assert {link.partition(":")[0] for link in links} == {"anon_inode", "socket"}
        assert len(links) == 1, links
        assert links[0].startswith("socket:")
        assert os.readlink(f"/proc/{process.pid}/cwd") == "/"
        process.stdin.close()


def test_usage_with_init_is_the_commands(leaks):
    busy = python("import time\nwhile time.process_time() < 0.2: pass")
    usage = minidocker.run(busy, init=True).usage
    assert 0.1 < usage.user + usage.system < 2
    usage = minidocker.run(["sleep", "0.2"], init=True).usage
    assert usage.user + usage.system < 0.1
    assert 0.19 < usage.wall < 5


# --- kill 0 ---------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("start_new_session", [None, True])
def test_kill_0_inside_reaches_nobody_outside(mode, start_new_session):
    # In a process of its own, in a group with a bystander: what reached the caller would end both.
    package = Path(minidocker.__file__).parents[1]
    name = next(name for name, options in MODES.items() if options == mode)
    code = (
        f"import subprocess, sys; sys.path += [{str(package)!r}, {str(TESTS)!r}]\n"
        "import minidocker\n"
        "from support.commands import MODES, sh\n"
        "bystander = subprocess.Popen(['sleep', '50'])\n"
        f"options = dict(MODES[{name!r}], start_new_session={start_new_session})\n"
        "for script in ('kill -9 0', 'kill -9 -1 2>/dev/null', 'trap \"\" TERM; kill 0'):\n"
        # Without a PID namespace, -1 is everybody whom the user may signal.
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
    # PID 1 does not reach itself either; any other command ends with its group.
    assert codes[0][0] == ("3" if not mode else "-9")
    assert codes[-1][0] == "3"
