"""What ``profile="untrusted"`` says about a file of the host that it does not show."""

import os
import shlex
import socket
import stat
import subprocess
import sys
import venv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import minidocker
from minidocker import Container, Mount
from support.command_line import cli

SHOWS = 'but profile="untrusted" shows only /usr and what is named'


def mount(path: Path) -> str:
    return f'mounts=[Mount("{path}", "{path}", read_only=True)]'


def remedy(path: Path) -> str:
    return f"Remedy: {mount(path)}"


def program(path: Path, text: str = "#!/bin/sh\necho started\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def failure(args: Any, **options: Any) -> minidocker.SpawnError:
    with pytest.raises(minidocker.SpawnError) as caught:
        minidocker.run(args, profile="untrusted", **options)
    assert isinstance(caught.value, FileNotFoundError)
    return caught.value


def given(**options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        minidocker.run(["true"], profile="untrusted", **options)
    assert all(one.category.__name__ == "SpecWarning" for one in caught)
    assert {one.filename for one in caught} <= {__file__}
    assert all(issubclass(one.category, RuntimeWarning) for one in caught)
    return [str(one.message) for one in caught]


# --- errors ------------------------------------------------------------------------------------


@pytest.fixture
def container() -> Iterator[Container]:
    with Container(profile="untrusted") as started:
        yield started


def failure_to_enter(container: Container, args: Any) -> minidocker.SpawnError:
    with pytest.raises(minidocker.CommandNotFound) as caught:
        container.run(args)
    return caught.value


def test_a_script_says_that_its_interpreter_exists_outside_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = program(tmp_path / "env" / "interpreter")
    script = program(tmp_path / "bin" / "a-script", f"#! {interpreter} -x\n")
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    shown = [Mount(script.parent, script.parent, read_only=True)]
    with Container(profile="untrusted", mounts=shown) as container:
        error = failure_to_enter(container, ["a-script"])
    assert "cannot execute 'a-script': its interpreter " in str(error)
    assert f'"{interpreter}" exists outside, {SHOWS}' in str(error)
    assert error.hint == mount(interpreter.parent)


@pytest.mark.parametrize("name", ["tool", "with space", "with{}braces", 'with"quote'])
def test_a_command_found_in_the_callers_path_says_where_it_is_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Container, name: str
) -> None:
    tool = program(tmp_path / "bin" / name)
    monkeypatch.setenv("PATH", f"{tmp_path}/none:{tool.parent}:{os.environ['PATH']}")
    error = failure_to_enter(container, [name])
    assert str(error).startswith(f"cannot execute {name!r}: ")
    assert f"exists outside, {SHOWS}" in str(error)
    assert str(error).endswith(remedy(tool.parent))
    assert (error.errno, error.filename, error.step) == (2, name, "exec")


def test_the_remedy_for_a_python_is_its_whole_environment(
    tmp_path: Path, container: Container
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    hint = failure_to_enter(container, [python]).hint
    assert hint == mount(environment)
    options = eval(f"dict({hint})", {"Mount": Mount})
    prefix = Path(sys.base_prefix)
    if not prefix.is_relative_to("/usr"):
        with Container(profile="untrusted", **options) as second:
            assert failure_to_enter(second, [python]).hint == mount(prefix)
        options["mounts"].append(Mount(prefix, prefix, read_only=True))
    with Container(profile="untrusted", **options) as third:
        words = [python, "-c", "import sys; print(sys.prefix)"]
        done = third.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(environment)


def test_a_working_directory_says_that_it_exists_outside_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "project"
    directory.mkdir()
    absolute = failure(["true"], cwd=directory)
    assert str(absolute) == (
        f"cannot change the directory {str(directory)!r}: it exists outside, {SHOWS}. "
        f"{remedy(directory)}"
    )
    assert isinstance(absolute, minidocker.PathNotFound)
    monkeypatch.chdir(tmp_path)
    relative = failure(["true"], cwd="project")
    assert str(relative).endswith(f"it exists outside, {SHOWS}. {remedy(directory)}")
    (tmp_path / "alias").symlink_to(directory)
    through_a_link = failure(["true"], cwd=tmp_path / "alias")
    assert str(through_a_link).endswith(remedy(tmp_path / "alias"))


def test_the_remedy_works(tmp_path: Path) -> None:
    tool = program(tmp_path / "bin" / "tool", "#!/bin/sh\npwd\n")
    shown = failure(["true"], cwd=tool.parent).hint
    assert shown is not None
    options = eval(f"dict({shown})", {"Mount": Mount})
    done = minidocker.run([tool], profile="untrusted", cwd=tool.parent, stdout=-1, **options)
    assert done.stdout.decode().strip() == str(tool.parent)


def test_a_path_that_a_link_inside_leads_to_is_named(tmp_path: Path) -> None:
    tool = program(tmp_path / "opt" / "tool")
    links = tmp_path / "links"
    links.mkdir()
    (links / "tool").symlink_to(tool)
    error = failure(["/mnt/tool"], mounts=[Mount("/mnt", links, read_only=True)])
    assert f'it leads to "{tool}", which exists outside, {SHOWS}' in str(error)
    assert error.hint == mount(tool.parent)


def test_a_mount_of_the_caller_decides_what_exists_in_it(tmp_path: Path) -> None:
    tool = program(tmp_path / "bin" / "tool")
    other = tmp_path / "other"
    other.mkdir()
    error = failure([tool], mounts=[Mount(tool.parent, other)])
    assert "exists outside" not in str(error)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        pytest.param(["/no/such/command"], {}, id="a command by path"),
        pytest.param(["no-such-command"], {}, id="a command by name"),
        pytest.param(["true"], {"cwd": "/no/such/directory"}, id="a directory"),
    ],
)
def test_a_path_that_exists_nowhere_keeps_its_error(args: Any, options: Any) -> None:
    error = failure(args, **options)
    assert "No such file or directory (errno 2)" in str(error)
    assert error.reason is None


def test_other_profiles_say_nothing_of_the_kind(tmp_path: Path) -> None:
    tool = program(tmp_path / "tool", "#!/no/such/interpreter\n")
    with pytest.raises(minidocker.CommandNotFound) as caught:
        minidocker.run([tool])
    assert "exists outside" not in str(caught.value)


def test_a_command_that_enters_a_container_says_it_too(
    tmp_path: Path, container: Container
) -> None:
    tool = program(tmp_path / "bin" / "tool")
    for start in (container.run, container.popen):
        with pytest.raises(minidocker.CommandNotFound) as caught:
            start([tool])
        assert str(caught.value).endswith(f"exists outside, {SHOWS}. {remedy(tool.parent)}")
    with pytest.raises(minidocker.PathNotFound) as caught_too:
        container.run(["true"], cwd=tmp_path)
    assert str(caught_too.value).endswith(remedy(tmp_path))


def test_the_command_line_says_it_in_its_own_words(tmp_path: Path) -> None:
    directory = tmp_path / "two words"
    directory.mkdir()
    done = cli("run", "--profile", "untrusted", "--workdir", str(directory), "true", text=True)
    mapping = shlex.quote(f"{directory}:{directory}:ro")
    assert done.returncode == 125
    assert done.stderr == (
        f"minidocker: cannot change the directory {str(directory)!r}: it exists outside, but "
        f"--profile untrusted shows only /usr and what is named. Remedy: -v {mapping}\n"
    )


# --- warnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "{file}"),
        ("SSL_CERT_DIR", "/usr/lib:{directory}"),
        ("REQUESTS_CA_BUNDLE", "{file}"),
        ("TZDIR", "{directory}"),
        ("TZ", ":{file}"),
        ("LD_LIBRARY_PATH", "{directory};/usr/lib"),
        ("PYTHONPATH", "relative:{directory}"),
        ("NODE_EXTRA_CA_CERTS", "{file}"),
        ("GCONV_PATH", "{directory}"),
        ("LOCPATH", "{directory}/."),
    ],
)
def test_a_variable_that_names_a_hidden_path_is_a_warning(
    tmp_path: Path, name: str, value: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    text = value.format(file=file, directory=tmp_path)
    (message,) = given(env={name: text, "PATH": os.defpath})
    assert message.startswith(f'the variable {name} names "{tmp_path}')
    assert message.endswith(f"which exists outside, {SHOWS}. {remedy(tmp_path)}")


def test_a_variable_that_names_what_is_shown_is_no_warning(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    shown = {
        "SSL_CERT_DIR": "/etc/ssl/certs:/usr/lib",
        "TZDIR": "/usr/share/zoneinfo",
        "SSL_CERT_FILE": "/no/such/file",
        "PYTHONPATH": f"relative:{tmp_path}:",
        "TZ": "Europe/Berlin",
        "HOME": "/home",
        "PATH": f"{tmp_path}:{os.defpath}",
    }
    assert given(env=shown, mounts=[Mount(tmp_path, tmp_path, read_only=True)]) == []
    assert given(env={"SSL_CERT_FILE": str(file)}, tmpfs=[tmp_path]) == []


def test_a_directory_that_is_empty_inside_is_a_warning() -> None:
    (message,) = given(env={"PYTHONPATH": "/var/tmp"})
    assert message.startswith('the variable PYTHONPATH names "/var/tmp", which exists outside')


def test_other_profiles_warn_of_no_variable(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minidocker.run(["true"], env={"SSL_CERT_DIR": str(tmp_path)})
        minidocker.run(["true"], env={"SSL_CERT_DIR": str(tmp_path)}, profile="docker")


def test_a_warning_that_is_an_error_starts_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    mounted = [Mount("/mnt", tmp_path)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="the variable TZDIR"):
            minidocker.run(
                ["touch", "/mnt/proof"],
                env={"TZDIR": str(tmp_path)},
                mounts=mounted,
                profile="untrusted",
            )
    assert not proof.exists()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


@pytest.mark.parametrize(("make", "kind"), [(fifo, "FIFO"), (unix_socket, "socket")])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_socket_or_fifo_in_a_mounted_directory_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    kind: str,
    read_only: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "control")
    (tmp_path / "data").touch()
    (message,) = given(mounts=[Mount("/data", tmp_path, read_only=read_only)])
    assert f'shows the {kind} "{tmp_path}/control"' in message
    assert 'profile="untrusted"' in message


def test_the_warning_of_a_channel_names_it_whatever_its_name_and_way(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    link = tmp_path / "link"
    link.symlink_to(directory)
    os.utime(directory, (1, 1))
    mounts = [Mount("/data", link, read_only=True)]
    assert given(mounts=mounts) == []
    # The directory has changed since its entries were looked at.
    os.mkfifo(os.fsencode(directory) + b"/a\nb{}\xff")
    (message,) = given(mounts=mounts)
    assert f'shows the FIFO "{link}/a\\nb{{ }}\N{REPLACEMENT CHARACTER}"' in message
    (message,) = given(mounts=[Mount("/a", link), Mount("/b", tmp_path)])
    assert f'"{link}/' in message


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_channel_beside_the_modules_of_a_function_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Literal["fork", "spawn"]
) -> None:
    os.mkfifo(tmp_path / "control")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning) as caught:
        assert minidocker.isolated(profile="untrusted", method=method)(len)("abc") == 3
    (message,) = [str(one.message) for one in caught]
    assert message.startswith(f'profile="untrusted" shows the FIFO "{tmp_path}/control"')
    assert "with the files that it is made of" in message


@pytest.mark.parametrize("flags", [[], ["-u", "-B"]])
def test_a_script_that_an_interpreter_cannot_open_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    script = program(tmp_path / "script.py", "print(1)\n")
    monkeypatch.chdir(tmp_path)
    for name in (str(script), "script.py", "./script.py"):
        with pytest.warns(RuntimeWarning) as caught:
            done = minidocker.run(
                ["/usr/bin/python3", *flags, name], profile="untrusted", stderr=subprocess.DEVNULL
            )
        (given,) = caught
        assert str(given.message).startswith(f'the script "{script}" exists outside, {SHOWS}')
        assert done.returncode != 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minidocker.run(
            ["/usr/bin/python3", *flags, str(script)],
            profile="untrusted",
            stdout=subprocess.DEVNULL,
            mounts=[Mount(tmp_path, tmp_path)],
        )
        minidocker.run(["/usr/bin/python3", "-c", "0", str(script)], profile="untrusted")


def test_a_module_that_python_cannot_find_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "package" / "__main__.py", "")
    program(tmp_path / "module.py", "")
    monkeypatch.chdir(tmp_path)
    for name, path in (("package", "package"), ("package.x", "package"), ("module", "module.py")):
        with pytest.warns(RuntimeWarning) as caught:
            minidocker.run(["python3", "-m", name], profile="untrusted", stderr=subprocess.DEVNULL)
        (given,) = caught
        message = str(given.message)
        assert message.startswith(f'the module "{tmp_path / path}" exists outside, {SHOWS}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minidocker.run(["python3", "-m", "this"], profile="untrusted", stdout=subprocess.DEVNULL)


def test_a_command_that_enters_is_warned_of_the_script_and_of_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: Container
) -> None:
    script = program(tmp_path / "script.sh")
    with pytest.warns(RuntimeWarning, match=f'the script "{script}" exists outside'):
        container.run(["sh", script], stderr=subprocess.DEVNULL)
    mine = program(tmp_path / "bin" / "true", f"#!{sys.executable}\n")
    monkeypatch.setenv("PATH", f"{mine.parent}:/usr/bin:/bin")
    with pytest.warns(RuntimeWarning) as caught:
        container.run(["true"])
    (given,) = caught
    assert str(given.message) == (
        f'"/usr/bin/true" starts in place of "{mine}", which exists outside, {SHOWS}. '
        f"{remedy(mine.parent)}"
    )


def test_what_is_no_channel_is_no_warning(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    os.mkfifo(below / "control")
    (tmp_path / "link").symlink_to(below / "control")
    assert stat.S_ISFIFO(os.stat(tmp_path / "link").st_mode)
    assert given(mounts=[Mount("/data", tmp_path)]) == []
    assert given(mounts=[Mount("/data/control", below / "control")]) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minidocker.run(["true"], mounts=[Mount("/tmp", below)])


def test_a_command_that_enters_a_container_has_its_own_variables(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Container(profile="untrusted") as container:
            container.run(["true"], env={"SSL_CERT_DIR": "/usr/lib"})
            for start in (container.run, container.popen):
                with pytest.raises(RuntimeWarning, match=f'SSL_CERT_DIR names "{tmp_path}"'):
                    start(["true"], env={"SSL_CERT_DIR": str(tmp_path)})
            assert len(container.processes()) == 1


def test_a_container_warns_of_a_socket_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unix_socket(tmp_path / "control")
    container = Container(profile="untrusted", mounts=[Mount("/data", tmp_path)])
    with pytest.warns(RuntimeWarning, match="shows the socket"):
        container.start()
    with container, warnings.catch_warnings():
        warnings.simplefilter("error")
        container.run(["true"])


def test_the_command_line_prints_a_warning_as_one_line(tmp_path: Path) -> None:
    settings = f"SSL_CERT_DIR={tmp_path}"
    done = cli("run", "--profile", "untrusted", "-e", settings, "true", text=True)
    assert done.returncode == 0
    assert done.stderr == (
        f'minidocker: warning: the variable SSL_CERT_DIR names "{tmp_path}", which exists outside, '
        "but --profile untrusted shows only /usr and what is named. "
        f"Remedy: -v {tmp_path}:{tmp_path}:ro\n"
    )


def test_explain_gives_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        minidocker.explain([sys.executable], env={"TZDIR": str(tmp_path)}, profile="untrusted")
