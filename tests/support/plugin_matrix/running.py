"""Plugins that decide which tests run, in which order, how often and how."""

from support.plugin_matrix.case import Case

CASES = [
    Case(
        "pytest-xdist",
        ("xdist",),
        """
        import pytest

        @pytest.fixture(scope="session")
        def worker(worker_id): return worker_id

        @pytest.mark.parametrize("number", range(3))
        def test_number(worker, number, testrun_uid): assert worker and testrun_uid

        def test_fails(worker): assert not worker, "it has a name"
        """,
        {"passed": 3, "failed": 1},
        args=("--dist=load", "--maxfail=9"),
    ),
    Case(
        "pytest-asyncio",
        ("asyncio",),
        """
        import asyncio, pytest, pytest_asyncio

        @pytest_asyncio.fixture
        async def loop():
            yield asyncio.get_running_loop()
            await asyncio.sleep(0)

        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def shared(): return asyncio.get_running_loop()

        async def test_own(loop): assert asyncio.get_running_loop() is loop

        @pytest.mark.asyncio(loop_scope="module")
        async def test_shared(shared): assert asyncio.get_running_loop() is shared

        async def test_fails(loop):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            await asyncio.sleep(0)
            assert loop is None
        """,
        {"passed": 2, "failed": 1},
        args=("--asyncio-mode=auto",),
    ),
    Case(
        "anyio",
        ("anyio",),
        """
        import anyio, pytest
        pytestmark = pytest.mark.anyio

        @pytest.fixture(scope="module")
        def anyio_backend(): return "asyncio"

        @pytest.fixture
        async def own():
            async with anyio.create_task_group() as group:
                yield group

        @pytest.fixture(scope="module")
        async def shared(): yield anyio.get_current_task().id

        async def test_own(own): own.start_soon(anyio.sleep, 0)
        async def test_shared(shared): assert shared
        async def test_fails(own):
            await anyio.sleep(0)
            assert own is None
        """,
        {"passed": 2, "failed": 1},
    ),
    Case(
        "pytest-timeout",
        ("timeout",),
        """
        import time, pytest

        @pytest.mark.timeout(0.3)
        def test_hangs():
            print("so far")
            time.sleep(100)

        @pytest.mark.timeout(30)
        def test_is_quick(): pass

        @pytest.mark.timeout(0.3, func_only=True)
        def test_hangs_too(): time.sleep(100)
        """,
        {"passed": 1, "failed": 2},
        shown=("*Timeout (>0.3s) from pytest-timeout*", "so far"),
    ),
    Case(
        "pytest-rerunfailures",
        ("rerunfailures",),
        """
        import os, pytest

        def attempt(name):
            with open(name, "a") as file:
                file.write(".")
            return os.path.getsize(name)

        @pytest.fixture(scope="module")
        def shared(): return attempt("shared")

        @pytest.fixture
        def own(): return attempt("own")

        def test_second_attempt(shared, own):
            assert own == 2

        def test_never(shared): assert shared == 5

        @pytest.mark.flaky(reruns=3)
        def test_marked(): assert attempt("marked") == 4

        @pytest.mark.flaky(reruns=3, condition=False)
        def test_not_rerun(): assert attempt("not_rerun") == 2

        @pytest.mark.flaky(reruns=3, only_rerun="OSError")
        def test_other_error(): assert attempt("other") == 2

        @pytest.mark.flaky(reruns=3, only_rerun=["OSError", "AssertionError: not yet"])
        def test_this_error(): assert attempt("this") == 2, "not yet"

        @pytest.mark.flaky(reruns=3, rerun_except="AssertionError")
        def test_except(): assert attempt("except") == 2

        @pytest.fixture
        def breaks_once():
            if attempt("breaks") == 1:
                raise OSError("broken")

        def test_of_a_fixture(breaks_once): pass
        """,
        {"passed": 4, "failed": 4, "rerun": 8},
        args=("--reruns=2",),
        left=lambda path: {
            name: (path / name).stat().st_size
            for name in ("own", "marked", "not_rerun", "other", "this", "except", "breaks")
        },
    ),
    Case(
        "pytest-forked",
        ("pytest_forked",),
        """
        import pytest

        @pytest.fixture(scope="module")
        def shared(): return ["a value"]

        def test_passes(shared): shared.clear()
        def test_fails(shared): assert not shared
        """,
        {"passed": 1, "failed": 1},
        args=("--forked",),
    ),
    Case(
        "pytest-randomly",
        ("randomly",),
        """
        import random, pytest

        @pytest.mark.parametrize("number", range(6))
        def test_number(number): print("number", number, random.random())

        def test_same_seed_again(): assert random.random() == 0.5
        """,
        {"passed": 6, "failed": 1},
        args=("--randomly-seed=7",),
        shown=("*assert 0.411* == 0.5",),
    ),
    Case(
        "pytest-order",
        ("pytest_order",),
        """
        import pytest

        @pytest.mark.order(3)
        def test_a(): print("third")
        @pytest.mark.order(1)
        def test_b(): print("first")
        @pytest.mark.order(before="test_a")
        def test_c(): assert 0, "second"
        """,
        {"passed": 2, "failed": 1},
    ),
    Case(
        "pytest-repeat",
        ("repeat",),
        """
        import pytest

        @pytest.mark.repeat(3)
        def test_marked(): print("again")
        def test_counted(): assert 0
        """,
        {"passed": 3, "failed": 2},
        args=("--count=2",),
    ),
    Case(
        "hypothesis",
        ("hypothesispytest",),
        """
        from hypothesis import HealthCheck, given, settings, strategies

        # It may take any time.
        quiet = {"deadline": None, "suppress_health_check": list(HealthCheck)}
        same = settings(max_examples=20, derandomize=True, database=None, **quiet)

        @same
        @given(strategies.integers(0, 1000))
        def test_holds(number): assert number >= 0

        @same
        @given(strategies.integers(0, 1000))
        def test_does_not(number): assert number < 10
        """,
        {"passed": 1, "failed": 1},
        args=("--hypothesis-show-statistics",),
        shown=("E*test_does_not(*", "E*number=10,*", "test_it.py::test_holds:"),
        varies=(r"Typical runtimes: .*", r"\([\d.]+ seconds\)"),
    ),
]
