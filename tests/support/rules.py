"""The rules of the suite.

The suite runs twice, as root and as a plain user. A test that makes sense for only one of them is
marked `root` or `plain`, and the other run leaves it out.

On a user's machine a test skips where the kernel forbids something that it needs. CI (CI=true) has
everything, so there a skip is a failure, unless the test is marked `may_skip_in_ci`. Each of the
three markers needs a reason.
`make test-nested` runs the smoke part inside other programs' containers. It leaves out tests whose
marker `needs` names a row of the doctor that cannot work there.
"""

import json
import os
from collections.abc import Collection, Generator

import pytest

from nested.environment import VARIABLE

JUSTIFIED = "may_skip_in_ci"


def _in_ci() -> bool:
    return os.environ.get("CI", "") == "true"


def _reason(longrepr: object) -> str:
    if isinstance(longrepr, tuple):
        path, line, reason = longrepr
        return f"{path}:{line}: {reason}"
    return str(longrepr)


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.longrepr = (
        f"skipped, and CI={os.environ['CI']} makes that a failure: {_reason(report.longrepr)}\n"
        f"Remedy: provide what the test needs, or mark the test {JUSTIFIED}(reason=...)."
    )
    report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI."""
    report = yield
    justified = item.get_closest_marker(JUSTIFIED) is not None
    if report.skipped and not hasattr(report, "wasxfail") and _in_ci() and not justified:
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skip of a whole module into a failure in CI."""
    report = yield
    if report.skipped and _in_ci():
        _refuse(report)
    return report


def _cannot_work(item: pytest.Item, cannot: Collection[str]) -> bool:
    """Return whether a test needs a row of the doctor that cannot work in the outer container."""
    needs = {name for marker in item.iter_markers("needs") for name in marker.args}
    return not needs.isdisjoint(cannot)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the other user's tests, and refuse a marker without a reason."""
    other = "plain" if os.geteuid() == 0 else "root"
    cannot = json.loads(os.environ.get(VARIABLE, "{}"))
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        for name in ("root", "plain", JUSTIFIED):
            marker = item.get_closest_marker(name)
            if marker is not None and not marker.kwargs.get("reason"):
                raise pytest.UsageError(f"{item.nodeid}: the marker {name} needs a reason=...")
        leave_out = item.get_closest_marker(other) or _cannot_work(item, cannot)
        (left_out if leave_out else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
