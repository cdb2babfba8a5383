"""Runs of pytest, each a process of its own, that use the plugin."""

import re
from collections.abc import Iterable

import pytest


class Runs:
    """Makes test files and runs pytest on them.

    Args:
        pytester: pytest's own.
        monkeypatch: pytest's own.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        # No plugin but those that a test names, whatever is installed: faster, and the same here
        # as anywhere.
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        # Else what Python writes to a pipe comes later than what a test writes to its descriptor.
        monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        # Each run would compile the package anew where it cannot write beside it.
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(pytester.path.parent / "pycache"))

    def __call__(
        self, source: str, *args: str, plugins: Iterable[str] = (), plugin: bool = True
    ) -> pytest.RunResult:
        """Run pytest on a file of tests.

        Args:
            source: the file.
            *args: more arguments of pytest.
            plugins: plugins beside this one.
            plugin: whether this one is there.
        """
        path = self.pytester.makepyfile(source)
        names = [*(["minidocker"] if plugin else []), *plugins]
        chosen = [word for name in names for word in ("-p", name)]
        options = ("-p", "no:cacheprovider", "-q", "-rA")
        return self.pytester.runpytest_subprocess(*chosen, *options, path, *args, timeout=60)


def same(text: str) -> str:
    """What a run has written, without what differs between any two."""
    text = re.sub(r"\b\d+\.\d+s", "TIMEs", text)
    text = re.sub(r"\bin \d+(\.\d+)? ?s(econds)?", "in TIME", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text)
    text = re.sub(r'\b(time|timestamp|hostname)="[^"]*"', r'\1="-"', text)
    text = re.sub(r"pytest-of-\S+", "BASETEMP", text)
    # The slowest first: sorted by what is left out.
    lines = text.splitlines()
    durations = [line for line in lines if re.match(r"TIMEs (setup|call|teardown)", line)]
    return "\n".join([*(line for line in lines if line not in durations), *sorted(durations)])
