"""Fixtures for all tests; support/rules.py has the rules of the suite."""

import contextlib
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

# Starting a container takes too long for Hypothesis's deadline. The plain user cannot write its
# database in the clone.
settings.register_profile("minidocker", deadline=None, database=None)
settings.load_profile("minidocker")

# Processes inherit ignored signals: a shell ignores the first two in its background jobs, nohup the
# third. Xdist's workers load this file too.
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
    """Run pytest on a file of tests in a separate process: ``runs(source, "-x", ...)``."""
    return Runs(pytester, monkeypatch)


@pytest.fixture(scope="session")
def noop() -> Iterator[Path]:
    """A static program that exits with status 0 at once, in a directory open to every user."""
    with tempfile.TemporaryDirectory(prefix="minidocker-noop-") as directory:
        # Only their owner may enter the directories of tmp_path; a command with `user=` may not.
        Path(directory).chmod(0o755)
        program = compile_noop(Path(directory))
        program.chmod(0o755)
        yield program


@pytest.fixture(scope="session")
def _first_container(noop: Path) -> None:
    """Run one container, which opens the few descriptors that the process keeps."""
    minidocker.run([noop], check=True)


@pytest.fixture(scope="session")
def template(_first_container: None) -> None:
    """Spawn functions, which start the template processes that this process keeps.

    Untrusted functions have a template of their own once `multiprocessing` has a key, and another
    one for their profile.
    """
    for result in ("pickle", "json"):
        minidocker.isolated(method="spawn", result=result)(os.getpid)()
    # Inside other programs' containers the profile may be refused.
    with contextlib.suppress(minidocker.SpawnError):
        minidocker.isolated(method="spawn", result="json", profile="untrusted")(os.getpid)()


@pytest.fixture
def leaks(_first_container: None) -> Iterator[Holdings]:
    """Fail the test if it leaves a descriptor, a child, a zombie, a mount or a thread behind.

    `leaks.assert_unchanged()` checks the same at any point of the test.
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
