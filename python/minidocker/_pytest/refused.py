"""Refuse options of pytest and of other plugins that cannot work with a test in a container."""

from __future__ import annotations

import bdb
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from _pytest.outcomes import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["refuse", "refuse_for_all"]


class _Option(NamedTuple):
    """An option that cannot be used.

    Attributes:
        attribute: its name in the configuration.
        module: the module of its plugin.
        name: its name on the command line, and its plugin.
        reason: why it cannot be used.
    """

    attribute: str
    module: str
    name: str
    reason: str


_NO_TERMINAL = "a test in a container has no terminal for a debugger"
_OPTIONS = (
    _Option("usepdb", "_pytest.debugging", "--pdb", _NO_TERMINAL),
    _Option("trace", "_pytest.debugging", "--trace", _NO_TERMINAL),
    _Option(
        "benchmark_cprofile",
        "pytest_benchmark.plugin",
        "--benchmark-cprofile of pytest-benchmark",
        "a profile stays in the container of its test",
    ),
    _Option(
        "allure_report_dir",
        "allure_pytest.plugin",
        "--alluredir of allure-pytest",
        "the steps and the attachments of a test stay in its container",
    ),
    _Option(
        "inline_snapshot",
        "inline_snapshot.pytest_plugin",
        "--inline-snapshot of inline-snapshot",
        "the new values of a test stay in its container",
    ),
)
_RETRY = "pytest_retry.retry_plugin"


class _Refused(Failed, bdb.BdbQuit):
    """A failure for which pytest does not start its debugger."""


def _refused(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Yield the name and the reason of each option that is used and cannot be."""
    for option in _OPTIONS:
        if option.module in sys.modules and config.getoption(option.attribute, None):
            yield option.name, option.reason


def refuse_for_all(config: pytest.Config) -> None:
    """Refuse the options that ``--minidocker`` excludes.

    Raises:
        pytest.UsageError: one of them is given.
    """
    for name, reason in _refused(config):
        raise pytest.UsageError(
            f"{name} cannot be used with --minidocker: {reason}. Leave out one of them"
        )


def refuse(item: pytest.Item) -> None:
    """Fail a test that runs in a container, and uses what cannot work there.

    Raises:
        _Refused: it does.
    """
    for name, reason in _refused(item.config):
        _fail(
            f"{name} cannot be used with a test in a container: {reason}. "
            "Leave out the option, or the marker minidocker"
        )
    if _RETRY in sys.modules and item.get_closest_marker("flaky") is not None:
        _fail(
            "pytest-retry cannot be used with a test in a container: it runs the test again while "
            "its report is made. Use pytest-rerunfailures"
        )


def _fail(reason: str) -> None:
    refused = _Refused(reason)
    refused.pytrace = False
    raise refused
