"""Fixtures for all tests; the rules that all keep are in support/rules.py."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import minidocker
from support.leaks import Holdings
from support.mounts import unshare_mounts
from support.noop import compile_noop
from support.pytest_runs import Runs
from support.survivors import Survivors

pytest_plugins = ["support.rules", "pytester"]

# Containers make examples slow to judge by the clock, and the plain user cannot write in the clone.
settings.register_profile("minidocker", deadline=None, database=None)
settings.load_profile("minidocker")

# A shell ignores the first two in what it starts in the background, nohup the third, and that is
# inherited. Xdist's workers have this file too.
for number, default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)


def pytest_configure() -> None:
    """Keep the mounts of other programs out of this process's mount table."""
    unshare_mounts()


@pytest.fixture
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Run pytest on a file of tests, in a process of its own: ``runs(source, "-x", ...)``."""
    return Runs(pytester, monkeypatch)


@pytest.fixture(scope="session")
def noop() -> Iterator[Path]:
    """A static program that ends at once with status 0, where every user may run it."""
    with tempfile.TemporaryDirectory(prefix="minidocker-noop-") as directory:
        # pytest's own temporary directories are closed to other users, and so to `user=` inside.
        Path(directory).chmod(0o755)
        program = compile_noop(Path(directory))
        program.chmod(0o755)
        yield program


@pytest.fixture(scope="session")
def _what_is_kept_per_process(noop: Path) -> None:
    """Run one container, so that the few descriptors kept per process are there already."""
    minidocker.run([noop], check=True)


@pytest.fixture(scope="session")
def template(_what_is_kept_per_process: None) -> None:
    """Spawn one function, so that the template process, which is kept, is there already."""
    minidocker.isolated(method="spawn")(os.getpid)()


@pytest.fixture
def leaks(_what_is_kept_per_process: None) -> Iterator[Holdings]:
    """Fail the test if it leaves a descriptor, a child, a zombie, a mount or a thread behind.

    `leaks.assert_unchanged()` asks the same at any point of the test.
    """
    before = Holdings.now()
    yield before
    before.assert_unchanged()


@pytest.fixture
def survivors() -> Iterator[Survivors]:
    """Fail the test if a process that carries `survivors.env` or `survivors.mark` outlives it."""
    found = Survivors()
    yield found
    try:
        found.wait_until_gone()
    finally:
        found.kill()
