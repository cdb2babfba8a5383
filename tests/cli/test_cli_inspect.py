"""``ps`` and ``inspect``: containers found in /proc."""

import json
import os
import pwd
import socket
import subprocess
import sys

import pytest

from minidocker._inspect.text import printable
from minidocker._inspect.uts import hostname_of
from minidocker.cli.commands.ps import duration, table
from support.command_line import captured, cli, start


@pytest.fixture
def box(survivors):
    """The pid of a container named lab."""
    command = ("sh", "-c", "echo ready; read line", survivors.mark)
    options = ("--hostname", "lab", "-i")
    with start("run", *options, *command, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        yield _pid(survivors.mark)
        process.stdin.close()


def _rows() -> list[dict]:
    return json.loads(cli("ps", "--json").stdout)


def _pid(mark: str) -> int:
    (row,) = (row for row in _rows() if mark in row["command"])
    return row["pid"]


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_ps_lists_a_container_with_its_name_and_owner(box, survivors):
    (row,) = (row for row in _rows() if row["pid"] == box)
    assert row["hostname"] == "lab"
    assert row["owner"] == pwd.getpwuid(os.geteuid()).pw_name
    assert row["namespaces"] == ["pid", "net", "mount", "uts", "ipc", "user", "cgroup"]
    assert 0 <= row["age"] < 60
    assert socket.gethostname() != "lab"
    text = cli("ps").stdout.splitlines()
    assert text[0].split() == ["PID", "HOSTNAME", "OWNER", "AGE", "NAMESPACES", "COMMAND"]
    (line,) = (line for line in text if line.startswith(f"{box} "))
    assert line.split()[1] == "lab"
    assert line.endswith(survivors.mark)
    assert str(box) in cli("ps", "--quiet").stdout.split()


def test_ps_finds_containers_of_other_programs(survivors):
    flags = ["--user", "--map-root-user", "--pid", "--fork", "--uts", "--mount-proc"]
    script = "hostname theirs; echo ready; read line"
    with subprocess.Popen(
        ["unshare", *flags, "sh", "-c", script, survivors.mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        (row,) = (
            row
            for row in _rows()
            if row["command"].startswith("sh") and survivors.mark in row["command"]
        )
        assert row["hostname"] == "theirs"
        assert set(row["namespaces"]) == {"pid", "mount", "uts", "user"}
        process.stdin.close()


@pytest.mark.root(reason="drops its privileges")
def test_ps_shows_question_marks_for_what_it_may_not_inspect(box):
    # Import all modules first, because that user may have no access to the interpreter's files.
    code = (
        "import os, pwd\n"
        "from minidocker.cli.commands import ps\n"
        "from minidocker.cli.options import COMMANDS\n"
        "from minidocker.cli.parser import parse\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ps.main(parse(COMMANDS['ps'], []))\n"
    )
    done = captured([sys.executable, "-c", code])
    assert done.stderr == ""
    (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{box} "))
    assert line.split()[1] == "?"
    assert line.split()[4] == "?"


def test_the_child_that_reads_a_host_name_leaves_nothing_behind(box, leaks):
    assert hostname_of(box) == "lab"
    assert hostname_of(os.getpid()) == socket.gethostname()
    assert hostname_of(2**22 - 1) is None
    leaks.assert_unchanged()


def test_inspect_tells_a_container_from_the_caller(box):
    found = json.loads(cli("inspect", str(box)).stdout)
    assert found["pid"] == box
    assert found["container_pid"] == 1
    assert found["hostname"] == "lab"
    for kind in ("pid", "net", "mount", "uts", "ipc", "user", "cgroup"):
        link = {"mount": "mnt"}.get(kind, kind)
        assert found["namespaces"][kind] == {
            "inode": os.stat(f"/proc/{box}/ns/{link}").st_ino,
            "shared_with_caller": False,
        }
    assert found["namespaces"]["time"]["shared_with_caller"]
    assert found["processes"][0]["container_pid"] == 1
    assert found["uid_map"][0]["inside"] == 0
    assert found["uid_map"][0]["outside"] == (0 if os.geteuid() == 0 else os.geteuid())
    assert [row["name"] for row in found["interfaces"]] == ["lo"]
    assert "127.0.0.1/8" in found["interfaces"][0]["addresses"]
    assert {"proc", "sysfs"} <= {mount["type"] for mount in found["mounts"]}
    assert found["cgroups"]
    assert found["seccomp"] == "disabled"
    assert found["no_new_privileges"] is True
    assert "CAP_SYS_ADMIN" in found["capabilities"]["effective"]


def test_inspect_of_the_callers_process_shares_everything():
    found = json.loads(cli("inspect", str(os.getpid())).stdout)
    assert all(row["shared_with_caller"] for row in found["namespaces"].values())
    assert found["hostname"] == socket.gethostname()
    assert [row["pid"] for row in found["processes"]] == [os.getpid()]


def test_inspect_refuses_a_wrong_pid():
    done = cli("inspect", str(2**22 - 1))
    assert done.returncode == 125
    assert done.stderr.startswith("minidocker: inspect: no process 4194303 is alive here")
    done = cli("inspect", "web")
    assert done.returncode == 125
    assert done.stderr.startswith("minidocker: inspect: 'web' is not a PID")


@pytest.mark.plain(reason="root may inspect every process")
def test_inspect_of_another_users_process_names_the_remedy():
    done = cli("inspect", "1")
    assert done.returncode == 125
    assert "belongs to another user" in done.stderr
    assert "as root" in done.stderr


def test_names_from_inside_do_not_control_the_terminal():
    assert printable("a\x1b]0;title\x07b\udcff") == "a?]0;title?b?"
    assert printable("Größe ok") == "Größe ok"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "0s"), (59, "59s"), (61, "1m 01s"), (3600, "1h 00m"), (90061, "1d 1h")],
)
def test_a_duration_has_two_units(seconds, text):
    assert duration(seconds) == text


def test_a_table_is_cut_at_the_width_of_the_terminal():
    row = ("1", "lab", "root", "1s", "pid", "x" * 100)
    lines = table([row], 60).splitlines()
    assert max(map(len, lines)) == 60
    assert lines[0].index("COMMAND") == lines[1].index("x")
    assert table([row], None).splitlines()[1].endswith("x" * 100)
