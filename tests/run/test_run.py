"""run() has the meaning of subprocess.run."""

import asyncio
import math
import os
import pickle
import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import minidocker
from minidocker import (
    CommandNotFound,
    NamespaceOptions,
    PathNotFound,
    PermissionDenied,
    Spec,
    SpecError,
)
from support.commands import MODES, python, sh

every_mode = pytest.mark.parametrize(
    "mode", [pytest.param(m, id=name) for name, m in MODES.items()]
)


# --- pipes ----------------------------------------------------------------------------------------


@pytest.mark.smoke
@every_mode
def test_output_and_errors_are_captured(mode, leaks):
    done = minidocker.run(sh("echo out; echo err >&2; exit 3"), capture_output=True, **mode)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    assert done.args == sh("echo out; echo err >&2; exit 3")


@pytest.mark.smoke
@every_mode
def test_input_reaches_the_command_and_its_pipe_is_closed(mode):
    done = minidocker.run(["cat"], input="häuser\n", capture_output=True, encoding="utf-8", **mode)
    assert done.stdout == "häuser\n"


def test_input_and_output_may_exceed_the_size_of_a_pipe():
    data = os.urandom(1 << 20)
    assert minidocker.run(["cat"], input=data, stdout=subprocess.PIPE).stdout == data


def test_errors_can_go_where_output_goes():
    done = minidocker.run(
        sh("echo one; echo two >&2; echo three"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.stdout == "one\ntwo\nthree\n"


def test_files_and_devnull_can_replace_pipes(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("from a file\n")
    with source.open() as stdin, target.open("w") as stdout:
        minidocker.run(["cat"], stdin=stdin, stdout=stdout, check=True)
    assert target.read_text() == "from a file\n"
    done = minidocker.run(["cat"], stdin=subprocess.DEVNULL, capture_output=True)
    assert done.stdout == b""


def test_the_callers_own_standard_streams_are_inherited(capfd):
    minidocker.run(sh("echo out; echo err >&2"), check=True)
    assert capfd.readouterr() == ("out\n", "err\n")


def test_the_option_errors_decides_about_undecodable_output():
    command = ["printf", r"a\377b"]
    with pytest.raises(UnicodeDecodeError):
        minidocker.run(command, capture_output=True, encoding="utf-8")
    done = minidocker.run(command, capture_output=True, encoding="utf-8", errors="replace")
    assert done.stdout == "a�b"


def test_contradicting_pipe_options_are_refused():
    with pytest.raises(ValueError, match="stdin and input"):
        minidocker.run(["cat"], input=b"", stdin=subprocess.PIPE)
    with pytest.raises(ValueError, match="capture_output"):
        minidocker.run(["cat"], capture_output=True, stdout=subprocess.DEVNULL)
    with pytest.raises(ValueError, match="capture_output"):
        minidocker.run(["cat"], capture_output=True, stderr=subprocess.DEVNULL)


# --- exit status ----------------------------------------------------------------------------------


def test_check_raises_what_subprocess_raises():
    with pytest.raises(subprocess.CalledProcessError) as caught:
        minidocker.run(
            sh("echo out; echo err >&2; exit 7"), check=True, capture_output=True, text=True
        )
    error = caught.value
    assert (error.returncode, error.stdout, error.stderr) == (7, "out\n", "err\n")
    assert error.cmd == sh("echo out; echo err >&2; exit 7")
    assert minidocker.run(["true"], check=True).returncode == 0


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["init", "without_pid", "none"])
@pytest.mark.parametrize("signal", [9, 15, 6, 34])
def test_the_returncode_is_the_negative_number_of_the_fatal_signal(name, signal, leaks):
    assert minidocker.run(sh(f"kill -{signal} $$"), **MODES[name]).returncode == -signal


@pytest.mark.smoke
@every_mode
def test_the_returncode_is_the_exit_status(mode):
    for status in (0, 1, 127, 128, 255):
        assert minidocker.run(sh(f"exit {status}"), **mode).returncode == status


# --- commands that cannot be executed -------------------------------------------------------------


@pytest.mark.smoke
@every_mode
def test_a_command_that_does_not_exist_is_named(mode, leaks):
    with pytest.raises(CommandNotFound) as caught:
        minidocker.run(["no-such-command", "x"], **mode)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == "no-such-command"
    assert caught.value.step == "exec"
    with pytest.raises(FileNotFoundError) as caught:
        minidocker.run(["/no/such/command"], **mode)
    assert caught.value.filename == "/no/such/command"


@every_mode
def test_a_file_that_is_not_executable_is_refused(mode, tmp_path, leaks):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(PermissionDenied) as caught:
        minidocker.run([program], **mode)
    assert isinstance(caught.value, PermissionError)
    assert caught.value.filename == str(program)
    assert "chmod +x" in str(caught.value)


@every_mode
def test_a_file_that_is_not_a_program_is_refused(mode, tmp_path):
    program = tmp_path / "program"
    program.write_text("echo no interpreter\n")
    program.chmod(0o755)
    with pytest.raises(OSError, match="Exec format error") as caught:
        minidocker.run([program], **mode)
    assert caught.value.filename == str(program)


@every_mode
def test_too_many_arguments_are_refused_by_the_kernel(mode, leaks):
    with pytest.raises(minidocker.SpawnError, match="Argument list too long") as caught:
        minidocker.run(["true", *["x" * 100_000] * 100], **mode)
    assert "Arguments and environment together are too long" in caught.value.hint


@pytest.mark.parametrize("place", ["argument", "variable"])
def test_one_string_that_is_too_long_is_told_from_too_many(place):
    """The kernel takes 32 pages in each string, its NUL included (MAX_ARG_STRLEN)."""
    most = 32 * os.sysconf("SC_PAGE_SIZE") - 1

    def attempt(length):
        if place == "argument":
            return minidocker.run(["true", "x" * length]).returncode
        variables = {"PATH": os.environ["PATH"], "X": "x" * (length - len("X="))}
        return minidocker.run(["true"], env=variables).returncode

    assert attempt(most) == 0
    with pytest.raises(minidocker.SpawnError, match="Argument list too long") as caught:
        attempt(most + 1)
    assert f"has {most + 1} bytes, and the kernel takes {most} in each" in caught.value.hint


@every_mode
def test_a_directory_that_does_not_exist_is_named(mode, leaks):
    with pytest.raises(PathNotFound) as caught:
        minidocker.run(["true"], cwd="/no/such/directory", **mode)
    assert caught.value.filename == "/no/such/directory"
    assert caught.value.step == "chdir"
    with pytest.raises(NotADirectoryError) as caught:
        minidocker.run(["true"], cwd="/etc/passwd", **mode)
    assert caught.value.filename == "/etc/passwd"


# --- directory, environment and arguments ---------------------------------------------------------


@every_mode
def test_the_working_directory_is_cwd_or_that_of_the_caller(mode, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _output_of(["pwd", "-P"], **mode) == str(tmp_path.resolve())
    assert _output_of(["pwd", "-P"], cwd="/usr/..", **mode) == "/"
    assert _output_of(["pwd", "-P"], cwd=b"/usr", **mode) == "/usr"
    assert _output_of(["pwd", "-P"], cwd=Path("/usr"), **mode) == "/usr"
    assert Path.cwd() == tmp_path.resolve()


def test_the_working_directory_is_the_root_if_the_callers_does_not_exist_inside(monkeypatch):
    # The container's own /proc does not list the caller.
    monkeypatch.chdir(f"/proc/{os.getpid()}")
    assert _output_of(["pwd", "-P"]) == "/"
    assert _output_of(["pwd", "-P"], namespaces=NamespaceOptions.none()) == f"/proc/{os.getpid()}"


@every_mode
def test_nothing_is_added_to_the_environment(mode):
    assert _output_of(["env"], env={}, **mode) == ""
    assert _output_of(["env"], env={"ONLY": "this"}, **mode) == "ONLY=this"
    assert _output_of(["env"], env={b"BYTES": b"\xff"}, encoding="latin-1", **mode) == "BYTES=ÿ"


@every_mode
def test_the_callers_environment_is_inherited(mode, monkeypatch):
    monkeypatch.setenv("MINIDOCKER_TEST_VARIABLE", "inherited")
    assert _output_of(sh("echo $MINIDOCKER_TEST_VARIABLE"), **mode) == "inherited"


def test_the_command_is_searched_in_the_path_of_its_own_environment(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert _output_of(["program"], env={"PATH": f"/no/such:{tmp_path}:/bin"}) == "found"
    with pytest.raises(CommandNotFound):
        minidocker.run(["program"], env={"PATH": "/bin"})


def test_a_shell_runs_a_string():
    assert _output_of("echo $((1 + 1)) $0", shell=True) == "2 /bin/sh"
    assert _output_of(["echo $1 $0", "zero", "one"], shell=True) == "one zero"
    assert _output_of("echo $BASH_VERSION", shell=True, executable="/bin/bash") != ""


def test_executable_replaces_the_program_and_not_its_name():
    assert _output_of(["called", "-c", "echo $0"], executable="/bin/sh") == "called"


@every_mode
def test_a_generator_and_paths_can_be_arguments(mode, tmp_path):
    words = (word for word in ["echo", Path("/a"), b"/b"])
    assert _output_of(words, **mode) == "/a /b"


def test_a_single_string_is_a_command_without_arguments():
    assert _output_of("pwd", cwd="/") == "/"
    assert _output_of(b"pwd", cwd="/") == "/"
    assert _output_of(Path("/bin/pwd"), cwd="/") == "/"


# --- errors on any machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "option", "words"),
    [
        ([], {}, "args", "the command is empty"),
        ([], {"shell": True}, "args", "the command is empty"),
        (["echo", "a\0b"], {}, "args", "NUL"),
        (["true"], {"cwd": "/a\0b"}, "cwd", "NUL"),
        (["true"], {"env": {"A": "b\0"}}, "env", "NUL"),
        (["true"], {"preexec_fn": print}, "preexec_fn", "between clone and exec"),
        (["true"], {"hostnam": "x"}, "hostnam", "'hostname'"),
        (["true"], {"timeou": 1}, "timeou", "'timeout'"),
        (["true"], {"start_new_session": False}, "start_new_session", "without_pid"),
        (["true"], {"process_group": 1}, "process_group", "session"),
        (["true"], {"process_group": -1}, "process_group", "not a process group"),
        (["true"], {"extra_groups": [2**32 - 1]}, "extra_groups", "not a group id"),
        (["true"], {"user": "root:root", "group": 0}, "user", "name the group once"),
        (["true"], {"user": "root:"}, "user", "empty"),
        (["true"], {"user": ":root"}, "user", "empty"),
        (["true"], {"stdout": -5}, "stdout", "it is not a descriptor"),
        (["true"], {"stdin": subprocess.STDOUT}, "stdin", "it is not a descriptor"),
        (["true"], {"pass_fds": [-1]}, "pass_fds", "-1 is not a descriptor"),
        (["true"], {"pass_fds": [2**40]}, "pass_fds", "is not a descriptor"),
        (["true"], {"spec": "hostname"}, "spec", "minidocker.Spec"),
    ],
)
def test_an_invalid_option_is_refused_by_name(args, options, option, words, leaks):
    with pytest.raises(SpecError) as caught:
        minidocker.run(args, **options)
    assert caught.value.option == option
    assert words in str(caught.value)


def test_arguments_of_a_wrong_type_are_refused_as_in_subprocess(leaks):
    for args in ([1], [None], 3, None):
        with pytest.raises(TypeError):
            minidocker.run(args)
        with pytest.raises(TypeError):
            subprocess.run(args, check=False)


def test_a_variable_name_with_an_equals_sign_is_refused(leaks):
    for name in ("A=B", b"A=B", "=", "=C:"):
        with pytest.raises(minidocker.SpecError, match="illegal environment variable") as raised:
            minidocker.run(["true"], env={name: "c"})
        assert (raised.value.option, raised.value.value) == ("env", name)


@pytest.mark.parametrize("env", [[], ["A=B"], "A=B", [("A", "B")], 3, {"A"}], ids=repr)
@pytest.mark.parametrize("command", ["true", "/bin/true"])
def test_an_environment_that_is_no_mapping_is_refused(command, env, leaks):
    with pytest.raises(minidocker.SpecError, match=r"env=.*: give a mapping from names to values"):
        minidocker.run([command], env=env)


# --- usage and results ----------------------------------------------------------------------------


@every_mode
def test_usage_has_the_times_of_the_command(mode):
    busy = python("import time\nwhile time.process_time() < 0.2: pass")
    usage = minidocker.run(busy, **mode).usage
    assert 0.1 < usage.user + usage.system < 2
    assert 0.15 < usage.wall < 20
    assert minidocker.run(["sleep", "0.2"], **mode).usage.user < 0.1


@every_mode
def test_the_peak_is_that_of_the_command(mode):
    # More than this process has had: a smaller peak might be its own.
    size = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) + (100 << 20)
    usage = minidocker.run(
        python(f"bytearray({size})[::4096] = b'x' * ({size} // 4096)"), **mode
    ).usage
    assert usage.peak is not None
    assert size < usage.peak < size + (60 << 20)


def test_a_peak_that_may_be_the_callers_is_none(noop):
    assert minidocker.run([noop]).usage.peak is None
    peak = minidocker.run([noop], init=True).usage.peak
    assert peak is not None
    assert peak < 4 << 20


def test_results_and_exceptions_can_be_pickled():
    spec = Spec(hostname="lab")
    done = minidocker.run(["hostname"], spec=spec, capture_output=True)
    again = pickle.loads(pickle.dumps(done))
    assert isinstance(again, minidocker.CompletedProcess)
    assert (again.args, again.returncode, again.stdout) == (["hostname"], 0, b"lab\n")
    assert again.usage == done.usage
    assert pickle.loads(pickle.dumps(spec)) == spec
    for command, options in [
        (["false"], {"check": True}),
        (["sleep", "9"], {"timeout": 0.05}),
        (["no-such-command"], {}),
        ([], {}),
        (["true"], {"cwd": "/no/such"}),
    ]:
        with pytest.raises((subprocess.SubprocessError, minidocker.Error)) as caught:
            minidocker.run(command, **options)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is type(caught.value)
        assert str(copy) == str(caught.value)


def test_a_spec_serves_many_commands_and_a_keyword_overrides_one_field():
    spec = Spec(hostname="lab", domainname="example.org")
    assert _output_of(["hostname"], spec=spec) == "lab"
    assert (
        _output_of(sh("hostname; domainname"), spec=spec, hostname="bench") == "bench\nexample.org"
    )
    assert spec.hostname == "lab"


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_eight_threads_run_commands_at_once(leaks):
    def work(number):
        name = f"thread{number}"
        done = minidocker.run(
            sh("hostname; cat; echo $1", str(number)),
            hostname=name,
            input=f"{number}\n",
            capture_output=True,
            text=True,
            init=number % 2 == 0,
        )
        return done.stdout == f"{name}\n{number}\n{number}\n" and done.returncode == 0

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))


def test_a_thread_of_asyncio_runs_a_command(leaks):
    async def main():
        calls = [
            asyncio.to_thread(minidocker.run, ["echo", str(number)], stdout=subprocess.PIPE)
            for number in range(4)
        ]
        return [done.stdout for done in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == [b"0\n", b"1\n", b"2\n", b"3\n"]


# --- timeouts -------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.needs("devices")
@every_mode
def test_a_timeout_ends_everything_and_has_the_output_so_far(mode, survivors, leaks):
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        minidocker.run(
            # The grandchild holds both pipes.
            sh("echo out; echo err >&2; sleep 50 & sleep 60"),
            timeout=0.4,
            capture_output=True,
            env=survivors.env,
            **mode,
        )
    assert 0.35 < time.monotonic() - began < 30
    assert (caught.value.stdout, caught.value.stderr) == (b"out\n", b"err\n")
    assert caught.value.timeout == 0.4
    survivors.wait_until_gone()


@every_mode
def test_a_timeout_ends_a_command_that_ignores_every_signal(mode, survivors, leaks):
    deaf = "trap '' TERM INT HUP QUIT; while :; do sleep 50; done"
    with pytest.raises(subprocess.TimeoutExpired):
        minidocker.run(sh(deaf), timeout=0.2, env=survivors.env, **mode)
    survivors.wait_until_gone()


@every_mode
def test_a_timeout_does_not_wait_for_a_pipe_whose_holder_has_left_the_session(mode, leaks):
    holder = python(
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "print('started', flush=True)\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        minidocker.run(holder, timeout=0.8, stdout=subprocess.PIPE, **mode)
    assert time.monotonic() - began < 25
    assert caught.value.stdout == b"started\n"


@every_mode
def test_a_timeout_ends_a_grandchild_whose_command_has_ended(mode, survivors, leaks):
    # With a PID namespace the grandchild ends with its PID 1; without one, it holds the pipe.
    options = {"stdout": subprocess.PIPE, "env": survivors.env, "timeout": 0.5, **mode}
    if "namespaces" in mode:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            minidocker.run(sh("echo out; sleep 50 & exit 3"), **options)
        assert caught.value.stdout == b"out\n"
    else:
        assert minidocker.run(sh("echo out; sleep 50 & exit 3"), **options).stdout == b"out\n"
    survivors.wait_until_gone()


@every_mode
@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_of_zero_or_less_ends_the_command(mode, timeout, survivors, leaks):
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        minidocker.run(["sleep", "50"], timeout=timeout, env=survivors.env, **mode)
    assert caught.value.timeout == timeout
    survivors.wait_until_gone()


@pytest.mark.parametrize("timeout", [math.inf, 1e12, 30 * 86400])
def test_a_timeout_may_exceed_the_kernels_maximum(timeout):
    assert minidocker.run(["true"], timeout=timeout).returncode == 0
    with minidocker.Popen(["sleep", "0.1"]) as process:
        assert process.wait(timeout=timeout) == 0


def test_an_exception_during_the_write_of_input_ends_the_container(survivors, leaks):
    with pytest.raises(TypeError):
        minidocker.run(sh("sleep 50"), input=object(), env=survivors.env)
    survivors.wait_until_gone()


def _output_of(args, **options):
    options.setdefault("encoding", "utf-8")
    return minidocker.run(args, check=True, capture_output=True, **options).stdout.removesuffix(
        "\n"
    )
