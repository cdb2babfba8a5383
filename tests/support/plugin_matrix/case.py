"""What a case of the matrix is, and how it is run."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from support.pytest_runs import Runs, same

CONFTEST = """
    import json, os, pytest

    @pytest.fixture(autouse=True)
    def _place(request):
        '''Fail a test that is not where the run's options say.'''
        assert (os.getpid() == 2) == request.config.getoption("minidocker")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(terminalreporter, config):
        '''Count the outcomes: a plugin may show them in its own way.'''
        if not hasattr(config, "workerinput"):
            counts = {name: len(reports) for name, reports in terminalreporter.stats.items()}
            with open(config.rootpath / "outcomes.json", "w") as file:
                json.dump(counts, file)
"""


@dataclass(frozen=True)
class Case:
    """The minimal use of one plugin.

    Args:
        plugin: The name of the plugin's distribution, as docs/pytest.md has it.
        load: The names by which ``pytest -p`` loads it.
        tests: The content of the file of tests.
        outcomes: The number of each outcome.
        args: Arguments of pytest.
        files: Further files, by name.
        shown: Lines of the output, as `fnmatch_lines` takes them.
        left: Returns what a run leaves in its directory, to be compared.
        varies: Patterns of the parts of the output that differ from run to run.
        differs_with_xdist: Whether the plugin does something else with ``-n 2``.
    """

    plugin: str
    load: tuple[str, ...]
    tests: str
    outcomes: Mapping[str, int]
    args: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    left: Callable[[Path], object] | None = None
    varies: tuple[str, ...] = ()
    differs_with_xdist: bool = False

    def __str__(self) -> str:
        return self.plugin


@dataclass
class Ran:
    """The results of one run of a case."""

    outcomes: dict[str, int]
    output: str
    summary: list[str]
    left: object


def run(case: Case, runs: Runs, directory: Path, *args: str) -> Ran:
    """Run a case in a new directory, and return its results.

    Args:
        case: The case.
        runs: The fixture `runs`.
        directory: The directory, which must not exist yet.
        *args: More arguments of pytest.
    """
    directory.mkdir(parents=True)
    for name, content in {"conftest.py": CONFTEST, "test_it.py": case.tests, **case.files}.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(content))
    spread = "-n2" in args
    plugins = (*case.load, *(["xdist"] if spread else []))
    result = runs.run(directory, *case.args, *args, plugins=plugins)
    output = same(result.stdout.str())
    for pattern in case.varies:
        output = re.sub(pattern, "VARIES", output)
    if case.shown and not (spread and case.differs_with_xdist):
        # The processes of xdist report in any order.
        match = result.stdout.fnmatch_lines_random if spread else result.stdout.fnmatch_lines
        match(case.shown)
    left = None if case.left is None else case.left(directory)
    counts = json.loads((directory / "outcomes.json").read_text())
    # Reports without a word are those of a setup or a teardown that passed.
    outcomes = {name: count for name, count in counts.items() if name not in ("", "warnings")}
    summary = sorted(line for line in output.splitlines() if re.match(r"[A-Z]+ test_", line))
    return Ran(outcomes, output, summary, left)
