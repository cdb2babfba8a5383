"""The fixtures that a test shares with others: they are set up outside, once."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = [
    "FixtureIsInside",
    "keep_shared",
    "set_up_shared",
    "shared_funcargs",
    "shares_temporary_files",
]


_INSIDE = {"make_httpserver", "make_httpserver_ipv4", "make_httpserver_ipv6"}
"""Fixtures with a wider scope that are set up inside nevertheless.

Those of pytest-httpserver start a thread, which a copy of the process does not have.
"""


_FACTORIES = {"tmp_path_factory", "tmpdir_factory"}


class FixtureIsInside(KeyError):
    """A plugin outside asks for the value of a fixture that exists only in the container."""


class _SharedValues(dict[str, object]):
    """The values of the fixtures that are set up outside."""

    def __missing__(self, name: str) -> NoReturn:
        raise FixtureIsInside(name)


def set_up_shared(item: Any) -> None:
    """Set up what the test shares with others: its collectors, and fixtures of a wider scope."""
    __tracebackhide__ = True
    state = item.session._setupstate
    state.setup(item.parent)
    # Pytest requires that the test of a fixture is being set up.
    state.stack[item] = ([], None)
    try:
        for name in _shared(item):
            value = item._request.getfixturevalue(name)
            if name == "tmp_path_factory":
                # Otherwise every container would make another numbered directory.
                value.getbasetemp()
    finally:
        state.stack.pop(item, None)


_kept: list[Any] = []
"""In the copy, finalizers of what is set up outside.

They hold the generators of fixtures. Python closes a generator that is not referenced any more,
which executes the rest of the fixture.
"""


def keep_shared(session: Any) -> None:
    """In the copy: never tear down what is set up now, because that happens outside."""
    stack = session._setupstate.stack
    for node, (finalizers, failure) in list(stack.items()):
        _kept.append(finalizers)
        stack[node] = ([], failure)
    for definition in _definitions(session._fixturemanager):
        # A plugin may have put finalizers aside.
        _kept.append(definition._finalizers)
        definition._finalizers = []
        if definition.argname in _INSIDE:
            _kept.append(definition.cached_result)
            definition.cached_result = None


def _definitions(manager: Any) -> list[Any]:
    """Return the definitions of all fixtures, used or not."""
    if hasattr(manager, "_get_all_fixture_defs"):
        return list(manager._get_all_fixture_defs())
    # Before pytest 9.2.
    return [each for named in manager._arg2fixturedefs.values() for each in named]


def shared_funcargs(item: Any) -> dict[str, object]:
    """Return the values of the test's fixtures that are set up outside."""
    return _SharedValues({name: item._request.getfixturevalue(name) for name in _shared(item)})


def shares_temporary_files(item: Any) -> bool:
    """Return whether a fixture of a wider scope may have made files below ``basetemp``."""
    definitions = item._fixtureinfo.name2fixturedefs if _shared(item) else {}
    return any(
        _FACTORIES.intersection(definition.argnames)
        for name in _shared(item)
        if name not in _FACTORIES
        for definition in definitions[name]
    )


def _shared(item: Any) -> list[str]:
    """Return the names of the test's fixtures that have a wider scope."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return []
    return [
        name
        for name in item.fixturenames
        if name not in _INSIDE
        and (definitions := info.name2fixturedefs.get(name))
        and _scope(item, name, definitions[-1]) != "function"
    ]


def _scope(item: Any, name: str, definition: Any) -> str:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and name in callspec.params:
        return str(callspec._arg2scope[name].value)
    return str(definition.scope)
