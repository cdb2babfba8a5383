"""Trusted functions in clean interpreters use the managers of the caller's multiprocessing."""

import multiprocessing
import multiprocessing.managers

import pytest

import minidocker
from minidocker import isolated
from minidocker._functions.sources import with_sources


def append(proxy, value):
    proxy.append(value)
    return list(proxy)


def authkey():
    return list(multiprocessing.current_process().authkey)


PROBE = "[process := __import__('multiprocessing').current_process(), list(process.authkey)][1]"
"""The same as an expression, for interpreters that cannot import this module."""


@pytest.fixture(scope="module")
def manager():
    # Its socket is a file, which a container without a network can reach.
    with multiprocessing.managers.SyncManager() as manager:
        yield manager


def call_inside(function, *args):
    with minidocker.Container() as box:
        return box.call(function, *args)


def submit(function, *args):
    with minidocker.ContainerExecutor(1, method="spawn", max_tasks_per_child=2) as pool:
        return pool.submit(function, *args).result()


@pytest.mark.parametrize(
    "call",
    [
        isolated(append),
        isolated(method="spawn")(append),
        lambda *args: submit(append, *args),
        lambda *args: call_inside(append, *args),
    ],
    ids=["fork", "spawn", "executor", "container"],
)
def test_a_proxy_of_a_manager_is_an_argument(template, leaks, manager, call):
    shared = manager.list()
    assert call(shared, 5) == [5]
    assert list(shared) == [5]


@pytest.mark.parametrize(
    "options", [{"profile": "untrusted"}, {"result": "json"}], ids=["profile", "result"]
)
def test_an_untrusted_function_does_not_get_the_key(options):
    theirs = isolated(method="spawn", **options)(eval)(PROBE, {})
    assert len(theirs) == len(authkey())
    assert theirs != authkey()
    assert isolated(method="spawn")(authkey)() == authkey()


def test_an_untrusted_container_does_not_get_the_key(leaks):
    untrusted = with_sources(minidocker.Spec(profile="untrusted"))
    with minidocker.Container(spec=untrusted) as box:
        assert box.call(eval, PROBE, {}) != authkey()
    with minidocker.Container() as box:
        assert box.call(eval, PROBE, {}) == authkey()
