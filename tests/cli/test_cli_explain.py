"""``minidocker explain``: the plan of ``run``, without a container."""

import json
import re
import subprocess

import pytest

import minidocker
from support.command_line import cli


@pytest.mark.smoke
@pytest.mark.needs("hostname")
@pytest.mark.parametrize(
    "streams", [(), ("-i",), pytest.param(("-t",), marks=pytest.mark.needs("devices"))]
)
def test_explain_prints_the_plan_that_run_executes(tmp_path, streams):
    file = tmp_path / "made"
    command = (*streams, "--hostname", "lab", "touch", str(file))
    done = cli("explain", *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert not file.exists()
    planned = done.stdout.splitlines()
    traced = cli("run", "--explain", *command).stderr.splitlines()
    assert file.exists()
    assert traced.pop() == "exit status 0"
    # The names of the helper and the streams differ between processes.
    assert [_call(line) for line in traced] == [_call(line) for line in planned][: len(traced)]


def _call(line: str) -> str:
    """Return the name of the call in a line of a plan."""
    found = re.match(r"\w+ +(\w+)\(", line)
    assert found, line
    return found.group(1)


def test_explain_takes_the_options_of_run():
    shown = cli("explain", "--network", "host", "-w", "/usr", "-u", "0", "true").stdout
    assert "CLONE_NEWNET" not in shown
    assert 'chdir("/usr")' in shown
    assert "SIOCSIFFLAGS" not in shown


@pytest.mark.smoke
def test_explain_prints_json():
    done = cli("explain", "--json", "--hostname", "lab", "true")
    rows = json.loads(done.stdout)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    plan = minidocker.explain(["true"], hostname="lab", **streams)
    assert [row["step"] for row in rows] == [call.step for call in plan]
    (hostname,) = (row for row in rows if row["step"] == "hostname")
    assert hostname["actor"] == "child"
    assert hostname["call"] == 'sethostname("lab", 3)'


def test_explain_refuses_what_run_refuses():
    done = cli("explain", "--hostname", "x" * 65, "true")
    assert done.returncode == 125
    assert done.stderr.startswith("minidocker: --hostname ")
    done = cli("explain", "--timeout", "3", "true")
    assert done.returncode == 125
    assert done.stderr.startswith("minidocker: explain: unknown option --timeout;")
