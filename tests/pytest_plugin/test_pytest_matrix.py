"""Each plugin does for a test in a container what it does for any test."""

from importlib.metadata import entry_points

import pytest

from support.plugin_matrix import CASES
from support.plugin_matrix.case import run


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
