"""The pytest plugin: tests in containers of their own, and containers for tests.

Pytest imports this module in every run, whether or not a test needs a container. Therefore it
imports only pytest and `kept`, and the other modules when a test first needs them.

The public names are those that pytest sees: the options ``--minidocker`` and
``--minidocker-require``, the markers ``minidocker`` and ``minidocker_container``, and the fixtures
`container` and `container_factory`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from minidocker._pytest import kept  # noqa: F401 - before any test is loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidocker._pytest.containers import ContainerFactory, TestContainer

_MARKERS = (
    (
        "minidocker(timeout=None, spec=None, **options): run this test in a container of its own. "
        "The options are those of minidocker.Spec (hostname='lab', network='host', ...); timeout: "
        "seconds after which the container is killed. The closest marker wins, option by option."
    ),
    (
        "minidocker_container(spec=None, **options): the options of this test's fixture "
        "`container`, as minidocker.Container takes them."
    ),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("minidocker", "tests in containers")
    group.addoption(
        "--minidocker",
        action="store_true",
        help="run every test in a container of its own, as if marked with @pytest.mark.minidocker",
    )
    group.addoption(
        "--minidocker-require",
        action="store_true",
        help="fail tests, instead of skipping them, if this machine cannot make containers",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("minidocker"):
        from minidocker._pytest.refused import refuse_for_all

        refuse_for_all(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    plugins = session.config.pluginmanager
    if plugins.has_plugin("minidocker-phases") or not any(map(_wants_container, session.items)):
        return
    from minidocker._pytest.phases import Phases, Reports

    plugins.register(Reports(), "minidocker-reports")
    plugins.register(Phases(_wants_container), "minidocker-phases")


def _wants_container(item: pytest.Item) -> bool:
    if not item.config.getoption("minidocker") and item.get_closest_marker("minidocker") is None:
        return False
    # Pytest does not run the test in these two cases, so it needs no container.
    return item.get_closest_marker("skip") is None and not item.config.getoption("setupplan", False)


@pytest.fixture
def container_factory(request: pytest.FixtureRequest) -> Iterator[ContainerFactory]:
    """A function that starts containers, such as ``container_factory(hostname="db")``.

    It takes the arguments of `minidocker.Container`, and returns a running
    `minidocker._pytest.containers.TestContainer`: a `Container` with ``serve``, ``wait_for_port``,
    ``wait_for_log`` and ``wait_for_file``. All containers end with the test.
    """
    from minidocker._pytest.containers import ContainerFactory

    with ContainerFactory(request) as factory:
        yield factory


@pytest.fixture
def container(container_factory: ContainerFactory) -> TestContainer:
    """A running container, which ends with the test.

    The markers ``minidocker_container`` give its options; the closest marker wins, option by
    option.
    """
    return container_factory.marked()
