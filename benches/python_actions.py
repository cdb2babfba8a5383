"""Actions about Python functions and tests, in the table of `actions`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pickle
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from actions import Action, Setup, Unavailable, action

if TYPE_CHECKING:
    from pathlib import Path


def _nothing() -> None:
    """Do nothing."""


def _minidocker() -> Any:
    try:
        return importlib.import_module("minidocker")
    except ImportError as why:
        raise Unavailable(f"not built ({why.name} is missing)") from why


def _needs(*modules: str) -> None:
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed")


@action("fork")
def _fork(setup: Setup) -> Action:  # noqa: ARG001 - every action takes it
    def act() -> object:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _nothing()
            os.write(writer, pickle.dumps(None))
            os._exit(0)
        os.close(writer)
        with open(reader, "rb", buffering=0) as stream:
            value: object = pickle.loads(stream.read())
        os.waitpid(pid, 0)
        return value

    return act


@action("call")
def _call(setup: Setup) -> Action:  # noqa: ARG001 - every action takes it
    minidocker = _minidocker()
    spec = minidocker.Spec(hostname="bench")
    return lambda: minidocker.call(_nothing, spec=spec)


def _spawn(modules: tuple[str, ...], setup: Setup) -> Action:  # noqa: ARG001 - every action takes it
    _needs(*modules)
    isolated = _minidocker().isolated
    # A built-in function needs no import.
    act: Action = isolated(method="spawn", preload=modules, hostname="bench")(int)
    return act


class _Apart:
    """An action, with a pause before each call."""

    pause = 0.02
    """Seconds, not timed."""

    def __init__(self, act: Action) -> None:
        self._act = act

    def __call__(self) -> object:
        return self._act()


def _spawn_apart(modules: tuple[str, ...], setup: Setup) -> Action:
    return _Apart(_spawn(modules, setup))


def _python(code: str, modules: tuple[str, ...], setup: Setup) -> Action:  # noqa: ARG001 - likewise
    _needs(*modules)
    arguments = [sys.executable, "-c", code]
    return lambda: subprocess.run(arguments, check=True)


def _argument(method: str, setup: Setup) -> Action:  # noqa: ARG001 - every action takes it
    act = _minidocker().isolated(method=method, hostname="bench")(bytes)
    argument = bytes(100_000_000)
    return lambda: act(argument)


action("argument-fork")(functools.partial(_argument, "fork"))
action("argument-spawn")(functools.partial(_argument, "spawn"))
action("spawn")(functools.partial(_spawn_apart, ()))
action("spawn-numpy")(functools.partial(_spawn_apart, ("numpy",)))
action("spawn-again")(functools.partial(_spawn, ()))
action("python")(functools.partial(_python, "pass", ()))
action("python-numpy")(functools.partial(_python, "import numpy", ("numpy",)))


class _Process:
    """An action that starts a process; its time is the CPU time of the process."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = [sys.executable, *arguments]

    def __call__(self) -> object:
        return subprocess.run(self._arguments, check=True)

    @staticmethod
    def clock() -> int:
        """Return the nanoseconds in user and kernel mode of all children so far."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return round((used.ru_utime + used.ru_stime) * 1e9)


@action("start-python")
def _start_python(setup: Setup) -> Action:  # noqa: ARG001 - every action takes it
    return _Process("-c", "import subprocess, dataclasses")


@action("start-minidocker")
def _start_minidocker(setup: Setup) -> Action:
    _minidocker()
    return _Process("-m", "minidocker", "run", setup.noop)


_TESTS = """\
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_one(number):
    {body}
"""
_BUSY = "import time; end = time.thread_time() + 0.01\n    while time.thread_time() < end: pass"
# All cases load the same plugins, and no others that happen to be installed.
_PLUGINS = ("minidocker.pytest_plugin", "pytest_forked", "xdist")


def _pytest(count: int, body: str, options: tuple[str, ...], setup: Setup) -> Action:
    _minidocker()
    _needs("pytest", *_PLUGINS)
    directory: Path = setup.scratch / f"tests-{count}"
    directory.mkdir(exist_ok=True)
    (directory / "test_bench.py").write_text(_TESTS.format(count=count, body=body))
    words = [f"-p{name}" for name in _PLUGINS]
    arguments = [sys.executable, "-m", "pytest", "-q", "-pno:cacheprovider", *words, *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def act() -> None:
        done = subprocess.run(
            arguments, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        # A skipped test would be fast.
        if f"{count} passed" not in done.stdout:
            raise ValueError(done.stdout.rstrip().rpartition("\n")[2])

    return act


_empty = functools.partial(_pytest, 1000, "pass")
_busy = functools.partial(_pytest, 200, _BUSY)
action("pytest")(functools.partial(_empty, ()))
action("pytest-forked")(functools.partial(_empty, ("--forked",)))
action("pytest-marked")(functools.partial(_empty, ("--minidocker",)))
action("pytest-busy")(functools.partial(_busy, ()))
action("pytest-busy-n2")(functools.partial(_busy, ("-n2",)))
action("pytest-busy-marked")(functools.partial(_busy, ("--minidocker",)))
action("pytest-busy-marked-n2")(functools.partial(_busy, ("--minidocker", "-n2")))
