"""The hooks of a test's phases, registered when a test of the run needs a container.

They are registered last, so that they come first: `ContainedTest` says what they do.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import pytest
from pluggy import PluggyTeardownRaisedWarning

from minidocker._pytest.protocol import ContainedTest, FixtureIsInside

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Phases", "Reports"]

_contained: pytest.StashKey[ContainedTest] = pytest.StashKey()


class Reports:
    """The reports of tests that have run in containers."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> pytest.TestReport | None:
        """Return the report from the container, instead of one of the exception outside."""
        contained = item.stash.get(_contained, None)
        return None if contained is None else contained.report(call)


class Phases:
    """The phases of tests that run in containers.

    Args:
        wants_container: whether a test runs in a container.
    """

    def __init__(self, wants_container: Callable[[pytest.Item], bool]) -> None:
        self._wants_container = wants_container

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep the test's container until its protocol ends, whichever plugin runs it."""
        if not self._wants_container(item):
            return (yield)
        contained = item.stash[_contained] = ContainedTest(item)
        try:
            return (yield)
        except BaseException as error:
            contained.fail_inside(error)
            raise
        finally:
            contained.close()
            del item.stash[_contained]

    # The last wrappers are the closest to pytest's own implementations.

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take the test's own setup into a new container."""
        contained = item.stash.get(_contained, None)
        if contained is None:
            return (yield)
        with contained.setup():
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Have the test called in its container."""
        contained = item.stash.get(_contained, None)
        if contained is None:
            return (yield)
        with contained.call():
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Tear down in the container what was set up there, and outside what was set up outside."""
        contained = item.stash.get(_contained, None)
        if contained is None:
            return (yield)
        with contained.teardown():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Complete the report that other plugins have seen."""
        contained = item.stash.get(_contained, None)
        if contained is None:
            return (yield)
        report: pytest.TestReport | None = None
        with contextlib.suppress(FixtureIsInside), warnings.catch_warnings():
            # Pluggy warns if a wrapper of the old style raises the exception.
            warnings.simplefilter("ignore", PluggyTeardownRaisedWarning)
            report = yield
        return contained.complete(call, report)
