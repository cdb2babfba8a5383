"""An async function runs in its container, and a generator function is refused by name."""

import asyncio
import functools
import inspect
import os

import pytest

import minidocker
from minidocker import CallKilled, CallTimeout, SpecError
from support import functions

pytestmark = pytest.mark.usefixtures("template", "leaks")


async def double(number):
    await asyncio.sleep(0)
    return number * 2, os.getpid()


async def fail():
    await asyncio.sleep(0)
    raise functions.OwnError("async", number=3)


class Service:
    async def method(self, number):
        return await double(number)

    async def __call__(self, number):
        return await double(number)


def run_executor(function, *args):
    with minidocker.ContainerExecutor(1) as pool:
        return pool.submit(function, *args).result()


def run_kept(function, *args):
    with minidocker.ContainerExecutor(1, method="spawn", max_tasks_per_child=None) as pool:
        return pool.submit(function, *args).result()


def run_inside(function, *args):
    with minidocker.Container() as box:
        return box.call(function, *args)


WAYS = {
    "call": minidocker.call,
    "isolated": lambda function, *args: minidocker.isolated(function)(*args),
    "run": lambda function, *args: minidocker.isolated(function).run(*args).value,
    "spawn": lambda function, *args: minidocker.isolated(method="spawn")(function)(*args),
    "json": lambda function, *args: tuple(minidocker.isolated(result="json")(function)(*args)),
    "executor": run_executor,
    "executor, kept": run_kept,
    "container": run_inside,
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request):
    return request.param


def test_an_async_function_returns_its_value(way):
    value, pid = way(double, 4)
    assert value == 8
    assert pid != os.getpid()


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(double, 4), functools.partial(Service().method, 4), lambda: double(4),
        functools.partial(Service(), 4), minidocker.isolated(functools.partial(double, 4)),
    ],
    ids=["partial", "method", "lambda", "object", "isolated"],
)  # fmt: skip
def test_whatever_returns_a_coroutine_is_async(function):
    assert minidocker.call(function)[0] == 8


def test_the_exception_of_an_async_function_is_raised_here():
    with pytest.raises(functions.OwnError, match="async") as caught:
        minidocker.call(fail)
    assert caught.value.number == 3
    assert "in fail" in str(caught.value.__cause__)


def test_an_async_function_meets_its_timeout():
    with pytest.raises(CallTimeout):
        minidocker.isolated(timeout=0.5)(asyncio.sleep)(1000)


def test_a_call_from_a_running_event_loop_runs_an_async_function():
    async def main():
        return minidocker.call(double, 1)[0], await asyncio.to_thread(minidocker.call, double, 2)

    one, (two, _) = asyncio.run(main())
    assert (one, two) == (2, 4)


def test_an_isolated_async_function_is_called_without_await():
    wrapped = minidocker.isolated(double)
    assert not inspect.iscoroutinefunction(wrapped)
    assert inspect.iscoroutinefunction(wrapped.__wrapped__)


def test_a_crash_of_an_async_function_is_told_apart():
    async def crash():
        os.kill(os.getpid(), 9)

    with pytest.raises(CallKilled):
        minidocker.call(crash)


def generate():
    yield 1


async def generate_async():
    yield 1


class Generating:
    def method(self):
        yield 1

    def __call__(self):
        yield 1


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (generate, "a generator function"), (generate_async, "an async generator function"),
        (functools.partial(generate), "a generator function"),
        (Generating().method, "a generator function"), (Generating(), "a generator function"),
    ],
    ids=["function", "async", "partial", "method", "object"],
)  # fmt: skip
def test_a_generator_function_is_refused_by_name(way, function, kind):
    with pytest.raises(SpecError, match=f"it is {kind}, and a generator cannot leave") as caught:
        way(function)
    assert caught.value.option == "function"


def test_a_generator_function_cannot_be_decorated():
    with pytest.raises(SpecError, match="generator function"):
        minidocker.isolated(hostname="lab")(generate)
