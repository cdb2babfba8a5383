"""The command line parser: docker's rules."""

import contextlib
import pwd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidocker import NamespaceOptions
from minidocker.cli.options import COMMANDS
from minidocker.cli.parser import HelpRequested, Parsed, UsageError, parse
from minidocker.cli.request import keywords

RUN = COMMANDS["run"]


def read(*words: str, command: str = "run") -> Parsed:
    return parse(COMMANDS[command], list(words))


def wrong(*words: str, command: str = "run") -> str:
    with pytest.raises(UsageError) as caught:
        read(*words, command=command)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_options_end_at_the_first_operand():
    parsed = read("-i", "ls", "-t", "--hostname", "x")
    assert parsed.operands == ["ls", "-t", "--hostname", "x"]
    assert parsed.settings == {"interactive": True}


def test_two_dashes_end_the_options_once():
    assert read("-i", "--", "-t", "--", "x").operands == ["-t", "--", "x"]


def test_one_dash_is_an_operand():
    assert read("-", "x").operands == ["-", "x"]


@pytest.mark.parametrize("words", [("-it",), ("-ti",), ("-i", "-t"), ("--interactive", "--tty")])
def test_letters_combine(words):
    assert read(*words, "sh").settings == {"interactive": True, "tty": True}


@pytest.mark.parametrize(
    "words",
    [("--env", "A=1"), ("--env=A=1",), ("-e", "A=1"), ("-eA=1",), ("-e=A=1",), ("-ite", "A=1")],
)
def test_a_value_comes_in_every_form_that_docker_takes(words):
    assert read(*words, "sh").settings["env"] == [("A", "1")]


def test_a_value_may_look_like_an_option():
    assert read("--hostname", "--tty", "sh").keywords == {"hostname": "--tty"}
    assert read("-h", "--", "sh").keywords == {"hostname": "--"}


def test_an_empty_value_is_a_value():
    assert read("--workdir=", "sh").keywords == {"cwd": ""}
    assert read("-w=", "sh").keywords == {"cwd": ""}


def test_the_last_of_several_counts_and_lists_collect():
    parsed = read("-h", "a", "-e", "A=1", "-h", "b", "-e", "A=2", "sh")
    assert parsed.keywords == {"hostname": "b"}
    assert parsed.settings == {"env": [("A", "1"), ("A", "2")]}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--init", True),
        ("--init=true", True),
        ("--init=1", True),
        ("--init=False", False),
        ("--die-with-parent", True),
        ("--no-die-with-parent", False),
        ("--no-die-with-parent=false", True),
        ("--die-with-parent=false", False),
    ],
)
def test_a_flag_takes_a_truth_value(word, value):
    assert list(read(word, "sh").keywords.values()) == [value]


def test_a_letter_takes_a_truth_value():
    assert read("-t=false", "sh").settings == {"tty": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hostnme", "x"], "run: unknown option --hostnme; did you mean --hostname?"),
        (["--no-init", "x"], "run: unknown option --no-init; did you mean --init?"),
        (["--host", "x"], "run: unknown option --host; did you mean --hostname?"),
        (["-x"], "run: unknown option -x; see minidocker run --help"),
        (["-itx"], "run: unknown option -x (in -itx); see minidocker run --help"),
        (["--qqqqq"], "run: unknown option --qqqqq; see minidocker run --help"),
        (
            ["--init=maybe", "x"],
            (
                "run: --init is a flag; give it alone, or as --init=true or --init=false, not "
                "with the value 'maybe'"
            ),
        ),
        (
            ["-ih"],
            "run: -h needs a value (NAME), as in: minidocker run --hostname mycontainer hostname",
        ),
        (
            ["--env", "=x", "sh"],
            (
                "run: invalid value '=x' for --env: expected NAME=VALUE, or NAME for the "
                "caller's value"
            ),
        ),
        (
            ["--namespaces", "pid,mnt", "sh"],
            (
                "run: invalid value 'pid,mnt' for --namespaces: unknown namespace 'mnt'; did you "
                "mean mount?"
            ),
        ),
        (
            ["--uidmap", "0:1000", "sh"],
            (
                "run: invalid value '0:1000' for --uidmap: expected INSIDE:OUTSIDE:COUNT, three "
                "numbers, or auto"
            ),
        ),
        (
            ["--uidmap", "auto", "--uidmap", "0:0:1", "sh"],
            (
                "run: invalid value '0:0:1' for --uidmap: auto stands for the whole map and "
                "cannot be combined with rows"
            ),
        ),
        (
            ["--timeout", "0", "sh"],
            "run: invalid value '0' for --timeout: expected a positive number of seconds",
        ),
        (
            ["--timeout", "nan", "sh"],
            "run: invalid value 'nan' for --timeout: expected a positive number of seconds",
        ),
        (
            ["--time-offset", "realtime=1", "sh"],
            (
                "run: invalid value 'realtime=1' for --time-offset: expected monotonic=SECONDS or"
                " boottime=SECONDS"
            ),
        ),
        (
            ["--network", "container:x", "sh"],
            (
                "run: invalid value 'container:x' for --network: expected the process id of a "
                "process in the container (see minidocker ps)"
            ),
        ),
        (
            ["--pid", "new", "sh"],
            (
                "run: invalid value 'new' for --pid: expected host (without the option the "
                "namespace is new)"
            ),
        ),
        (["-i"], "run: COMMAND is missing; usage: minidocker run [OPTIONS] COMMAND [ARG ...]"),
    ],
)
def test_a_wrong_command_line_is_refused_with_a_remedy(words, message):
    assert wrong(*words) == message


def test_operands_are_counted():
    assert wrong("12", command="exec").startswith("exec: COMMAND is missing")
    assert wrong(command="exec").startswith("exec: PID is missing")
    assert wrong(command="inspect").startswith("inspect: PID is missing")
    assert wrong("1", "2", command="inspect").startswith("inspect: unexpected operand '2'")
    assert wrong("x", command="ps") == "ps: unexpected operand 'x'; usage: minidocker ps [OPTIONS]"


def test_a_wrong_environment_file_is_named_with_its_line(tmp_path):
    file = tmp_path / "env"
    file.write_text("A=1\nnot a variable=2\n")
    assert wrong("--env-file", str(file), "sh") == (
        f"run: invalid value '{file}' for --env-file: line 2: 'not a variable=2' is neither "
        "NAME=VALUE nor NAME"
    )
    assert "No such file" in wrong("--env-file", str(tmp_path / "none"), "sh")


def test_help_is_an_option_only_before_the_operands():
    with pytest.raises(HelpRequested):
        read("-i", "--help", "sh")
    assert read("sh", "--help").operands == ["sh", "--help"]


@given(st.lists(st.sampled_from([*RUN.spellings(), "-", "--", "x", "=", "-i=", "a=b", "auto"])))
def test_any_command_line_is_read_or_refused_in_one_line(words):
    try:
        parsed = parse(RUN, words)
    except UsageError as error:
        message = str(error)
    else:
        message = ""
        assert parsed.operands
    assert "\n" not in message


@given(st.lists(st.text(max_size=6)))
def test_any_text_is_read_or_refused(words):
    with contextlib.suppress(UsageError, HelpRequested):
        parse(RUN, words)


@given(st.text(min_size=1), st.lists(st.text()))
def test_after_two_dashes_everything_is_the_command(command, arguments):
    assert parse(RUN, ["--", command, *arguments]).operands == [command, *arguments]


# --- from options to keywords --------------------------------------------------------------------


def chosen(*words: str) -> dict:
    return keywords(read(*words, "sh"))


def test_a_keyword_without_an_option_keeps_its_default():
    assert chosen() == {}
    assert chosen("-i", "-t", "--timeout", "3") == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--namespaces", "none"], NamespaceOptions.none()),
        (["--namespaces", "uts,uts,pid"], NamespaceOptions.none().with_uts().with_pid()),
        (["--namespaces", "time,all"], NamespaceOptions.all().with_time()),
        (["--namespaces", "all", "--pid", "host"], NamespaceOptions.all().without_pid()),
        (["--userns", "host"], NamespaceOptions.all().without_user()),
        (["--time-offset", "monotonic=1"], NamespaceOptions.all().with_time()),
        (
            ["--namespaces", "none", "--time-offset", "monotonic=1"],
            NamespaceOptions.none().with_time(),
        ),
    ],
)
def test_namespaces_follow_from_all_options_together(words, expected):
    assert chosen(*words)["namespaces"] == expected
    assert chosen(*reversed_pairs(words))["namespaces"] == expected


def reversed_pairs(words):
    pairs = [words[start : start + 2] for start in range(0, len(words), 2)]
    return [word for pair in reversed(pairs) for word in pair]


def test_rows_of_an_id_map_collect():
    found = chosen("--uidmap", "0:1000:1", "--uidmap", "1:100000:9", "--gidmap", "auto")
    assert found == {"uid_map": [(0, 1000, 1), (1, 100000, 9)], "gid_map": "auto"}


def test_a_user_is_a_number_or_a_name():
    without_a_row = max(row.pw_uid for row in pwd.getpwall()) + 1
    assert chosen("-u", str(without_a_row)) == {"user": without_a_row}
    assert chosen("-u", "1000:1001") == {"user": 1000, "group": 1001}
    nobody = pwd.getpwnam("nobody")
    for user in ("nobody", str(nobody.pw_uid)):
        assert chosen("-u", user) == {"user": nobody.pw_uid, "group": nobody.pw_gid}


def test_clock_offsets_collect():
    found = chosen("--time-offset", "monotonic=1.5", "--time-offset", "boottime=-3")
    assert found["time_offsets"] == {"monotonic": 1.5, "boottime": -3}


def test_options_change_the_callers_environment(monkeypatch):
    monkeypatch.setenv("MINIDOCKER_KEPT", "1")
    monkeypatch.delenv("MINIDOCKER_UNSET", raising=False)
    found = chosen("-e", "A=1", "-e", "MINIDOCKER_UNSET")["env"]
    assert (found["A"], found["MINIDOCKER_KEPT"]) == ("1", "1")
    assert "MINIDOCKER_UNSET" not in found
    assert chosen("--clearenv") == {"env": {}}
    assert chosen("--clearenv", "-e", "MINIDOCKER_KEPT") == {"env": {"MINIDOCKER_KEPT": "1"}}
