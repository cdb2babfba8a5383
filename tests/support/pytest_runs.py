"""Run pytest with the plugin, each time in a separate process."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest


class Runs:
    """A callable that writes a test file and runs pytest on it.

    Args:
        pytester: pytest's fixture of that name.
        monkeypatch: pytest's fixture of that name.
    """

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        # Load only the plugins that a test names, and not all that are installed: that is faster,
        # and the same on every machine.
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        # Where one of these is set, pytest does not shorten the messages of its summary.
        for name in ("CI", "BUILD_NUMBER"):
            monkeypatch.delenv(name, raising=False)
        session = pytester.path.parent
        if "PYTEST_XDIST_WORKER" in os.environ:
            # The workers share what they have compiled.
            session = session.parent
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        # Without a buffer, Python's output keeps its order with direct writes to the descriptor.
        monkeypatch.setenv("PYTHONUNBUFFERED", "1")
        # Where the package's directory is read-only, each run would compile the package again.
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(session / "pycache"))

    def __call__(
        self, source: str, *args: str, plugins: Iterable[str] = (), plugin: bool = True
    ) -> pytest.RunResult:
        """Run pytest on a file of tests.

        Args:
            source: The file's content.
            *args: More arguments of pytest.
            plugins: Plugins to load besides minidocker's.
            plugin: Whether to load minidocker's.
        """
        path = self.pytester.makepyfile(source)
        return self.run(path.parent, path, *args, plugins=plugins, plugin=plugin)

    def run(
        self,
        directory: Path,
        *args: str | Path,
        plugins: Iterable[str] = (),
        plugin: bool = True,
    ) -> pytest.RunResult:
        """Run pytest in a directory; the other arguments are those of a call."""
        names = [*(["minidocker"] if plugin else []), *plugins]
        chosen = [word for name in names for word in ("-p", name)]
        options = ("-p", "no:cacheprovider", "-q", "-rA")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(directory)
            return self.pytester.runpytest_subprocess(*chosen, *options, *args, timeout=120)


def same(text: str) -> str:
    """Return the output of a run with the parts that differ from run to run replaced."""
    text = re.sub(r"\b\d+\.\d+s", "TIMEs", text)
    # Pytest fills the last line up to the width of the terminal.
    text = re.sub(r"(?m)^=+ (.* in TIMEs) =+$", r"== \1 ==", text)
    text = re.sub(r"\bin \d+(\.\d+)? ?s(econds)?", "in TIME", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "ADDRESS", text)
    text = re.sub(r'\b(time|timestamp|hostname)="[^"]*"', r'\1="-"', text)
    text = re.sub(r"pytest-of-\S+", "BASETEMP", text)
    # pytest sorts these lines by the times that are replaced above.
    lines = text.splitlines()
    durations = [line for line in lines if re.match(r"TIMEs (setup|call|teardown)", line)]
    return "\n".join([*(line for line in lines if line not in durations), *sorted(durations)])
