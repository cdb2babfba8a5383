"""Importing the package, once and a second time."""

import subprocess
import sys

import pytest

from support.commands import python

FORK = """
pid = os.fork()
if pid == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
minidocker.run(["true"], check=True)
"""


REMOVED = """
for name in [name for name in sys.modules if name.startswith("minidocker")]:
    del sys.modules[name]
import minidocker
"""
RELOADED = """
for name in [name for name in sys.modules if name.startswith("minidocker.")]:
    if name != "minidocker._core":
        importlib.reload(sys.modules[name])
"""


@pytest.mark.parametrize("again", [REMOVED, RELOADED], ids=["removed", "reloaded"])
def test_a_process_can_fork_after_a_second_import(again):
    code = (
        "import importlib, os, sys, minidocker\n"
        "minidocker.run(['true'], check=True)\n"
        "minidocker.call(int)\n"
        f"{again}"
        "minidocker.run(['true'], check=True)\n"
        f"{FORK}"
    )
    done = subprocess.run(
        python(f"import sys; sys.path[:] = {sys.path!r}\n{code}"),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "7\n"


def test_the_public_modules_are_attributes_of_the_package():
    code = "import minidocker; print(minidocker.aio.run, minidocker.linux.unshare)"
    done = subprocess.run(
        python(f"import sys; sys.path[:] = {sys.path!r}\n{code}"),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert "function run" in done.stdout
