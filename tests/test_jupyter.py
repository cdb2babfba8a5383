"""The magics, in a shell of IPython and in a real kernel."""

import os
import signal
import subprocess
import sys
import time

import pytest

import minidocker

IPython = pytest.importorskip("IPython")

from IPython.core.error import UsageError  # noqa: E402 - after it is known to be there
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from IPython.utils.capture import capture_output  # noqa: E402


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    # IPython keeps its history where the user is, and in one instance for each process.
    directory = tmp_path_factory.mktemp("ipython")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(directory))
        shell = InteractiveShell.instance()
        yield shell
        shell.history_manager.end_session()
        InteractiveShell.clear_instance()


@pytest.fixture
def notebook(shell):
    """A notebook with the extension, and no variables."""
    shell.reset()
    shell.run_line_magic("load_ext", "minidocker")
    yield shell
    shell.run_line_magic("unload_ext", "minidocker")


def run(shell, line, cell="true"):
    """Run a cell with the magic; what it wrote."""
    with capture_output(display=False) as written:
        shell.run_cell_magic("minidocker", line, cell)
    return written.stdout, written.stderr


def shown(error):
    """What IPython shows of an exception."""
    return "\n".join(error._render_traceback_())


# --- cells -------------------------------------------------------------------------------------


def test_a_cell_is_a_shell_script_in_a_container_that_the_host_does_not_see(notebook):
    script = "uname -n; echo $$; readlink /proc/self/ns/uts"
    hostname, pid, uts = run(notebook, "--hostname lab", script)[0].splitlines()
    assert (hostname, pid) == ("lab", "1")
    assert os.uname().nodename != "lab"
    assert uts != os.readlink("/proc/self/ns/uts")


def test_standard_output_and_standard_error_stay_apart(notebook):
    assert run(notebook, "", "echo out; echo err >&2") == ("out\n", "err\n")


def test_words_after_the_options_are_the_scripts_arguments(notebook):
    assert run(notebook, "--hostname lab a 'b c'", 'echo "$0 $2 $#"') == ("sh b c 2\n", "")


def test_nobody_types_into_a_cell(notebook):
    assert run(notebook, "", "cat; echo end") == ("end\n", "")


def test_another_shell_runs_the_cell(notebook):
    assert run(notebook, "--shell bash", "echo ${BASH_VERSION:+bash}") == ("bash\n", "")


def test_options_are_those_of_the_command_line(notebook):
    line = "-e GREETING=hello -w /usr --network host"
    script = "echo $GREETING; pwd; readlink /proc/self/ns/net"
    assert run(notebook, line, script)[0].splitlines() == [
        "hello", "/usr", os.readlink("/proc/self/ns/net")
    ]  # fmt: skip


def test_a_cell_can_run_in_a_container_that_lives(notebook):
    with minidocker.Container(hostname="db") as box:
        notebook.user_ns["box"] = box
        assert run(notebook, "--container box", "uname -n") == ("db\n", "")
        with pytest.raises(minidocker.SpecError, match="give it to Container"):
            run(notebook, "--container box --hostname other", "uname -n")
    notebook.user_ns["box"] = 5
    with pytest.raises(UsageError, match="box is a int; name a"):
        run(notebook, "--container box")
    with pytest.raises(UsageError, match="there is no variable nobox"):
        run(notebook, "--container nobox")


def test_output_can_go_into_variables(notebook):
    assert run(notebook, "--out listing --err complaints", "echo hi; echo no >&2") == ("", "")
    assert notebook.user_ns["listing"] == "hi\n"
    assert notebook.user_ns["complaints"] == "no\n"


def test_a_variable_has_the_output_of_a_cell_that_failed(notebook):
    with pytest.raises(subprocess.CalledProcessError):
        run(notebook, "--out listing", "echo so far; exit 1")
    assert notebook.user_ns["listing"] == "so far\n"


def test_each_step_is_explained_in_the_output(notebook):
    _, err = run(notebook, "--hostname lab --explain", "true")
    assert 'sethostname("lab", 3)' in err


@pytest.mark.parametrize(
    ("script", "returncode", "said"),
    [
        ("exit 3", 3, "CalledProcessError: sh: exit status 3"),
        ("sh -c 'kill -TERM $$'; exit $?", 143, "CalledProcessError: sh: exit status 143"),
    ],
)
def test_an_exit_status_other_than_0_is_an_exception(notebook, script, returncode, said):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(notebook, "", script)
    assert (caught.value.returncode, caught.value.cmd) == (returncode, script)
    assert shown(caught.value) == said


def test_a_signal_is_told_by_its_name(notebook):
    # The command as an ordinary process, which a signal ends.
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(notebook, "--init", "kill -KILL $$")
    assert caught.value.returncode == -signal.SIGKILL
    assert shown(caught.value) == "CalledProcessError: sh: ended by SIGKILL"


def test_a_notebook_may_go_on_after_a_failure(notebook):
    assert run(notebook, "--no-raise-error", "exit 3") == ("", "sh: exit status 3\n")


def test_a_cell_that_takes_too_long_is_ended_with_what_it_started(notebook, survivors):
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run(notebook, "--timeout 0.3", f"MARK={survivors.mark} sleep 1000 & sleep 1000")
    assert time.monotonic() - started < 10
    assert shown(caught.value) == "TimeoutExpired: sh was killed after 0.3 s (--timeout)"


def test_what_outlives_a_cell_does_not_hold_it(notebook):
    started = time.monotonic()
    assert run(notebook, "--pid host", "sleep 20 & echo end") == ("end\n", "")
    assert time.monotonic() - started < 10


def test_bytes_that_are_no_text_are_replaced_and_pieces_of_letters_are_not(notebook):
    # The letter is written in two halves.
    script = r"printf '\303'; sleep 0.1; printf '\266\377\n'"
    assert run(notebook, "", script) == ("ö\N{REPLACEMENT CHARACTER}\n", "")


def test_much_output_arrives_whole(notebook):
    out, _ = run(notebook, "", "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done")
    assert out.splitlines() == [f"line {number}" for number in range(40000)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--hostnam lab", "unknown option --hostnam; did you mean --hostname?"),
        ("--bananas", "unknown option --bananas; see %%minidocker --help"),
        ("-it", "unknown option -i (in -it); see %%minidocker --help"),
        ("--hostname", "--hostname needs a value (NAME)"),
        ("--out 1x", "invalid value '1x' for --out: it is no name of a variable"),
        ("--timeout soon", "invalid value 'soon' for --timeout"),
        ("'", "No closing quotation"),
        ("--namespaces uts --uts host", "leave one of them out"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(notebook, line, message):
    with pytest.raises(UsageError) as caught:
        run(notebook, line, "echo not run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_that_no_argument_can_hold_is_refused(notebook):
    with pytest.raises(UsageError, match="the cell has 131072 bytes"):
        run(notebook, "", "#" * 131072)
    assert run(notebook, "", "echo end;" + "#" * (131071 - 9)) == ("end\n", "")


def test_what_the_kernel_refuses_is_shown_without_the_way_there(notebook):
    with pytest.raises(minidocker.CommandNotFound) as caught:
        run(notebook, "--shell no-such-shell")
    assert shown(caught.value).startswith("CommandNotFound: cannot execute 'no-such-shell'")


def test_a_cell_leaves_nothing_behind(notebook, leaks):
    run(notebook, "--hostname lab", "echo $$")
    with pytest.raises(subprocess.CalledProcessError):
        run(notebook, "--explain", "exit 1")
    with pytest.raises(minidocker.CommandNotFound):
        run(notebook, "--shell no-such-shell --explain")
    with pytest.raises(subprocess.TimeoutExpired):
        run(notebook, "--timeout 0.1", "sleep 100")
    leaks.assert_unchanged()


def test_help_shows_the_options_of_both(notebook):
    out, _ = run(notebook, "--help", "echo not run")
    assert out.startswith("Usage: %%minidocker [OPTIONS] [ARG ...]\n")
    assert "-h, --hostname NAME" in out
    assert "--shell PROGRAM" in out
    assert "--tty" not in out


# --- lines -------------------------------------------------------------------------------------


def line(shell, text):
    return shell.run_line_magic("minidocker", text)


def test_explain_gives_the_plan(notebook):
    plan = line(notebook, "explain --hostname lab true")
    assert plan == minidocker.explain(["true"], hostname="lab")
    assert notebook.display_formatter.format(plan)[0]["text/plain"] == str(plan)


def test_inspect_gives_what_is_known_of_a_container(notebook):
    with minidocker.Container(hostname="db") as box:
        found = line(notebook, f"inspect {box.pid}")
    assert (found["pid"], found["hostname"]) == (box._pid, "db")
    with pytest.raises(UsageError, match="'abc' is not a PID"):
        line(notebook, "inspect abc")


def test_ps_lists_the_containers_and_shows_them_as_a_table(notebook):
    with minidocker.Container(hostname="<db>") as box:
        found = line(notebook, "ps")
        assert box.pid in line(notebook, "ps --quiet")
        shown = notebook.display_formatter.format(found)[0]
    assert box._pid in [row.pid for row in found]
    row = next(text for text in shown["text/plain"].splitlines() if str(box._pid) in text)
    assert "<db>" in row
    assert "&lt;db&gt;" in shown["text/html"]
    assert "<db>" not in shown["text/html"]


def test_view_takes_a_pid_or_a_variable(notebook):
    with minidocker.Container(hostname="db") as box:
        notebook.user_ns["box"] = box
        by_name, by_pid = line(notebook, "view box"), line(notebook, f"view {box.pid}")
    assert by_name.container.hostname == by_pid.container.hostname == "db"
    assert notebook.display_formatter.format(by_name)[0]["text/plain"] == str(by_name)
    with pytest.raises(UsageError, match="neither a PID nor a variable"):
        line(notebook, "view nobox")


def test_run_and_exec_show_what_the_command_writes(notebook):
    with minidocker.Container(hostname="db") as box, capture_output() as written:
        assert line(notebook, f"exec {box.pid} uname -n") is None
        assert line(notebook, "run --hostname lab uname -n") is None
    assert written.stdout == "db\nlab\n"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        line(notebook, "run sh -c 'exit 4'")
    assert caught.value.cmd == ["sh", "-c", "exit 4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("explian", "unknown command explian; did you mean explain?"),
        ("explain --json true", "unknown option --json"),
        ("run", "COMMAND is missing; usage: %minidocker run"),
        ("exec 1", "COMMAND is missing"),
        ("exec abc true", "exec: 'abc' is not a PID"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(notebook, text, message):
    with pytest.raises(UsageError) as caught:
        line(notebook, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "--help"])
def test_a_line_alone_shows_what_there_is(notebook, text):
    with capture_output() as written:
        line(notebook, text)
    for word in ("run", "exec", "ps", "inspect", "explain", "doctor", "view"):
        assert f"%minidocker {word}" in written.stdout


# --- the extension -----------------------------------------------------------------------------


def test_the_extension_can_be_taken_away_again(shell):
    shell.run_line_magic("load_ext", "minidocker")
    assert "minidocker" in shell.magics_manager.magics["cell"]
    shell.run_line_magic("unload_ext", "minidocker")
    assert "minidocker" not in shell.magics_manager.magics["cell"]
    assert "minidocker" not in shell.magics_manager.magics["line"]


def test_ipython_is_not_imported_by_anything_else():
    script = "import sys, minidocker, minidocker.jupyter; print('IPython' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# --- a real kernel -----------------------------------------------------------------------------


@pytest.fixture
def kernel(tmp_path):
    manager = pytest.importorskip("jupyter_client.manager")
    environment = {
        **os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path / "run")
    }  # fmt: skip
    started, client = manager.start_new_kernel(
        startup_timeout=60, kernel_name="python3", env=environment
    )
    client.execute_interactive("%load_ext minidocker", timeout=60, allow_stdin=False)
    yield started, client
    client.stop_channels()
    started.shutdown_kernel(now=True)


def execute(client, code):
    """Send a cell; its messages as they come, until the kernel has done with it."""
    # With stop_on_error what is sent next may be thrown away after a failure.
    sent = client.execute(code, allow_stdin=False, stop_on_error=False)
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != sent:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return
        yield message["msg_type"], message["content"]


def test_output_is_shown_while_the_cell_runs(kernel, tmp_path):
    _, client = kernel
    gate = tmp_path / "gate"
    script = f"%%minidocker\necho first\nwhile [ ! -e {gate} ]; do sleep 0.01; done\necho last\n"
    texts = []
    for kind, content in execute(client, script):
        if kind == "stream":
            texts.append(content["text"])
            # The script goes on only when its first line has been seen here.
            gate.touch()
    assert "".join(texts) == "first\nlast\n"


def test_interrupting_the_kernel_ends_the_container(kernel, survivors):
    manager, client = kernel
    script = f"%%minidocker\nMARK={survivors.mark} sleep 1000 &\necho $$ started\nsleep 1000\n"
    for kind, content in execute(client, script):
        if kind == "stream" and "started" in content["text"]:
            manager.interrupt_kernel()
        if kind == "error":
            assert content["ename"] == "KeyboardInterrupt"
            break
    else:
        pytest.fail("the cell was not interrupted")
    survivors.wait_until_gone()
    # And the notebook goes on.
    texts = [content["text"] for kind, content in execute(client, "print(1)") if kind == "stream"]
    assert texts == ["1\n"]


def test_values_are_shown_as_pictures_and_as_text(kernel):
    _, client = kernel
    code = "import minidocker\nbox = minidocker.Container(hostname='lab').start()\nbox.view()"
    found = [content["data"] for kind, content in execute(client, code) if kind == "execute_result"]
    assert 'class="minidocker-view"' in found[0]["text/html"]
    assert "CONTAINER lab" in found[0]["text/plain"]
    list(execute(client, "box.kill()"))
