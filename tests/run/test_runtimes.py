"""Runtimes that people have: green threads, which patch Python, and other event loops."""

import asyncio
import os
import subprocess
import sys

import pytest

from support.places import TESTS

RUNTIMES = [
    "gevent",
    "gevent_patched_late",
    "eventlet",
    "eventlet_patched_late",
    "uvloop",
    "trio",
]
if hasattr(asyncio, "eager_task_factory"):
    RUNTIMES.append("asyncio_with_eager_tasks")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_commands_and_functions_behave_as_elsewhere(runtime):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    # eventlet warns that it is deprecated.
    command = [sys.executable, "-W", "ignore", "-m", "support.runtimes", runtime]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
