"""The examples run, and their claims hold."""

import os
import re
import subprocess
import sys

import pytest

import minidocker
from support.places import REPOSITORY

EXAMPLES = REPOSITORY / "examples"

# Examples that need arguments: script to arguments and expected output.
ARGUMENTS = {"runner.py": (["lab", "uname", "-n"], r"lab\n")}


def scripts():
    found = sorted(path for path in EXAMPLES.glob("*.py") if path.read_text().startswith("#!"))
    assert found
    return found


def run(script, *arguments, **options):
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments],
        capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_every_claim_of_an_example_holds(script, tmp_path):
    arguments, expected = ARGUMENTS.get(script.name, ([], r".*^  ok  .*"))
    # An example must not depend on its working directory or on files in the home. (Ray writes the
    # token there that its processes share.)
    done = run(script, *arguments, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.fullmatch(expected, done.stdout, re.DOTALL | re.MULTILINE)
    assert not re.search("^  NO  ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_an_example_is_an_executable_script(script):
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env python3\n")


def test_an_example_fails_if_a_claim_does_not_hold(tmp_path):
    script = tmp_path / "untrue.py"
    script.write_text(
        "import sys; from both_sides import BothSides\n"
        "sides = BothSides('Both'); sides.row('name', 'a', 'b')\n"
        "sides.shows('it holds', True); sides.shows('it does not', False)\n"
        "sys.exit(sides.print())\n"
    )
    done = run(script, env={**os.environ, "PYTHONPATH": str(EXAMPLES)})
    assert done.returncode == 1
    assert "  ok  it holds\n  NO  it does not\n" in done.stdout


def test_columns_line_up_with_wide_characters(tmp_path):
    script = tmp_path / "wide.py"
    script.write_text(
        "from both_sides import BothSides\n"
        "sides = BothSides('Both'); sides.row('name', '容器', 'b'); sides.row('n', 'abcd', 'c')\n"
        "sides.print()\n"
    )
    done = run(script, env={**os.environ, "PYTHONPATH": str(EXAMPLES)})
    assert "  name │ 容器 │ b\n  n    │ abcd │ c\n" in done.stdout


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$; exit 3"], 3),  # PID 1 cannot be killed from inside
        (["no-such-command"], 127),
    ],
)
def test_the_runner_has_the_exit_status_of_its_command(command, status):
    assert run("runner.py", "lab", *command).returncode == status


def test_the_runner_prints_its_usage():
    done = run("runner.py", "lab")
    assert done.returncode == 2
    assert "runner.py HOSTNAME COMMAND" in done.stderr


def test_joining_enters_the_container_of_any_process():
    with minidocker.Container(hostname="other") as box:
        done = run("joining.py", str(box.pid), "sh", "-c", "uname -n; exit 5")
    assert (done.returncode, done.stdout) == (5, "other\n")
