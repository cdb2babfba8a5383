"""The variables that a command or function inherits, by default and with "untrusted"."""

import asyncio
import os
import subprocess
import sys

import pytest

import minidocker
from minidocker import Container, Mount, isolated
from support.command_line import cli

PASSED = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LC_TIME": "C",
    "TZ": "UTC",
    "TERM": "dumb",
    "TMPDIR": "/var/tmp",
}
KEPT_OUT = {
    "API_TOKEN": "secret",
    "LC": "x",
    "LANGUAGE": "de",
    "PATH_TO_KEY": "/key",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "TWO_LINES": "=\nPATH=/other",
    "EMPTY": "",
}

PREFIXES = [
    Mount(prefix, prefix, read_only=True)
    for prefix in sorted({sys.prefix, sys.base_prefix})
    if not prefix.startswith("/usr")
]
ENVIRON = "dict(__import__('os').environ)"
ENV = ["env", "-0"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in (PASSED | KEPT_OUT).items():
        monkeypatch.setenv(name, value)


def parse(output: bytes) -> dict[str, str]:
    lines = output.decode().split("\0")[:-1]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def by_run(**options):
    return parse(minidocker.run(ENV, capture_output=True, check=True, **options).stdout)


def by_popen(**options):
    with minidocker.Popen(ENV, stdout=subprocess.PIPE, **options) as process:
        return parse(process.communicate(timeout=60)[0])


def by_aio(**options):
    done = asyncio.run(minidocker.aio.run(ENV, capture_output=True, check=True, **options))
    return parse(done.stdout)


def by_container(**options):
    with Container(**options) as box:
        return parse(box.run(ENV, capture_output=True, check=True).stdout)


def by_popen_in_a_container(**options):
    with Container() as box, box.popen(ENV, stdout=subprocess.PIPE, **options) as process:
        return parse(process.communicate(timeout=60)[0])


def by_attach(**options):
    with Container() as box, minidocker.attach(box.pid) as attached:
        return parse(attached.run(ENV, capture_output=True, check=True, **options).stdout)


def by_cli(**options):
    profile = ["--profile", options["profile"]] if options else []
    return parse(cli("run", *profile, *ENV).stdout.encode())


def by_spawn(**options):
    return isolated(method="spawn", **options)(eval)(ENVIRON)


def by_interpreter(**options):
    with Container(mounts=PREFIXES if options else [], **options) as box:
        return box.call(eval, ENVIRON)


WAYS = pytest.mark.parametrize(
    "way",
    [
        by_run,
        by_popen,
        by_aio,
        by_container,
        by_popen_in_a_container,
        by_attach,
        by_cli,
        by_spawn,
        by_interpreter,
    ],
)


@WAYS
def test_untrusted_inherits_a_short_list(way):
    assert way(profile="untrusted") == PASSED


@WAYS
def test_without_a_profile_every_variable_is_inherited(way):
    assert way() == os.environ


@pytest.mark.parametrize("env", [{}, {"API_TOKEN": "given"}, PASSED | KEPT_OUT], ids=len)
@pytest.mark.parametrize("way", [by_run, by_popen, by_aio, by_attach])
def test_an_env_that_is_given_is_exactly_what_the_command_gets(way, env):
    assert way(profile="untrusted", env=env, executable="/usr/bin/env") == env


def test_docker_inherits_every_variable():
    assert by_run(profile="docker") == os.environ


@pytest.mark.parametrize(
    ("directory", "options", "passed"),
    [
        ("/tmp", {}, True),
        ("/dev/shm/", {}, True),
        ("/tmp/of-the-caller", {}, False),
        ("/opt", {}, False),
        ("relative", {}, False),
        ("/opt", {"tmpfs": ["/opt"]}, True),
        ("/opt/a", {"tmpfs": ["/opt"]}, False),
        ("/opt/a", {"mounts": [Mount("/opt", "{tmp_path}")]}, True),
        ("/opt/a", {"mounts": [Mount("/opt", "{tmp_path}", read_only=True)]}, False),
    ],
)
def test_tmpdir_is_inherited_where_the_container_has_it(
    monkeypatch, tmp_path, directory, options, passed
):
    (tmp_path / "a").mkdir()
    mounts = [
        Mount(mount.target, tmp_path, read_only=mount.read_only)
        for mount in options.get("mounts", ())
    ]
    monkeypatch.setenv("TMPDIR", directory)
    found = by_run(profile="untrusted", **{**options, **({"mounts": mounts} if mounts else {})})
    assert found.get("TMPDIR") == (directory if passed else None)


def test_the_memory_of_a_clean_interpreter_has_no_other_variable_either():
    # A template for containers without the profile runs already, with every variable.
    assert "API_TOKEN" in by_spawn()
    found = isolated(method="spawn", profile="untrusted")(eval)(
        "open('/proc/self/environ', 'rb').read()"
    )
    # The variables are those of the moment when it was started, perhaps for another test.
    assert parse(found).keys() <= PASSED.keys()


def test_a_clean_interpreter_gets_the_variables_of_the_moment_of_the_call(monkeypatch):
    assert by_spawn(profile="untrusted") == PASSED
    monkeypatch.setenv("LC_TIME", "POSIX")
    monkeypatch.delenv("TZ")
    expected = {**PASSED, "LC_TIME": "POSIX"}
    del expected["TZ"]
    assert by_spawn(profile="untrusted") == expected


def test_a_copy_of_the_caller_has_the_callers_variables():
    assert isolated(method="fork", profile="untrusted")(eval)(ENVIRON) == os.environ


def test_options_of_the_command_line_add_to_the_short_list(tmp_path):
    file = tmp_path / "settings"
    file.write_text("FROM_FILE=1\nEMPTY\n")
    options = ("-e", "API_TOKEN", "-e", "LANG=C", "-e", "NOT_SET", "--env-file", str(file))
    shown = cli("run", "--profile", "untrusted", *options, *ENV)
    added = {"API_TOKEN": "secret", "LANG": "C", "FROM_FILE": "1", "EMPTY": ""}
    assert parse(shown.stdout.encode()) == PASSED | added
    cleared = cli("run", "--profile", "untrusted", "--clearenv", "-e", "TZ", "/usr/bin/env", "-0")
    assert parse(cleared.stdout.encode()) == {"TZ": "UTC"}


def test_exec_of_the_command_line_passes_the_short_list():
    with Container() as box:
        shown = cli("exec", "--profile", "untrusted", "-e", "API_TOKEN", str(box.pid), *ENV)
        assert parse(shown.stdout.encode()) == PASSED | {"API_TOKEN": "secret"}
        shown = cli("exec", "--profile", "untrusted", str(box.pid), *ENV)
        assert parse(shown.stdout.encode()) == PASSED
