"""Popen in an unusual caller: it ignores SIGCHLD, forks, exits, or has no descriptors left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from support.commands import MODES, python
from support.places import TESTS

PACKAGE = str(Path(minidocker.__file__).parents[1])
every_mode = pytest.mark.parametrize("mode", list(MODES))


def python_output(code, mode="all", timeout=60, **options):
    """Run code in a separate interpreter, and return its output."""
    prologue = (
        "import math, os, signal, subprocess, sys, time\n"
        f"sys.path += [{PACKAGE!r}, {str(TESTS)!r}]\n"
        "import minidocker\n"
        "from minidocker import Popen\n"
        "from support.commands import MODES, python, sh\n"
        f"mode = MODES[{mode!r}]\n"
    )
    done = subprocess.run(
        python(prologue + code), capture_output=True, text=True, timeout=timeout, check=False,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


# From Linux 6.15 on, a pidfd tells how a process ended that others have reaped.
KEEPS_STATUS = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 15)


# --- SIGCHLD --------------------------------------------------------------------------------------


@every_mode
def test_with_sigchld_ignored_the_status_is_known_and_only_init_reports_the_usage(mode):
    output = python_output(
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "done = minidocker.run(sh('cat; exit 3'), input=b'x', stdout=-1, **mode)\n"
        "print(done.stdout, done.returncode, math.isnan(done.usage.user))\n"
        "process = Popen(['sleep', '50'], **mode)\n"
        "process.terminate()\n"
        "print(process.wait(timeout=20), process.poll())\n"
        "try:\n"
        "    minidocker.run(['sleep', '50'], timeout=0.1, **mode)\n"
        "except subprocess.TimeoutExpired as error:\n"
        "    print(type(error).__name__)\n"
        "try:\n"
        "    minidocker.run(['no-such-command'], **mode)\n"
        "except FileNotFoundError as error:\n"
        "    print(error.filename)",
        mode,
    )
    if mode == "init":
        assert output.splitlines()[:2] == ["b'x' 3 False", "-15 -15"]
    elif KEEPS_STATUS:
        assert output.splitlines()[:2] == ["b'x' 3 True", "-15 -15"]
    else:
        # The kernel has reaped the command; subprocess reports 0 as well.
        assert output.splitlines()[:2] == ["b'x' 0 True", "0 0"]
    assert output.splitlines()[2:] == ["TimeoutExpired", "no-such-command"]


@every_mode
def test_a_handler_that_reaps_every_child_takes_only_the_status(mode):
    output = python_output(
        "def reap(*_):\n"
        "    try:\n"
        "        while os.waitpid(-1, os.WNOHANG)[0]: pass\n"
        "    except ChildProcessError:\n"
        "        pass\n"
        "signal.signal(signal.SIGCHLD, reap)\n"
        "for number in range(20):\n"
        "    done = minidocker.run(sh('cat; exit 3'), input=b'x', stdout=-1, **mode)\n"
        f"    assert done.returncode in {(3,) if KEEPS_STATUS else (0, 3)}\n"
        "    assert done.stdout == b'x'\n"
        "    try:\n"
        "        minidocker.run(['no-such-command'], **mode)\n"
        "    except FileNotFoundError as error:\n"
        "        assert error.filename == 'no-such-command'\n"
        "print('done')",
        mode,
    )
    assert output == "done\n"


@every_mode
def test_ignored_sigchld_is_inherited_as_in_subprocess(mode):
    output = python_output(
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "status = ['grep', 'SigIgn', '/proc/self/status']\n"
        "for run in (subprocess.run, lambda *a, **k: minidocker.run(*a, **k, **mode)):\n"
        "    ignored = int(run(status, stdout=-1).stdout.split()[1], 16)\n"
        "    print(ignored >> signal.SIGCHLD - 1 & 1)",
        mode,
    )
    assert output == "1\n1\n"


# --- fork -----------------------------------------------------------------------------------------


@every_mode
def test_a_forked_child_can_start_containers_and_does_not_disturb_its_parents(mode):
    output = python_output(
        "process = Popen(['cat'], stdin=-1, stdout=-1, **mode)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    process.stdin.close()\n"
        "    done = minidocker.run(['echo', 'child'], stdout=-1, **mode)\n"
        "    ok = done.stdout == b'child\\n'\n"
        # The container is not this process's child, but it runs, and this process can signal it.
        "    ok = ok and process.poll() is None\n"
        "    process.send_signal(0)\n"
        "    os._exit(0 if ok else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "print(process.poll())\n"
        "print(process.communicate(b'parent')[0], process.returncode)\n"
        "print(minidocker.run(['echo', 'again'], stdout=-1, **mode).stdout)",
        mode,
    )
    assert output == "0\nNone\nb'parent' 0\nb'again\\n'\n"


@every_mode
def test_many_forked_workers_start_containers_at_once(mode):
    output = python_output(
        "import concurrent.futures, multiprocessing\n"
        "minidocker.run(['true'], **mode)\n"
        "def work(number):\n"
        "    return minidocker.run(['echo', str(number)], stdout=-1, text=True, **mode).stdout\n"
        "context = multiprocessing.get_context('fork')\n"
        "with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:\n"
        "    print(''.join(pool.map(work, range(12))).split() == [str(n) for n in range(12)])",
        mode,
    )
    assert output == "True\n"


# --- the end of the interpreter -------------------------------------------------------------------


@every_mode
def test_an_atexit_function_can_run_a_command(mode):
    output = python_output(
        "import atexit\n"
        "def last():\n"
        "    done = minidocker.run(['echo', 'last'], stdout=-1, timeout=20, **mode)\n"
        "    print(done.stdout, done.returncode, flush=True)\n"
        "atexit.register(last)\n"
        "minidocker.run(['true'], **mode)",
        mode,
    )
    assert output == "b'last\\n' 0\n"


@every_mode
def test_a_popen_that_runs_at_the_end_of_the_interpreter_ends_quietly(mode, survivors):
    output = python_output(
        "process = Popen(['sleep', '50'], **mode)\nprint('end')", mode, env=survivors.env
    )
    assert output == "end\n"
    survivors.wait_until_gone()


# --- limits ---------------------------------------------------------------------------------------


@every_mode
def test_running_out_of_descriptors_is_an_error_and_leaves_nothing(mode):
    output = python_output(
        "import errno, resource\n"
        "minidocker.run(['true'], **mode)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\n"
        "try:\n"
        "    while True: held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError:\n"
        "    pass\n"
        "failed = 0\n"
        "for _ in range(14):\n"
        "    before = set(os.listdir('/proc/self/fd')) if failed > 2 else None\n"
        "    try:\n"
        "        done = minidocker.run(['cat'], input=b'x', capture_output=True, **mode)\n"
        "    except OSError as error:\n"
        "        assert error.errno == errno.EMFILE, error\n"
        "        failed += 1\n"
        "        os.close(held.pop())\n"
        "        continue\n"
        "    assert done.stdout == b'x'\n"
        "    break\n"
        # subprocess itself needs six descriptors, and closes four of them again.
        "assert 6 <= failed <= 10, failed\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "print(failed > 0, children)",
        mode,
    )
    assert output == "True \n"


@every_mode
def test_many_containers_that_have_ended_hold_no_descriptors(mode, leaks):
    ended = [minidocker.Popen(["true"], **MODES[mode]) for _ in range(20)]
    for process in ended:
        assert process.wait() == 0
    leaks.assert_unchanged()
    assert {process.returncode for process in ended} == {0}


@every_mode
def test_a_deep_python_stack_can_start_a_container(mode):
    output = python_output(
        "sys.setrecursionlimit(20000)\n"
        "def deep(n):\n"
        "    if n: return deep(n - 1)\n"
        "    return minidocker.run(['echo', 'deep'], stdout=-1, **mode).stdout\n"
        "print(deep(5000))",
        mode,
    )
    assert output == "b'deep\\n'\n"


@every_mode
def test_a_thread_with_a_small_stack_can_start_a_container(mode):
    output = python_output(
        "import threading\n"
        "threading.stack_size(64 << 10)\n"
        "out = []\n"
        "def work(): out.append(minidocker.run(['echo', 'small'], stdout=-1, **mode).stdout)\n"
        "thread = threading.Thread(target=work)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(out)",
        mode,
    )
    assert output == "[b'small\\n']\n"


@every_mode
def test_thousands_of_arguments_and_variables_arrive(mode):
    words = [f"{number:05}" for number in range(20_000)]
    code = "import os, sys; print(len(sys.argv) - 1, sys.argv[-1], len(os.environ))"
    env = {f"VARIABLE_{number}": "x" * 20 for number in range(2000)}
    done = minidocker.run(
        [sys.executable, "-I", "-S", "-c", code, *words],
        env=env, stdout=subprocess.PIPE, text=True, **MODES[mode],
    )  # fmt: skip
    count, last, variables = done.stdout.split()
    assert (count, last) == ("20000", "19999")
    # Python may add LC_CTYPE to its environment.
    assert int(variables) in (2000, 2001)


def test_a_command_inherits_a_removed_working_directory(tmp_path):
    gone = tmp_path / "gone"
    output = python_output(
        f"os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
        "for options in MODES.values():\n"
        "    link = ['readlink', '/proc/self/cwd']\n"
        "    done = minidocker.run(link, stdout=-1, text=True, **options)\n"
        "    print(done.returncode, done.stdout.strip())"
    )
    assert output.splitlines() == [f"0 {gone} (deleted)"] * len(MODES)


def test_a_caller_that_starts_containers_loses_no_signals():
    # A launch blocks signals only around the clone.
    output = python_output(
        "count = 0\n"
        "def handler(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGUSR1, handler)\n"
        "for _ in range(100):\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    minidocker.run(['true'])\n"
        "print(count, signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    )
    assert output == "100 set()\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_handler_of_the_callers_never_runs_in_the_child(number, tmp_path):
    trace = tmp_path / "trace"
    output = python_output(
        "def handler(*_):\n"
        f"    with open({str(trace)!r}, 'a') as file: print(os.getpid(), file=file)\n"
        f"signal.signal({int(number)}, handler)\n"
        "import threading\n"
        "stop = False\n"
        "def shoot():\n"
        # Signal every process of the group, including children between clone and setsid.
        f"    while not stop: os.killpg(0, {int(number)}); time.sleep(0.0005)\n"
        "thread = threading.Thread(target=shoot)\n"
        "thread.start()\n"
        "codes = set()\n"
        "for _ in range(150):\n"
        "    codes.add(minidocker.run(['true'], namespaces=minidocker.NamespaceOptions.none(),\n"
        "        start_new_session=False).returncode)\n"
        "stop = True\n"
        "thread.join()\n"
        f"pids = set(open({str(trace)!r}).read().split())\n"
        f"print(pids == {{str(os.getpid())}}, codes <= {{0, -{int(number)}}})",
        start_new_session=True,
    )
    assert output == "True True\n"


def test_a_module_can_run_a_command_while_it_is_imported(tmp_path):
    (tmp_path / "half.py").write_text(
        "import minidocker\nprint(minidocker.run(['echo', 'x'], stdout=-1).stdout)\n"
    )
    assert python_output(f"sys.path.append({str(tmp_path)!r})\nimport half") == "b'x\\n'\n"


def test_the_command_inherits_the_environment_of_os_environ(monkeypatch):
    monkeypatch.setenv("MINIDOCKER_A", "1")
    os.environb[b"MINIDOCKER_B"] = b"\xff"
    try:
        done = minidocker.run(["env"], stdout=subprocess.PIPE)
        assert b"MINIDOCKER_A=1\n" in done.stdout
        assert b"MINIDOCKER_B=\xff\n" in done.stdout
        monkeypatch.delenv("MINIDOCKER_A")
        assert b"MINIDOCKER_A" not in minidocker.run(["env"], stdout=subprocess.PIPE).stdout
    finally:
        del os.environb[b"MINIDOCKER_B"]
