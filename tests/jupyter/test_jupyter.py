"""The magics in an IPython shell; test_jupyter_kernel.py runs them in a real kernel."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

import minidocker

IPython = pytest.importorskip("IPython")

from IPython.core.error import UsageError  # noqa: E402 - only if IPython is installed
from IPython.utils.capture import capture_output  # noqa: E402


def run(shell, line, cell="true"):
    """Run a cell with the magic, and return its output."""
    with capture_output(display=False) as written:
        shell.run_cell_magic("minidocker", line, cell)
    return written.stdout, written.stderr


def shown(error):
    """Return the text that IPython shows for an exception."""
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


def test_the_input_of_a_cell_is_empty(notebook):
    assert run(notebook, "", "cat; echo end") == ("end\n", "")


def test_another_shell_runs_the_cell(notebook):
    assert run(notebook, "--shell bash", "echo ${BASH_VERSION:+bash}") == ("bash\n", "")


def test_a_cell_with_untrusted_inherits_a_short_list_of_variables(notebook, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    monkeypatch.setenv("TZ", "UTC")
    script = "echo $TZ ${API_TOKEN-none}"
    assert run(notebook, "--profile untrusted", script) == ("UTC none\n", "")
    assert run(notebook, "--profile untrusted -e API_TOKEN", script) == ("UTC secret\n", "")
    assert run(notebook, "", script) == ("UTC secret\n", "")


def test_a_script_with_untrusted_has_the_notebooks_interpreter(notebook, monkeypatch):
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:/usr/bin:/bin")
    script = "python -c 'import IPython, sys; print(sys.prefix)'"
    assert run(notebook, "--profile untrusted", script) == (f"{sys.prefix}\n", "")


def test_options_are_those_of_the_command_line(notebook):
    line = "-e GREETING=hello -w /usr --network host"
    script = "echo $GREETING; pwd; readlink /proc/self/ns/net"
    assert run(notebook, line, script)[0].splitlines() == [
        "hello", "/usr", os.readlink("/proc/self/ns/net")
    ]  # fmt: skip


def test_a_cell_can_run_in_a_running_container(notebook):
    with minidocker.Container(hostname="db") as box:
        notebook.user_ns["box"] = box
        assert run(notebook, "--container box", "uname -n") == ("db\n", "")
        with pytest.raises(minidocker.SpecError, match="give it to Container"):
            run(notebook, "--container box --hostname other", "uname -n")
    notebook.user_ns["box"] = 5
    with pytest.raises(UsageError, match="box is of type int; name a"):
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
    ("script", "returncode", "message"),
    [
        ("exit 3", 3, "CalledProcessError: sh: exit status 3"),
        ("sh -c 'kill -TERM $$'; exit $?", 143, "CalledProcessError: sh: exit status 143"),
    ],
)
def test_an_exit_status_other_than_0_is_an_exception(notebook, script, returncode, message):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(notebook, "", script)
    assert (caught.value.returncode, caught.value.cmd) == (returncode, script)
    assert shown(caught.value) == message


def test_a_signal_is_shown_by_its_name(notebook):
    # With --init the command is not PID 1, so its own signal ends it.
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run(notebook, "--init", "kill -KILL $$")
    assert caught.value.returncode == -signal.SIGKILL
    assert shown(caught.value) == "CalledProcessError: sh: ended by SIGKILL"


def test_a_notebook_may_continue_after_a_failure(notebook):
    assert run(notebook, "--no-raise-error", "exit 3") == ("", "sh: exit status 3\n")


def test_a_cell_that_takes_too_long_is_killed_with_its_processes(notebook, survivors):
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run(notebook, "--timeout 0.3", f"MARK={survivors.mark} sleep 1000 & sleep 1000")
    assert time.monotonic() - started < 60
    assert shown(caught.value) == "TimeoutExpired: sh was killed after 0.3 s (--timeout)"


def test_a_background_process_does_not_delay_the_end_of_a_cell(notebook):
    started = time.monotonic()
    assert run(notebook, "--pid host", "sleep 60 & echo end") == ("end\n", "")
    assert time.monotonic() - started < 30


def test_invalid_bytes_are_replaced_and_parts_of_letters_are_joined(notebook):
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
        ("--memory 5m", "unknown option --memory: limits of control groups"),
        ("--bananas", "unknown option --bananas; see %%minidocker --help"),
        ("-it", "unknown option -i (in -it); see %%minidocker --help"),
        ("--hostname", "--hostname needs a value (NAME)"),
        ("--out 1x", "invalid value '1x' for --out: it is not a name of a variable"),
        ("--timeout soon", "invalid value 'soon' for --timeout"),
        ("'", "No closing quotation"),
        ("--namespaces uts --uts host", "leave one of them out"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(notebook, line, message):
    with pytest.raises(UsageError) as caught:
        run(notebook, line, "echo not run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cell_longer_than_an_argument_is_refused(notebook):
    with pytest.raises(UsageError, match="the cell has 131072 bytes"):
        run(notebook, "", "#" * 131072)
    assert run(notebook, "", "echo end;" + "#" * (131071 - 9)) == ("end\n", "")


def test_an_error_of_the_launch_is_shown_without_a_traceback(notebook):
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


def test_help_shows_the_options_of_run_and_of_notebooks(notebook):
    out, _ = run(notebook, "--help", "echo not run")
    assert out.startswith("Usage: %%minidocker [OPTIONS] [ARG ...]\n")
    assert "-h, --hostname NAME" in out
    assert "--shell PROGRAM" in out
    assert "--tty" not in out


# --- cells of Python ---------------------------------------------------------------------------


def test_a_cell_of_python_has_the_variables_and_changes_none_of_them(notebook):
    notebook.user_ns["numbers"] = [1, 2, 3]
    cell = "import os\nnumbers.append(4)\nprint(os.uname().nodename, numbers)\nother = 5"
    assert run(notebook, "--python --hostname lab", cell) == ("lab [1, 2, 3, 4]\n", "")
    assert notebook.user_ns["numbers"] == [1, 2, 3]
    assert "other" not in notebook.user_ns
    assert os.uname().nodename != "lab"


def test_the_named_variables_come_back(notebook):
    notebook.user_ns["numbers"] = [1, 2, 3]
    run(notebook, "--python --return total,numbers --return name",
        "total, name, other = sum(numbers), 'x', 1; numbers.append(4)")  # fmt: skip
    found = notebook.user_ns
    assert (found["total"], found["name"], found["numbers"]) == (6, "x", [1, 2, 3, 4])
    assert "other" not in found
    with pytest.raises(NameError) as caught:
        run(notebook, "--python --return nothing", "total = 7")
    assert (
        shown(caught.value)
        == "NameError: --return nothing: there is no such variable after the cell"
    )
    assert found["total"] == 6


def test_the_last_expression_is_shown_unless_a_semicolon_ends_it(notebook):
    assert run(notebook, "--python", "1\n6 * 7")[0] == "42\n"
    assert run(notebook, "--python", "6 * 7;") == ("", "")
    assert run(notebook, "--python", "None") == ("", "")
    assert run(notebook, "--python", "# nothing") == ("", "")


def test_magics_shell_escapes_and_await_work_in_a_cell_of_python(notebook):
    cell = "import asyncio\n!uname -n\nawait asyncio.sleep(0, 'slept')"
    assert run(notebook, "--python --hostname lab", cell)[0].split() == ["lab", "'slept'"]


def test_displayed_objects_keep_their_order(notebook):
    cell = (
        "from IPython.display import HTML, display\n"
        "print('before'); display(HTML('<b>bold</b>')); print('after')\n"
        "display({'image/png': b'png'}, raw=True)"
    )
    with capture_output() as written:
        order = []
        publish = notebook.display_pub.publish
        notebook.display_pub.publish = lambda **given: (
            order.append(written._stdout.getvalue()), publish(**given)
        )  # fmt: skip
        notebook.run_cell_magic("minidocker", "--python", cell)
        notebook.display_pub.publish = publish
    assert written.stdout == "before\nafter\n"
    assert order == ["before\n", "before\nafter\n"]
    assert [output.data for output in written.outputs] == [
        {"text/html": "<b>bold</b>", "text/plain": "<IPython.core.display.HTML object>"},
        {"image/png": "cG5n"},
    ]


def test_the_traceback_of_a_cell_names_a_file_that_exists_outside_only(notebook, tmp_path):
    file = tmp_path / "data"
    file.touch()
    with pytest.raises(FileNotFoundError) as caught:
        run(notebook, "--python --profile untrusted", f"open({str(file)!r})")
    assert shown(caught.value).count(f'"{file}" exists outside, but profile="untrusted"') == 1


def test_the_traceback_of_a_cell_begins_at_its_own_line(notebook):
    with pytest.raises(ZeroDivisionError) as caught:
        run(notebook, "--python", "def divide(by):\n    return 1 / by\n\ndivide(0)")
    text = re.sub(r"\x1b\[[\d;]*m", "", shown(caught.value))
    assert "----> 4 divide(0)" in text
    assert "----> 2     return 1 / by" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "minidocker" not in text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import os; os._exit(3)", "ended its interpreter with exit status 3"),
        ("raise SystemExit(2)", "ended its interpreter with exit status 2"),
        ("import os; os.kill(os.getpid(), 9)", "killed by signal SIGKILL"),
        ("import time; time.sleep(1000)", "did not end within 0.5 seconds"),
        ("value = (1 for _ in ())", "--return value: the variable, of type generator, cannot be"),
    ],
)
def test_a_cell_without_a_result_is_an_error_with_the_reason(notebook, cell, message, leaks):
    with pytest.raises(minidocker.CallError) as caught:
        run(notebook, "--python --timeout 0.5 --return value", cell)
    assert message in shown(caught.value)
    assert "\n" not in shown(caught.value)
    leaks.assert_unchanged()


def test_a_syntax_error_is_found_before_the_launch(notebook):
    with pytest.raises(SyntaxError):
        run(notebook, "--python", "1 +")


def test_a_cell_of_python_cannot_read_input(notebook):
    with pytest.raises(EOFError, match="a cell in a container has no input"):
        run(notebook, "--python", "input('name: ')")


def test_output_of_programs_and_of_python_is_shown_or_kept(notebook):
    cell = "import os, sys\nprint('text'); os.system('echo program'); print('no', file=sys.stderr);"
    out, err = run(notebook, "--python", cell)
    assert (sorted(out.split()), err) == (["program", "text"], "no\n")
    run(notebook, "--python --out listing", "print('kept')")
    assert notebook.user_ns["listing"] == "kept\n"


def test_environment_and_directory_are_the_cells_own(notebook):
    cell = "import os\nprint(os.environ['GREETING'], os.getcwd())"
    assert run(notebook, "--python -e GREETING=hello -w /usr", cell)[0] == "hello /usr\n"
    assert "GREETING" not in os.environ
    assert os.getcwd() != "/usr"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--python --shell bash", "--shell applies to scripts only"),
        ("--python --container box", "--container applies to scripts only"),
        ("--python --explain", "--explain applies to scripts only"),
        ("--python --no-raise-error", "--no-raise-error applies to scripts only"),
        ("--python a", "'a': --python takes no arguments"),
        ("--python --return 1a", "'1a' for --return: it is not a name"),
        ("--return a", "--return needs --python; give both"),
    ],
)
def test_options_that_contradict_python_are_refused(notebook, line, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        run(notebook, line, "print('not run')")


# --- lines -------------------------------------------------------------------------------------


def line(shell, text):
    return shell.run_line_magic("minidocker", text)


def test_explain_returns_the_plan(notebook):
    plan = line(notebook, "explain --hostname lab true")
    assert plan == minidocker.explain(["true"], hostname="lab")
    assert notebook.display_formatter.format(plan)[0]["text/plain"] == str(plan)


def test_inspect_returns_a_description_of_a_container(notebook):
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


def test_run_and_exec_show_the_output_of_the_command(notebook):
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
def test_a_wrong_line_magic_is_refused(notebook, text, message):
    with pytest.raises(UsageError) as caught:
        line(notebook, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "--help"])
def test_a_line_alone_lists_the_commands(notebook, text):
    with capture_output() as written:
        line(notebook, text)
    for word in ("run", "exec", "ps", "inspect", "explain", "doctor", "view"):
        assert f"%minidocker {word}" in written.stdout


# --- the extension -----------------------------------------------------------------------------


def test_the_extension_can_be_unloaded(shell):
    shell.run_line_magic("load_ext", "minidocker")
    assert "minidocker" in shell.magics_manager.magics["cell"]
    shell.run_line_magic("unload_ext", "minidocker")
    assert "minidocker" not in shell.magics_manager.magics["cell"]
    assert "minidocker" not in shell.magics_manager.magics["line"]


def test_only_the_extension_imports_ipython():
    script = "import sys, minidocker, minidocker.jupyter; print('IPython' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
