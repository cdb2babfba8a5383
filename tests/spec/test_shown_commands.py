"""The files that profile="untrusted" shows because a command is made of them."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from minidocker import Mount, explain, run

WHERE = "import sys, marker; print(sys.prefix, sys.argv[1:], marker.WORD)"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a secret."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "secret").write_text("secret")
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture
def environment(home):
    """A virtual environment in the home, with a module."""
    return make_environment(home / "project" / "venv")


def make_environment(path):
    venv.create(path, symlinks=True)
    (site,) = path.glob("lib/python3*/site-packages")
    (site / "marker.py").write_text("WORD = 'found'\n")
    return path


def script(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o755)
    return path


def output(args, **options):
    result = run(args, profile="untrusted", capture_output=True, text=True, **options)
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout.strip()


def test_a_script_given_by_path_is_shown_without_its_directory(home):
    tool = script(home / "bin" / "tool", "#!/bin/sh", 'echo "$@"; ls -A "$(dirname "$0")" ~')
    (home / "bin" / "other").touch()
    assert output([tool, "a b"]).split() == ["a", "b", f"{home}:", "bin", f"{home}/bin:", "tool"]
    assert output(["./tool", "x"], cwd=home / "bin").startswith("x\n")


def test_a_shown_program_cannot_be_changed(home):
    tool = script(home / "tool", "#!/bin/sh", 'echo x 2>/dev/null >>"$0" || echo refused')
    before = tool.read_text()
    assert output([tool]) == "refused"
    assert tool.read_text() == before


def test_every_link_that_leads_to_a_program_is_shown_as_a_link(home):
    tool = script(home / "far" / "tool", "#!/bin/sh", 'readlink "$0" ~/second; cat ~/secret || :')
    (home / "second").symlink_to("far")
    first = home / "first"
    first.symlink_to(home / "second" / "tool")
    result = run([first], profile="untrusted", capture_output=True, text=True)
    assert result.stdout.split() == [f"{home}/second/tool", "far"]
    assert "secret" in result.stderr
    assert tool.is_file()


def test_an_environment_in_a_home_has_its_prefix_and_its_packages(home, environment):
    python = environment / "bin" / "python"
    args = [python, "-c", WHERE, "x"]
    outside = subprocess.run(args, capture_output=True, text=True, check=True).stdout.strip()
    assert outside == f"{environment} ['x'] found"
    assert output(args) == outside
    hidden = "import os; print(os.path.exists(os.path.expanduser('~/secret')))"
    assert output([python, "-c", hidden]) == "False"


def test_an_environment_is_shown_as_it_is_spelt(home, environment):
    link = home / "link"
    link.symlink_to(environment)
    assert output([link / "bin" / "python", "-c", WHERE]) == f"{link} [] found"


def test_a_script_shows_the_environment_of_its_interpreter(home, environment):
    tool = script(home / "tools" / "tool", f"#!{environment}/bin/python", WHERE)
    (home / "tool").symlink_to(tool)
    for path in (tool, home / "tool"):
        assert output([path, "x"]) == f"{environment} ['x'] found"


def test_a_mount_takes_the_place_of_what_a_command_shows(home, environment, tmp_path):
    other = make_environment(tmp_path / "other")
    (marker,) = other.glob("lib/*/site-packages/marker.py")
    marker.write_text("WORD = 'mine'\n")
    args = [environment / "bin" / "python", "-c", WHERE]
    for target in (environment, environment.parent):
        source = other if target == environment else other.parent
        mounts = [Mount(target, source, read_only=True)]
        if target != environment:
            (tmp_path / "venv").symlink_to("other")
        assert output(args, mounts=mounts) == f"{environment} [] mine"


def test_a_home_that_is_an_environment_is_not_shown(home):
    make_environment(home)
    probe = "import os; print(os.path.exists(os.path.expanduser('~/secret')))"
    assert output([home / "bin" / "python", "-c", probe]) == "False"


def test_what_a_command_names_is_shown_only_if_it_looks_like_python(home, environment):
    (home / "private" / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text(f"home = {home}/private/bin")
    probe = script(environment / "bin" / "probe", "#!/bin/sh", "ls -A ~")
    assert output([probe]) == "project"


def test_an_interpreter_that_is_not_executable_is_not_shown(home):
    key = home / "key"
    key.write_text("key")
    tool = script(home / "tool", f"#!{key}")
    places = [str(line) for line in explain([tool], profile="untrusted")]
    assert any(str(tool) in line for line in places)
    assert not any(str(key) in line for line in places)


def test_the_interpreter_of_the_tests_finds_its_library():
    assert output([sys.executable, "-c", "import json, sys; print(sys.prefix)"]) == sys.prefix
    base = Path(sys.executable).resolve()
    assert output([base, "-c", "import json, sys; print(sys.prefix)"]) == sys.base_prefix
