"""Ctrl-C or any other exception ends the whole container at once, at any moment of a run."""

import fcntl
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import Popen
from support.commands import MODES, python, read_line, sh
from support.launches import Launch, run_by
from support.places import TESTS
from support.waiting import descendants_of, state_of, wait_until

PIPE = subprocess.PIPE
PACKAGE = str(Path(minidocker.__file__).parents[1])
every_mode = pytest.mark.parametrize("mode", list(MODES))


class Interpreter:
    """A separate Python in a session of its own, so that only it gets the SIGINT of Ctrl-C."""

    def __init__(self, code, survivors):
        prologue = (
            f"import os, subprocess, sys, time; sys.path += [{PACKAGE!r}, {str(TESTS)!r}]\n"
            "import minidocker\n"
            "from support.commands import MODES, sh\n"
        )
        self.process = subprocess.Popen(
            python(prologue + code),
            stdout=PIPE,
            stderr=PIPE,
            bufsize=0,
            env=survivors.env,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def ready(self):
        assert read_line(self.process.stdout) == "ready"

    def interrupt(self):
        """Send SIGINT; return the seconds until the interpreter has ended, and its stderr."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        _, output = self.process.communicate(timeout=20)
        return time.monotonic() - began, output.decode()


@every_mode
@pytest.mark.parametrize("options", ["", ", capture_output=True", ", timeout=60", ", input=b'x'"])
def test_ctrl_c_in_run_ends_the_whole_container_at_once(mode, options, survivors):
    # subprocess.run would wait a quarter of a second for the child, which gets the SIGINT too. On a
    # busy machine minidocker may take as long, but not each time.
    for last in (*[False] * 19, True):
        with Interpreter(
            # The command ignores SIGINT and SIGTERM, and a grandchild holds the pipes.
            "script = 'trap \"\" INT TERM; echo ready >&3; sleep 50 & sleep 60'\n"
            "os.dup2(1, 3)\n"
            f"minidocker.run(sh(script), pass_fds=[3], **MODES[{mode!r}]{options})",
            survivors,
        ) as interpreter:
            interpreter.ready()
            took, output = interpreter.interrupt()
            assert output.rstrip().endswith("KeyboardInterrupt")
            assert interpreter.process.returncode == -signal.SIGINT
            survivors.wait_until_gone()
        if took < 0.22:
            return
        assert not last, took


@every_mode
def test_ctrl_c_does_not_reach_the_command_itself(mode, survivors):
    # Unlike a child of subprocess, the command is not in the caller's process group.
    with Interpreter(
        f"process = minidocker.Popen(sh('trap \"echo got-it\" INT; echo inside; cat'),\n"
        f"    stdin=subprocess.PIPE, stdout=subprocess.PIPE, **MODES[{mode!r}])\n"
        "assert process.stdout.readline() == b'inside\\n'\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    process.wait()\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', process.poll(), flush=True)\n"
        "print(process.communicate()[0], process.returncode)",
        survivors,
    ) as interpreter:
        interpreter.ready()
        os.killpg(interpreter.process.pid, signal.SIGINT)
        assert read_line(interpreter.process.stdout) == "interrupted None"
        assert read_line(interpreter.process.stdout) == "b'' 0"


@every_mode
def test_an_exception_of_a_signal_handler_ends_the_container_too(mode, survivors, leaks):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        began = time.monotonic()
        with pytest.raises(Alarm):
            minidocker.run(["sleep", "50"], env=survivors.env, **MODES[mode])
        assert time.monotonic() - began < 30
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    survivors.wait_until_gone()


def test_a_handler_that_does_not_raise_does_not_disturb_starts_and_waits(leaks):
    calls = []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for number in range(60):
            init = number % 2 == 0
            done = minidocker.run(sh("cat; exit 4"), input=b"x", capture_output=True, init=init)
            assert (done.stdout, done.returncode) == (b"x", 4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(calls) > 60


@every_mode
def test_an_exception_at_any_moment_leaves_nothing(mode, survivors, leaks):
    class Alarm(Exception):
        pass

    armed = False

    def handler(number, frame):
        if armed:
            raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    chance = random.Random(4)
    interrupted = 0
    try:
        for _ in range(80):
            try:
                armed = True
                # A start takes about this long.
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.004))
                # No pipes: subprocess leaks them if an exception interrupts their creation.
                minidocker.run(["sleep", "50"], env=survivors.env, **MODES[mode])
            except Alarm:
                interrupted += 1
            finally:
                armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 80
    survivors.wait_until_gone()


@pytest.mark.parametrize("mode", ["all", "init", "none"])
def test_ctrl_c_and_a_timeout_end_a_start_that_hangs(mode, survivors, leaks):
    with _Clogged() as trace:
        # The child blocks on the full pipe while it writes the trace of its steps.
        launch = Launch(timeout=0.3, trace=trace)
        began = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            run_by(launch, ["true"], env=survivors.env, **MODES[mode])
        assert 0.25 < time.monotonic() - began < 30
        assert caught.value.timeout == 0.3
        assert caught.value.cmd == ["true"]
    survivors.wait_until_gone()
    with Interpreter(
        "read, write = os.pipe()\n"
        "import fcntl\n"
        "fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)\n"
        f"os.write(write, b'x' * {_Clogged.FILLED})\n"
        "print('ready', flush=True)\n"
        "from support.launches import Launch, run_by\n"
        f"run_by(Launch(trace=write), ['sleep', '50'], stdin=-1, stdout=-1, **MODES[{mode!r}])",
        survivors,
    ) as interpreter:
        interpreter.ready()
        wait_until(lambda: "S" in map(state_of, descendants_of(interpreter.process.pid)))
        took, output = interpreter.interrupt()
        assert output.rstrip().endswith("KeyboardInterrupt")
        assert took < 30
    survivors.wait_until_gone()


def test_an_exception_in_another_thread_does_not_end_a_container(leaks):
    with Popen(["cat"], stdin=PIPE) as process:

        def fail():
            with pytest.raises(ZeroDivisionError):
                raise ZeroDivisionError

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait() == 0


class _Clogged:
    """A pipe with room for the first lines of a trace, but not for all."""

    FILLED = 3300

    def __enter__(self):
        self.read, self.write = os.pipe()
        fcntl.fcntl(self.write, fcntl.F_SETPIPE_SZ, 4096)
        os.write(self.write, b"x" * self.FILLED)
        return self.write

    def __exit__(self, *_):
        os.close(self.read)
        os.close(self.write)
