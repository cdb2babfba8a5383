"""Completion: its candidates, and their use by each shell."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import ClassVar

import pytest

from minidocker.cli.completion import complete
from minidocker.cli.options import COMMANDS
from support.command_line import Window, cli, start


def offered(*words: str) -> list[str]:
    candidates, directive = complete(list(words))
    assert directive == "nothing"
    return [word for word, _ in candidates]


def directive(*words: str) -> str:
    candidates, directive = complete(list(words))
    assert candidates == []
    return directive


def test_commands_come_first():
    assert offered("") == list(COMMANDS)
    assert offered("e") == ["exec", "explain"]
    assert offered("--v") == ["--version"]
    assert offered("nonsense", "") == []


def test_every_option_is_offered_under_all_its_names():
    for command in COMMANDS.values():
        assert set(offered(command.name, "-")) == {*command.spellings(), "--help"}
    assert offered("run", "--host") == ["--hostname"]
    assert offered("run", "-i", "--no-") == ["--no-die-with-parent", "--no-healthcheck"]


def test_values_are_offered_in_both_forms():
    assert offered("run", "--pid", "") == ["host"]
    assert offered("run", "--pid=h") == ["--pid=host"]
    assert offered("run", "--network", "h") == ["host"]
    assert offered("run", "--hostname", "") == []
    assert offered("run", "--hostname", "-") == []


def test_a_list_is_completed_item_by_item():
    assert offered("run", "--namespaces", "u") == ["uts", "user"]
    assert offered("run", "--namespaces", "uts,u") == ["uts,user"]
    assert offered("run", "--namespaces=pid,ne") == ["--namespaces=pid,net"]


def test_variables_and_users_are_those_of_this_machine(monkeypatch):
    monkeypatch.setenv("MINIDOCKER_TEST_VARIABLE", "1")
    assert offered("run", "-e", "MINIDOCKER_TEST_V") == ["MINIDOCKER_TEST_VARIABLE"]
    assert offered("run", "-ite", "MINIDOCKER_TEST_V") == ["MINIDOCKER_TEST_VARIABLE"]
    assert "root" in offered("run", "--user", "roo")


def test_the_shell_completes_paths():
    assert directive("run", "--env-file", "x") == "files"
    assert directive("run", "--env-file=x") == "files --env-file="
    assert directive("run", "-w", "") == "directories"


def test_the_shell_completes_the_commands_own_words():
    assert directive("run", "") == "command 2"
    assert directive("run", "-it", "--hostname", "lab", "ba") == "command 5"
    assert directive("run", "--hostname=lab", "ls", "-l", "") == "command 3"
    assert directive("run", "--", "-") == "command 3"
    assert directive("exec", "-t", "123", "l") == "command 4"


@pytest.fixture
def container(survivors):
    """The pid of a running container, as a string."""
    command = ("sh", "-c", "echo ready; read line", survivors.mark)
    with start("run", "-i", *command, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        (pid,) = (
            str(row["pid"])
            for row in json.loads(cli("ps", "--json").stdout)
            if survivors.mark in row["command"]
        )
        yield pid
        process.stdin.close()


def test_containers_are_offered_by_their_pid(container):
    assert container in offered("exec", "")
    assert container in offered("inspect", container[:1])
    assert f"container:{container}" in offered("run", "--network", "container:")
    assert f"--network=container:{container}" in offered("run", f"--network=container:{container}")
    assert offered("inspect", "x") == []
    assert offered("inspect", container, "") == []


def test_an_unknown_shell_is_refused():
    done = cli("completion", "tcsh")
    assert done.returncode == 125
    assert done.stderr == (
        "minidocker: completion: unknown shell 'tcsh'; the shells are bash, zsh, fish\n"
    )


# --- in the shells themselves --------------------------------------------------------------------


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A home directory, and a PATH with a `minidocker` that runs this package."""
    program = tmp_path / "bin" / "minidocker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m minidocker "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.env").write_text("A=1\n")
    (tmp_path / "some directory").mkdir()
    return tmp_path


def shell(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


class Prompt:
    """A shell at a terminal that prints its command line at the key Ctrl-X."""

    SET_UP: ClassVar = {
        "bash": (
            ["--norc", "--noprofile", "-i"],
            """bind -x '"\\C-x": printf "<%s>\\n" "$READLINE_LINE"; READLINE_LINE='; """,
        ),
        "zsh": (
            ["-f", "-i"],
            (
                'autoload -U compinit; compinit -D; show() { print -r "<$BUFFER>"; BUFFER= }; '
                "zle -N show; bindkey '^X' show; "
            ),
        ),
    }

    def __init__(self, name: str) -> None:
        options, commands = self.SET_UP[name]
        self.window = Window([shell(name), *options])
        self.window.type(f'{commands} eval "$(minidocker completion {name})"; echo load""ed\n')

    def __enter__(self):
        self.window.expect("loaded\r\n")
        return self

    def __exit__(self, *reason) -> None:
        self.window.__exit__(*reason)

    def complete(self, line: str) -> str:
        """Type a line and the completion key, and return the completed line."""
        self.window.type(f"{line}\t\x18")
        return self.window.expect(r"<([^>]*)>").group(1).decode()


LINES = [
    ("minidocker expl", "minidocker explain "),
    ("minidocker run --hostn", "minidocker run --hostname "),
    ("minidocker run --network cont", "minidocker run --network container:"),
    ("minidocker run --network=ho", "minidocker run --network=host "),
    ("minidocker run --pid=", "minidocker run --pid=host "),
    ("minidocker run --time-offset=bo", "minidocker run --time-offset=boottime="),
    ("minidocker run --namespaces uts,us", "minidocker run --namespaces uts,user "),
    ("minidocker run --env-file sett", "minidocker run --env-file settings.env "),
    ("minidocker run --env-file=sett", "minidocker run --env-file=settings.env "),
    ("minidocker run --workdir so", "minidocker run --workdir some\\ directory/"),
    ("minidocker run -it --hostname lab touc", "minidocker run -it --hostname lab touch "),
    ("minidocker run -it touch sett", "minidocker run -it touch settings.env "),
]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_shell_completes_at_its_prompt(name, container):
    with Prompt(name) as prompt:
        assert {line: prompt.complete(line) for line, _ in LINES} == dict(LINES)
        line = f"minidocker run --network=container:{container}"
        assert prompt.complete(line) == f"{line} "
        line = f"minidocker exec -e A=b {container}"
        assert prompt.complete(line) == f"{line} "


@pytest.mark.usefixtures("path")
def test_bash_completes_behind_a_colon_whether_or_not_it_splits_words_there(container):
    with Prompt("bash") as prompt:
        prompt.window.type("COMP_WORDBREAKS=${COMP_WORDBREAKS//:}; echo chan''ged\n")
        prompt.window.expect("changed\r\n")
        line = f"minidocker run --network container:{container}"
        assert prompt.complete(line) == f"{line} "


@pytest.mark.usefixtures("path")
def test_fish_offers_the_candidates():
    def in_fish(line: str) -> list[str]:
        code = "minidocker completion fish | source; complete -C $argv[1]"
        command = [shell("fish"), "--no-config", "-c", code, line]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [row.partition("\t")[0] for row in done.stdout.splitlines()]

    assert in_fish("minidocker ex") == ["exec", "explain"]
    assert in_fish("minidocker run --hostn") == ["--hostname"]
    assert in_fish("minidocker run --pid=ho") == ["--pid=host"]
    assert in_fish("minidocker run --namespaces uts,us") == ["uts,user"]
    assert in_fish("minidocker run --env-file set") == ["settings.env"]
    assert in_fish("minidocker run --env-file=set") == ["--env-file=settings.env"]
    assert in_fish("minidocker run --workdir so") == ["some directory/"]
    assert "touch" in in_fish("minidocker run -it --hostname lab touc")
