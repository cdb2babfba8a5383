"""Popen: pipes, descriptors, process attributes, waiting."""

import errno
import fcntl
import gc
import os
import pickle
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, Popen, SpecError
from support.commands import MODES, python, read_line, sh
from support.places import TESTS

PIPE = subprocess.PIPE
NONE = NamespaceOptions.none()
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


# --- pipes and the context manager ----------------------------------------------------------------


@pytest.mark.smoke
@every_mode
def test_it_is_a_popen_with_pipes(mode, leaks):
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0, **mode) as process:
        assert isinstance(process, subprocess.Popen)
        assert process.args == ["cat"]
        assert process.poll() is None
        process.stdin.write(b"one\n")
        assert read_line(process.stdout) == "one"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(timeout=20) == 0
    assert process.stdout.closed
    assert "returncode: 0" in repr(process)


@every_mode
def test_communicate_can_be_called_again_after_a_timeout(mode, leaks):
    command = sh("read line; echo $line; sleep 0.4; echo late")
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True, **mode) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate("early\n", timeout=0.1)
        assert process.poll() is None
        assert process.communicate(timeout=20) == ("early\nlate\n", None)
    assert process.returncode == 0


@every_mode
def test_leaving_the_context_closes_the_pipes_and_waits(mode, leaks):
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, **mode) as process:
        pass
    assert process.returncode == 0
    assert process.stdin.closed
    assert process.stdout.closed


def test_an_exception_in_the_context_is_raised_after_the_wait(leaks):
    with pytest.raises(ZeroDivisionError), Popen(["cat"], stdin=PIPE) as process:
        raise ZeroDivisionError
    assert process.returncode == 0


@pytest.mark.parametrize("function", ["call", "check_call", "check_output", "run"])
def test_the_functions_of_subprocess_work_with_it(function, monkeypatch, capfd):
    monkeypatch.setattr(subprocess, "Popen", Popen)
    result = getattr(subprocess, function)(["hostname"], hostname="lab")
    output = result if function == "check_output" else capfd.readouterr().out.encode()
    assert output == b"lab\n"


@every_mode
def test_waiting_with_a_timeout_ends_as_soon_as_the_process_does(mode, leaks):
    with Popen(["sleep", "0.3"], **mode) as process:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            process.wait(timeout=0.05)
        assert caught.value.timeout == 0.05
        assert process.wait(timeout=20) == 0


def test_pipesize_sets_the_size_of_the_pipes(leaks):
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, pipesize=4096) as process:
        for pipe in (process.stdin, process.stdout):
            assert fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ) == 4096


# --- descriptors ----------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.needs("devices")
@every_mode
def test_the_command_has_only_the_passed_descriptors(mode, leaks):
    passed, other = os.pipe()
    hidden = os.open("/dev/null", os.O_RDONLY)
    inheritable = fcntl.fcntl(hidden, fcntl.F_DUPFD, 90)
    try:
        output = _output_of(["ls", "/proc/self/fd"], pass_fds=[passed], **mode).split()
        # ls itself opens one more descriptor, for the directory.
        assert set(map(int, output)) - {0, 1, 2, passed} == {3 if passed != 3 else 4}
        assert {0, 1, 2, passed} <= set(map(int, output))
        assert inheritable not in map(int, output)
    finally:
        for fd in (passed, other, hidden, inheritable):
            os.close(fd)


@every_mode
def test_inheritable_descriptors_stay_open_without_close_fds(mode, leaks):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        minidocker.run(
            ["bash", "-c", f"echo through >&{write}"], close_fds=False, check=True, **mode
        )
        assert os.read(read, 100) == b"through\n"
        os.set_inheritable(write, False)
        done = minidocker.run(
            ["bash", "-c", f"echo through >&{write}"], close_fds=False, capture_output=True, **mode
        )
        assert done.returncode != 0
    finally:
        os.close(read)
        os.close(write)


@every_mode
def test_the_command_has_none_of_minidockers_own_descriptors(mode, leaks):
    listed = "ls -ln /proc/self/fd; ls -ln /proc/1/fd || :" if not mode else "ls -ln /proc/self/fd"
    output = _output_of(sh(listed), close_fds=False, **mode)
    for name in ("minidocker", "pidfd", "socket"):
        assert name not in output


@every_mode
def test_a_descriptor_that_is_not_open_cannot_be_passed(mode, leaks):
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        Popen(["true"], pass_fds=[777], **mode)
    assert caught.value.errno == errno.EBADF


def test_streams_can_be_exchanged(tmp_path):
    _run_python(
        "minidocker.run(['sh', '-c', 'echo to-out; echo to-err >&2'], stdout=2, stderr=1)",
        tmp_path,
    )
    assert (tmp_path / "out").read_text() == "to-err\n"
    assert (tmp_path / "err").read_text() == "to-out\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("mode", ["all", "init", "none"])
def test_a_caller_with_closed_standard_streams_can_start_containers(closed, mode, tmp_path):
    _run_python(
        f"for fd in {closed}: os.close(fd)\n"
        "script = 'read line; echo out-$line; echo err-$line >&2'\n"
        "for _ in range(2):\n"
        "    done = minidocker.run(['sh', '-c', script], input=b'in', capture_output=True,\n"
        f"        **MODES[{mode!r}])\n"
        "    assert (done.stdout, done.stderr) == (b'out-in\\n', b'err-in\\n'), done\n"
        # A closed stream is closed inside too: no descriptor of minidocker's takes its number.
        "for end, number in zip(os.pipe(), (50, 60)): fcntl.fcntl(end, fcntl.F_DUPFD, number)\n"
        f"script = 'for fd in {' '.join(map(str, closed))}; do test -e /proc/self/fd/$fd && '\n"
        "script += 'echo $fd >&60; done; echo end >&60'\n"
        f"done = minidocker.run(['bash', '-c', script], pass_fds=[60], **MODES[{mode!r}])\n"
        "output = os.read(50, 100)\n"
        f"open({str(tmp_path / 'result')!r}, 'wb').write(output)",
        tmp_path,
    )
    assert (tmp_path / "result").read_text() == "end\n"


# --- process attributes ---------------------------------------------------------------------------


@every_mode
def test_the_umask_is_set_only_inside(mode):
    before = os.umask(0o022)
    os.umask(before)
    assert _output_of(sh("umask"), umask=0o027, **mode) == "0027"
    assert _output_of(sh("umask"), umask=0, **mode) == "0000"
    assert _output_of(sh("umask"), **mode) == f"{before:04o}"
    now = os.umask(before)
    assert now == before


@every_mode
def test_a_command_has_its_own_session(mode):
    session, group, pid = map(int, _output_of(python(_SESSION), **mode).split())
    assert session == group
    if mode.get("init"):
        # The command's session is not init's.
        assert session == pid == 2
    else:
        assert session == pid
    assert session != os.getsid(0)


def test_a_command_can_stay_in_the_callers_session_without_a_pid_namespace():
    output = _output_of(python(_SESSION), namespaces=NONE, start_new_session=False)
    session, group, _ = map(int, output.split())
    assert (session, group) == (os.getsid(0), os.getpgid(0))


def test_a_command_can_lead_or_join_a_process_group():
    options = {"namespaces": NONE, "start_new_session": False}
    session, group, pid = map(int, _output_of(python(_SESSION), process_group=0, **options).split())
    assert (session, group) == (os.getsid(0), pid)
    with Popen(["sleep", "50"], process_group=0, **options) as leader:
        output = _output_of(python(_SESSION), process_group=leader.pid, **options)
        assert int(output.split()[1]) == leader.pid
        leader.kill()


@every_mode
@pytest.mark.parametrize("restore", [True, False])
def test_restore_signals_resets_the_signals_that_python_ignores(mode, restore):
    output = _output_of(["grep", "SigIgn", "/proc/self/status"], restore_signals=restore, **mode)
    ignored = int(output.split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert bool(ignored & 1 << (number - 1)) is not restore


@every_mode
def test_ignored_and_blocked_signals_are_inherited_and_handlers_are_not(mode):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    handler = signal.signal(signal.SIGUSR2, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP, signal.SIGRTMAX])
    try:
        ignored, blocked, caught = _output_of(
            python(
                "rows = dict(line.split(':\\t') for line in open('/proc/self/status')\n"
                "            if line.startswith('Sig'))\n"
                "print(*(rows[name].strip() for name in ('SigIgn', 'SigBlk', 'SigCgt')))"
            ),
            **mode,
        ).split()
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGUSR2, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert int(ignored, 16) & 1 << (signal.SIGUSR1 - 1)
    assert not int(caught, 16) & 1 << (signal.SIGUSR2 - 1)
    wanted = {signal.SIGHUP, signal.SIGRTMAX} | mask
    assert int(blocked, 16) == sum(1 << (number - 1) for number in wanted)


# --- waiting and signalling -----------------------------------------------------------------------


@every_mode
def test_threads_that_poll_and_wait_all_get_the_return_code(mode, leaks):
    with Popen(sh("sleep 0.3; exit 7"), **mode) as process:
        found = []

        def poll():
            while (code := process.poll()) is None:
                time.sleep(0.001)
            found.append(code)

        waits = [process.wait, lambda: process.wait(timeout=20), poll]
        threads = [threading.Thread(target=wait) for wait in waits for _ in range(2)]
        waited = [threading.Thread(target=lambda: found.append(process.wait())) for _ in range(2)]
        for thread in threads + waited:
            thread.start()
        for thread in threads + waited:
            thread.join(20)
            assert not thread.is_alive()
    assert found == [7] * 4
    assert process.usage is not None


@every_mode
def test_a_signal_from_another_thread_wakes_the_waiting_one(mode, leaks):
    with Popen(["sleep", "50"], **mode) as process:
        timer = threading.Timer(0.2, process.terminate)
        timer.start()
        assert process.wait() == -signal.SIGTERM
        timer.join()


@every_mode
def test_a_signal_after_the_end_is_not_sent(mode, leaks):
    process = Popen(["true"], **mode)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.terminate()
    assert process.wait() == 0
    process.kill()
    process.send_signal(0)
    assert process.returncode == 0


def test_an_invalid_signal_is_refused(leaks):
    with Popen(["cat"], stdin=PIPE) as process:
        with pytest.raises(OSError, match="Invalid argument"):
            process.send_signal(4711)
        with pytest.raises(TypeError):
            process.send_signal("TERM")


@every_mode
def test_a_running_popen_that_is_deleted_warns_and_is_reaped_later(mode, leaks):
    process = Popen(["sleep", "0.2"], **mode)
    pid = process.pid
    last_reference = [process]
    del process
    with pytest.warns(ResourceWarning, match="is still running"):
        last_reference.clear()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # Starting a process makes subprocess reap the children of deleted Popens.
    Popen(["true"]).wait()
    assert not Path(f"/proc/{pid}").exists()


@every_mode
def test_a_popen_that_failed_to_start_can_be_deleted(mode, leaks):
    with pytest.raises(FileNotFoundError):
        Popen(["/no/such"], stdin=PIPE, stdout=PIPE, **mode)
    with pytest.raises(SpecError):
        Popen(["true"], stdin=PIPE, hostname="", **mode)
    gc.collect()


def test_a_popen_cannot_be_pickled_and_the_error_names_an_alternative(leaks):
    with Popen(["true"]) as process, pytest.raises(TypeError, match=r"pass its pid.*attach"):
        pickle.dumps(process)


def test_a_subclass_can_override_methods(leaks):
    class Counting(Popen):
        waits = 0

        def __init__(self, *args, **options):
            self.name = "mine"
            super().__init__(*args, hostname=self.name, **options)

        def wait(self, timeout=None):
            self.waits += 1
            return super().wait(timeout)

    with Counting(["hostname"], stdout=PIPE, text=True) as process:
        assert process.communicate()[0] == "mine\n"
    assert process.waits >= 1


_SESSION = "import os; print(os.getsid(0), os.getpgid(0), os.getpid())"


def _output_of(args, **options):
    done = minidocker.run(args, check=True, stdout=PIPE, text=True, **options)
    return done.stdout.removesuffix("\n")


def _run_python(code, directory):
    """Run code in a separate interpreter whose output goes to the files out and err."""
    package = Path(minidocker.__file__).parents[1]
    prologue = (
        f"import fcntl, os, sys; sys.path += [{str(package)!r}, {str(TESTS)!r}]\n"
        "import minidocker\n"
        "from support.commands import MODES\n"
    )
    with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
        command = python(prologue + code)
        done = subprocess.run(command, stdout=out, stderr=err, timeout=60, check=False)
    assert done.returncode == 0, (directory / "err").read_text()
