"""What a command is made of is shown by itself, read-only, under profile="untrusted"."""

import os
import subprocess
import sys
import venv

import pytest

import minidocker
from minidocker import Mount, explain

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


def run(args, **options):
    options = {"capture_output": True, "text": True, **options}
    return minidocker.run(args, profile="untrusted", **options)


def output(args, **options):
    result = run(args, **options)
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout.strip()


def outside(args):
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout.strip()


# --- a program ---------------------------------------------------------------------------------


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
    result = run([first])
    assert result.stdout.split() == [f"{home}/second/tool", "far"]
    assert "secret" in result.stderr
    assert tool.is_file()


def test_a_program_that_is_a_fifo_does_not_delay_its_error(home):
    os.mkfifo(home / "fifo")
    with pytest.raises(minidocker.SpawnError):
        run([home / "fifo"])


def test_an_interpreter_that_is_not_executable_is_not_shown(home):
    key = home / "key"
    key.write_text("key")
    tool = script(home / "tool", f"#!{key}")
    places = [str(line) for line in explain([tool], profile="untrusted")]
    assert any(str(tool) in line for line in places)
    assert not any(str(key) in line for line in places)


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/env -S -u {other} sh",
        "/usr/bin/env -S BASH_ENV={tool} {other}",
        "{other}",
        "/usr/bin/env -S -u {theirs}/bin/link sh",
    ],
)
def test_a_script_does_not_bring_in_a_script_of_another_author(home, line):
    other = script(home / "bin" / "backup", "#!/bin/bash", "password=x")
    theirs = home / "theirs"
    tool = theirs / "tool"
    script(tool, f"#!{line.format(other=other, tool=tool, theirs=theirs)}", f"cat {other}")
    (theirs / "pyvenv.cfg").touch()
    (theirs / "bin").mkdir()
    (theirs / "bin" / "link").symlink_to(other)
    places = [str(line) for line in explain([tool], profile="untrusted")]
    assert any(str(tool) in line for line in places)
    assert not any(str(other) in line for line in places)


def test_a_mount_of_the_users_replaces_what_is_shown_by_itself(home, tmp_path):
    program = script(home / "tools/program", "#!/bin/sh", "echo theirs")
    script(tmp_path / "mine/program", "#!/bin/sh", "echo mine; echo x > $(dirname $0)/new")
    assert output([program], mounts=[Mount(home / "tools", tmp_path / "mine")]) == "mine"
    assert (tmp_path / "mine/new").exists()


# --- a name ------------------------------------------------------------------------------------


@pytest.fixture
def search(monkeypatch):
    """Put directories first in PATH."""
    paths = os.environ["PATH"].split(":")

    def prepend(*directories):
        monkeypatch.setenv("PATH", ":".join([*map(str, directories), *paths]))

    return prepend


def test_a_script_of_python_is_found_by_its_name(home, search):
    line = "import os; print('mine', os.listdir(os.path.expanduser('~/first')))"
    script(home / "first" / "ls", f"#!{sys.executable}", line)
    script(home / "second" / "ls", f"#!{sys.executable}", "print('another')")
    (home / "none" / "ls").mkdir(parents=True)
    search(home / "missing", home / "none", home / "first", home / "second")
    assert output(["ls"]) == outside(["ls"]) == "mine ['ls']"


def test_a_name_is_looked_up_in_the_environment_that_is_given(home, search):
    for name in ("ours", "theirs"):
        script(home / name / "tool", f"#!{sys.executable}", f"print({name!r})")
    search(home / "ours")
    assert output(["tool"]) == "ours"
    assert output(["tool"], env={"PATH": f"{home}/theirs:/usr/bin:/bin"}) == "theirs"


def test_a_shim_of_a_version_manager_is_passed_over(home, environment, search):
    shim = script(home / "shims" / "python3", "#!/bin/sh", 'exec ~/manager exec python3 "$@"')
    for directory in ("/usr/bin", environment / "bin"):
        search(shim.parent, directory)
        words = ["python3", "-c", "import sys; print(sys.executable)"]
        assert output(words).startswith(f"{directory}/python3")


@pytest.mark.parametrize("name", ["python", "python3"])
def test_a_name_of_an_active_environment_has_its_packages(environment, search, name):
    search(environment / "bin")
    assert output([name, "-c", WHERE, "x"]) == f"{environment} ['x'] found"


def test_a_tool_of_an_active_environment_is_found_by_its_name(environment, search):
    script(environment / "bin" / "tool", f"#!{environment}/bin/python", WHERE)
    search(environment / "bin")
    assert output(["tool", "x"]) == f"{environment} ['x'] found"


@pytest.mark.parametrize("line", ["python3", "-S python3 -B", "-Spython3 -B", "-S X=1 python3"])
def test_a_script_has_the_python_that_env_finds(home, environment, search, line):
    tool = script(home / "tool", f"#!/usr/bin/env {line}", WHERE)
    search(environment / "bin")
    assert output([tool, "x"]) == outside([tool, "x"]) == f"{environment} ['x'] found"


def test_a_program_below_usr_is_shown_with_nothing_else():
    def lines(name):
        search = {"PATH": "/nonexistent:/usr/bin"}
        found = [str(line) for line in explain([name], profile="untrusted", env=search)]
        return [line for line in found if "execve" not in line]

    assert lines("python3") == lines("true") == lines("/usr/bin/true")


# --- Python ------------------------------------------------------------------------------------


def test_an_environment_in_a_home_has_its_prefix_and_its_packages(environment):
    args = [environment / "bin" / "python", "-c", WHERE, "x"]
    assert output(args) == outside(args) == f"{environment} ['x'] found"
    hidden = "import os; print(os.path.exists(os.path.expanduser('~/secret')))"
    assert output([args[0], "-c", hidden]) == "False"


def test_an_environment_is_shown_as_it_is_spelt(home, environment):
    link = home / "link"
    link.symlink_to(environment)
    assert output([link / "bin" / "python", "-c", WHERE]) == f"{link} [] found"


def test_a_script_shows_the_environment_of_its_interpreter(home, environment):
    tool = script(home / "tools" / "tool", f"#!{environment}/bin/python", WHERE)
    (home / "tool").symlink_to(tool)
    for path in (tool, home / "tool"):
        assert output([path, "x"]) == f"{environment} ['x'] found"


def test_a_link_to_a_python_of_an_environment_finds_the_same_as_outside(home, environment):
    (home / "python").symlink_to(environment / "bin/python")
    command = [home / "python", "-c", "import sys; print(sys.prefix)"]
    assert output(command) == outside(command)


def test_a_mount_takes_the_place_of_what_a_command_shows(environment, tmp_path):
    other = make_environment(tmp_path / "other")
    (marker,) = other.glob("lib/*/site-packages/marker.py")
    marker.write_text("WORD = 'mine'\n")
    (tmp_path / "venv").symlink_to("other")
    args = [environment / "bin" / "python", "-c", WHERE]
    for target, source in ((environment, other), (environment.parent, tmp_path)):
        mounts = [Mount(target, source, read_only=True)]
        assert output(args, mounts=mounts) == f"{environment} [] mine"


def test_a_home_that_is_an_environment_is_not_shown(home):
    make_environment(home)
    probe = "import os; print(os.path.exists(os.path.expanduser('~/secret')))"
    assert output([home / "bin" / "python", "-c", probe]) == "False"


def test_a_home_that_a_link_leads_to_is_not_shown(home, tmp_path, monkeypatch):
    make_environment(home)
    script(home / "bin" / "probe", "#!/bin/sh", f"cat {home}/secret || echo hidden")
    link = tmp_path / "link"
    link.symlink_to(home)
    for spelt, used in [(link, home), (link, link), (home, link)]:
        monkeypatch.setenv("HOME", str(spelt))
        assert run([used / "bin" / "probe"]).stdout == "hidden\n"


def test_what_a_command_names_is_shown_only_if_it_looks_like_python(home, environment):
    (home / "private" / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text(f"home = {home}/private/bin")
    probe = script(environment / "bin" / "probe", "#!/bin/sh", "ls -A ~")
    assert output([probe]) == "project"


def test_the_interpreter_of_the_tests_finds_its_library():
    assert output([sys.executable, "-c", "import json, sys; print(sys.prefix)"]) == sys.prefix
    base = os.path.realpath(sys.executable)
    assert output([base, "-c", "import json, sys; print(sys.prefix)"]) == sys.base_prefix
