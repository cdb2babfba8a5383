"""Each plugin does for a test in a container what it does for any test."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from support.plugin_matrix import CASES
from support.plugin_matrix.case import Case, run
from support.plugin_matrix.reports import SHOWN


@pytest.mark.plain(reason="it takes a while, and does not depend on the user")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plugin_works_in_containers_as_without(runs, case):
    base = runs.pytester.path
    without = run(case, runs, base / "without" / "project")
    assert without.outcomes == case.outcomes
    contained = run(case, runs, base / "contained" / "project", "--minidocker")
    assert contained == without
    if case.differs_with_xdist:
        without = run(case, runs, base / "without-spread" / "project", "-n2")
    spread = run(case, runs, base / "spread" / "project", "--minidocker", "-n2")
    assert spread.outcomes == case.outcomes
    assert spread.summary == without.summary
    assert spread.left == without.left


@pytest.mark.plain(reason="it takes a while, and does not depend on the user")
def test_all_plugins_work_together_when_they_are_merely_installed(runs, monkeypatch):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    outcomes = {"passed": 9, "failed": 2, "skipped": 1, "xfailed": 1}
    case = Case("all", (), SHOWN, outcomes, args=("--randomly-seed=1",))
    without = run(case, runs, runs.pytester.path / "without" / "project")
    contained = run(case, runs, runs.pytester.path / "contained" / "project", "--minidocker")
    assert contained == without


def test_the_suite_itself_loads_only_the_plugins_that_it_uses(pytestconfig):
    used = {"hypothesispytest", "minidocker", "timeout", "xdist", "xdist.looponfail"}
    loaded = {
        entry.name
        for entry in entry_points(group="pytest11")
        if (plugin := pytestconfig.pluginmanager.get_plugin(entry.name)) is not None
        # pytest has a plugin `subtests` of its own.
        and getattr(plugin, "__name__", "") == entry.module
    }
    # The package platformdirs, a dependency of others, has a plugin with a fixture.
    assert loaded - {"platformdirs"} == used


def _tables(heading):
    """Return the first column of each table in a section of docs/pytest.md, without its head."""
    text = (Path(__file__).parents[2] / "docs/pytest.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [[row.strip("| ").split(" | ")[0] for row in table.splitlines()[2:]] for table in tables]


def test_the_documentation_lists_the_plugins_of_the_matrix():
    plugins, refused = _tables("With other plugins")
    listed = [name for row in plugins for name in row.split(", ")]
    assert sorted(listed) == sorted(case.plugin for case in CASES)
    assert len(refused) == 5


def _write_stub(runs, module, content):
    """Write a module in the place of a plugin that is not installed."""
    path = (runs.pytester.path / module.replace(".", "/")).with_suffix(".py")
    path.parent.mkdir()
    path.write_text(content)


@pytest.mark.plain(reason="it does not depend on the user")
@pytest.mark.parametrize(
    ("module", "attribute", "option"),
    [
        ("pytest_benchmark.plugin", None, "--benchmark-cprofile=tottime"),
        ("allure_pytest.plugin", "allure_report_dir", "--alluredir=reports"),
        ("inline_snapshot.pytest_plugin", "inline_snapshot", "--inline-snapshot=create"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_name(runs, module, attribute, option):
    name = option.partition("=")[0]
    if attribute is not None:
        line = f"def pytest_addoption(parser): parser.addoption({name!r}, dest={attribute!r})"
        _write_stub(runs, module, line)
    source = """
        import pytest
        @pytest.mark.minidocker
        def test_inside(): pass
        def test_outside(): pass
        """
    result = runs(source, option, plugins=[module])
    assert result.parseoutcomes() == {"errors": 1, "passed": 1}
    result.stdout.fnmatch_lines([f"{name} of * cannot be used with a test in a container: *"])
    result = runs(source, option, "--minidocker", plugins=[module])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{name} of * cannot be used with --minidocker: *"])


@pytest.mark.plain(reason="it does not depend on the user")
def test_pytest_retry_is_refused_by_name(runs):
    line = "def pytest_configure(config): config.addinivalue_line('markers', 'flaky: retry')"
    _write_stub(runs, "pytest_retry.retry_plugin", line)
    result = runs(
        """
        import pytest
        @pytest.mark.flaky(retries=2)
        def test_again(): pass
        def test_once(): pass
        """,
        "--minidocker",
        plugins=["pytest_retry.retry_plugin"],
    )
    assert result.parseoutcomes() == {"errors": 1, "passed": 1}
    result.stdout.fnmatch_lines(["pytest-retry cannot be used * Use pytest-rerunfailures"])
