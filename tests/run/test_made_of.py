"""What a command is made of is shown by itself, read-only, under profile="untrusted"."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, isolated


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory with a secret."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("secret")
    monkeypatch.setenv("HOME", str(home))
    return home


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(args, **options):
    options = {"capture_output": True, "text": True, **options}
    return minidocker.run([str(word) for word in args], profile="untrusted", **options)


LIST = "#!/bin/sh\nls -A $(dirname $0); echo x >> $0\n"


def test_a_program_given_by_its_path_is_shown_and_nothing_beside_it(home):
    program = script(home / "tools/bin/list", LIST)
    (home / "tools/bin/other").write_text("")
    done = run([program])
    assert done.stdout == "list\n"
    assert "Read-only file system" in done.stderr
    assert program.read_text() == LIST


def test_each_link_on_the_way_is_a_link_inside(home):
    script(home / "store/1.0/list", "#!/bin/sh\nreadlink $0; readlink -f $0\n")
    (home / "store/current").symlink_to("1.0")
    (home / "bin").mkdir()
    (home / "bin/list").symlink_to("../store/current/list")
    done = run([home / "bin/list"])
    assert done.stdout.splitlines() == ["../store/current/list", str(home / "store/1.0/list")]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment in a directory that the profile hides, with one module."""
    directory = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    purelib = sysconfig.get_path("purelib", "venv", vars={"base": str(directory)})
    Path(purelib, "module_of_the_environment.py").write_text("ANSWER = 42\n")
    return directory


CODE = "import module_of_the_environment as m, sys; print(m.ANSWER, sys.prefix)"


def test_a_python_of_an_environment_has_its_modules(environment):
    done = run([environment / "bin/python", "-c", CODE])
    assert (done.stdout, done.stderr) == (f"42 {environment}\n", "")


def test_a_script_has_the_environment_that_its_first_line_names(environment, home):
    program = script(home / "program", f"#!{environment}/bin/python\n{CODE}\n")
    assert run([program]).stdout == f"42 {environment}\n"


def test_a_link_to_a_python_of_an_environment_finds_the_same_as_outside(environment, home):
    (home / "python").symlink_to(environment / "bin/python")
    command = [home / "python", "-c", "import sys; print(sys.prefix)"]
    outside = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run(command).stdout == outside.stdout


def test_a_home_is_not_shown_even_if_it_is_an_environment(environment, home):
    (home / "pyvenv.cfg").write_text((environment / "pyvenv.cfg").read_text())
    script(home / "bin/list", "#!/bin/sh\ncat $HOME/secret; ls -A $HOME\n")
    done = run([home / "bin/list"])
    assert done.stdout == "bin\n"


def test_a_mount_of_the_users_replaces_what_is_shown_by_itself(home, tmp_path):
    program = script(home / "tools/program", "#!/bin/sh\necho theirs\n")
    script(tmp_path / "mine/program", "#!/bin/sh\necho mine; echo x > $(dirname $0)/new\n")
    done = run([program], mounts=[Mount(str(home / "tools"), str(tmp_path / "mine"))])
    assert (done.stdout, done.stderr) == ("mine\n", "")
    assert (tmp_path / "mine/new").exists()


def test_a_program_that_is_a_fifo_does_not_delay_its_error(home):
    os.mkfifo(home / "fifo")
    with pytest.raises(minidocker.SpawnError):
        run([home / "fifo"])


PROJECT = {
    "module_of_answer.py": "def answer(): import helper_of_answer as other; return other.ANSWER\n",
    "helper_of_answer.py": "ANSWER = 42\n",
}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_function_has_the_modules_of_its_path(home, method, monkeypatch):
    (home / "project").mkdir()
    for name, text in PROJECT.items():
        (home / "project" / name).write_text(text)
    monkeypatch.syspath_prepend(str(home / "project"))
    import module_of_answer  # noqa: PLC0415

    try:
        options = {"profile": "untrusted", "method": method}
        assert isolated(**options)(module_of_answer.answer)() == 42
        assert isolated(**options)(os.listdir)(str(home)) == ["project"]
    finally:
        del sys.modules["module_of_answer"]


AT_HOME = "import os\ndef listed(): return os.listdir(os.path.dirname(__file__))\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_of_a_home_on_the_path_a_function_has_the_imported_modules(home, method, monkeypatch):
    (home / "module_at_home.py").write_text(AT_HOME)
    (home / "other_at_home.py").write_text("")
    monkeypatch.syspath_prepend(str(home))
    import module_at_home  # noqa: PLC0415

    try:
        found = isolated(profile="untrusted", method=method)(module_at_home.listed)()
        assert [name for name in found if name != "__pycache__"] == ["module_at_home.py"]
    finally:
        del sys.modules["module_at_home"]
