"""minidocker.Popen and minidocker.aio pass CPython's own tests of subprocess and asyncio."""

import os
from pathlib import Path

import pytest

import minidocker
from cpython import compare
from cpython.compare import (
    ASYNCIO,
    STOCK,
    STOCK_ASYNCIO,
    Comparison,
    Variant,
    differences,
    expected,
    run,
)
from support.places import TESTS

# The package under test, installed or editable, for an interpreter outside the .venv.
PACKAGES = str(Path(minidocker.__file__).parents[1])
PID1 = Variant("pid1", popen="minidocker:Popen", path=PACKAGES)
INIT = Variant("init", popen="minidocker:Popen", path=PACKAGES, defaults={"init": True})
EXEC = "minidocker.aio:create_subprocess_exec"
AIO = Variant("aio", suite=ASYNCIO, exec=EXEC, path=PACKAGES)
BROKEN = Variant("broken", popen="cpython.broken:Popen", path=str(TESTS))

USER = "root" if os.geteuid() == 0 else "plain"

# One xdist worker makes the three runs at once, while the others run other tests.
pytestmark = pytest.mark.xdist_group("cpython")


@pytest.fixture(scope="module")
def suite():
    lacking = compare.available()
    if lacking is not None:
        pytest.skip(lacking)


@pytest.fixture(scope="module")
def comparison(suite):
    return Comparison([INIT, PID1])


@pytest.mark.parametrize(
    ("variant", "most"), [pytest.param(INIT, 11, id="init"), pytest.param(PID1, 12, id="pid1")]
)
def test_the_tests_that_differ_are_those_of_the_list(comparison, variant, most):
    # Python 3.13 has one of the tests in another class.
    listed = expected(variant.name, USER) & comparison.stock.keys()
    found = comparison.differences(variant, listed)
    unlisted = "\n".join(f"{name}: {found[name]}" for name in sorted(found.keys() - listed))
    assert not unlisted, f"differ and are not in differences.toml:\n{unlisted}"
    assert found.keys() == listed, "listed in differences.toml, and do not differ"
    assert USER == "plain" or len(found) <= most


def test_the_stock_run_is_a_run_worth_comparing_with(comparison):
    ends = [outcome.outcome for outcome in comparison.stock.values()]
    assert ends.count("passed") > 200
    assert ends.count("failed") == 0


@pytest.mark.usefixtures("suite")
def test_the_tests_of_asyncio_that_differ_are_those_of_the_list():
    comparison = Comparison([AIO], STOCK_ASYNCIO)
    # Newer versions of CPython have fewer kinds of watchers.
    listed = expected(AIO.name, USER) & comparison.stock.keys()
    found = comparison.differences(AIO, listed)
    unlisted = "\n".join(f"{name}: {found[name]}" for name in sorted(found.keys() - listed))
    assert not unlisted, f"differ and are not in differences.toml:\n{unlisted}"
    assert found.keys() == listed, "listed in differences.toml, and do not differ"
    ends = [outcome.outcome for outcome in comparison.stock.values()]
    assert ends.count("passed") > 50
    assert ends.count("failed") == 0


@pytest.mark.usefixtures("suite")
def test_a_test_ends_alike_when_it_is_run_twice():
    names = ["POSIXProcessTestCase.test_run_abort", "ProcessTestCase.test_call_kwargs"]
    first = run(STOCK, names)
    assert first.keys() == set(names)
    assert differences(first, run(STOCK, names)) == {}


@pytest.mark.usefixtures("suite")
def test_a_popen_with_a_wrong_status_is_noticed():
    names = ["POSIXProcessTestCase.test_run_abort", "ProcessTestCase.test_check_call_zero"]
    found = differences(run(STOCK, names), run(BROKEN, names))
    assert list(found) == ["POSIXProcessTestCase.test_run_abort"]
    assert "passed -> failed" in str(found["POSIXProcessTestCase.test_run_abort"])


@pytest.mark.usefixtures("suite")
def test_a_run_that_dies_half_way_is_an_error():
    dying = Variant("dying", popen="minidocker:NoSuchName", path=PACKAGES)
    with pytest.raises(
        AssertionError, match=r"(?s)'dying' stopped at before the first test.*NoSuchName"
    ):
        run(dying)
