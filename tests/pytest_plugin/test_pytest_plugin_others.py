"""The plugin with pytest-xdist, pytest-asyncio, anyio, pytest-timeout and pytest-cov."""

import sys
from pathlib import Path

import pytest


def test_with_xdist_each_worker_runs_its_tests_in_containers(runs):
    result = runs(
        """
        import os, warnings, pytest

        @pytest.fixture(scope="session")
        def worker(worker_id): return worker_id, os.getpid()

        @pytest.mark.parametrize("number", range(6))
        def test_many(worker, number, container_factory, tmp_path):
            name, pid = worker
            assert os.getpid() == 2 and pid != 2
            with open(os.path.join(os.path.dirname(__file__), f"worker-{name}-{number}"), "w"):
                pass
            box = container_factory()
            assert box.spec.hostname == f"{name}-1"
            warnings.warn("a warning")
            (tmp_path / "mine").touch()

        def test_crashes(): print("last words"); os._exit(3)
        def test_subtests(subtests):
            with subtests.test("part"): assert 0
        """,
        "--minidocker",
        "-n2",
        plugins=["xdist"],
    )
    assert result.parseoutcomes() == {"passed": 6, "failed": 3, "warnings": 6}
    result.stdout.fnmatch_lines(["*exit status 3", "*Captured stdout call*", "last words"])
    workers = {path.name.split("-")[1] for path in Path(runs.pytester.path).glob("worker-*")}
    assert workers == {"gw0", "gw1"}


def test_with_asyncio_the_loop_is_the_tests_own_or_a_shared_one_from_outside(runs):
    result = runs(
        """
        import asyncio, os, pytest, pytest_asyncio
        pytestmark = pytest.mark.minidocker

        @pytest_asyncio.fixture
        async def server():
            async def answer(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
                yield server.sockets[0].getsockname()[1]

        @pytest.mark.asyncio
        async def test_one(server):
            reader, writer = await asyncio.open_connection("127.0.0.1", server)
            writer.write(b"hello\\n")
            assert await reader.read() == b"hello\\n"
            writer.close()

        @pytest.mark.asyncio
        async def test_fails():
            await asyncio.sleep(0)
            assert os.getpid() == 1

        @pytest_asyncio.fixture(loop_scope="module", scope="module")
        async def shared():
            yield asyncio.get_running_loop()

        @pytest.mark.asyncio(loop_scope="module")
        @pytest.mark.parametrize("number", [1, 2])
        async def test_of_the_module(shared, number):
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0
            assert asyncio.get_running_loop() is shared
        """,
        plugins=["asyncio"],
    )
    assert result.parseoutcomes() == {"passed": 3, "failed": 1}
    result.stdout.fnmatch_lines(["*assert 2 == 1*"])


def test_with_anyio_fixtures_and_tests_are_coroutines(runs):
    result = runs(
        """
        import os, anyio, pytest
        pytestmark = [pytest.mark.minidocker, pytest.mark.anyio]

        @pytest.fixture
        def anyio_backend(): return "asyncio"

        @pytest.fixture
        async def value():
            await anyio.sleep(0)
            yield os.getpid()

        async def test_one(value): assert value == 2
        async def test_fails(value): assert value == 1
        """,
        plugins=["anyio"],
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}


@pytest.mark.parametrize("only", ["false", "true"])
def test_with_timeout_the_test_is_interrupted_where_it_hangs(runs, only):
    runs.pytester.makeini(f"[pytest]\ntimeout_func_only = {only}")
    result = runs(
        """
        import signal, time, pytest

        @pytest.fixture
        def own(): yield; print("own is torn down")

        def test_hangs(own):
            print("so far")
            waits_here_too_long = time.sleep
            waits_here_too_long(100)

        def test_does_not(): pass
        """,
        "--minidocker",
        "--timeout=0.5",
        plugins=["pytest_timeout"],
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*> *waits_here_too_long(100)*",
            "E*Failed: Timeout*from pytest-timeout*",
            "*Captured stdout call*",
            "so far",
            "*Captured stdout teardown*",
            "own is torn down",
        ]
    )


@pytest.mark.parametrize("uptime", [60, 1_000_000_000])
def test_with_timeout_another_clock_inside_changes_no_timeout(runs, uptime):
    result = runs(
        f"""
        import time, pytest
        from minidocker import NamespaceOptions

        pytestmark = pytest.mark.minidocker(
            namespaces=NamespaceOptions.all().with_time(),
            time_offsets={{"monotonic": {uptime} - time.monotonic()}},
        )

        def test_hangs():
            waits_here_too_long = time.sleep
            waits_here_too_long(100)

        def test_does_not(): time.sleep(0.01)
        """,
        "--timeout=2",
        plugins=["pytest_timeout"],
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(
        ["*> *waits_here_too_long(100)*", "E*Failed: Timeout*from pytest-timeout*"]
    )


def test_with_timeout_a_test_that_cannot_be_interrupted_is_ended_from_outside(runs):
    result = runs(
        """
        import signal, time, pytest
        def test_hangs():
            print("so far")
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
            time.sleep(100)
        def test_does_not(): pass
        """,
        "--minidocker",
        "--timeout=0.3",
        plugins=["pytest_timeout"],
    )
    assert result.parseoutcomes() == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(
        ["Timeout*from pytest-timeout*", "*Captured stdout call*", "so far"]
    )


@pytest.mark.parametrize("workers", [(), ("-n2",)])
@pytest.mark.parametrize("branch", [(), ("--cov-branch",)])
def test_with_cov_the_lines_run_inside_are_covered(runs, workers, branch):
    runs.pytester.makepyfile(
        covered="""
        def inside():
            return 1

        def outside():
            return 2

        def shared():
            return 3

        def nowhere():
            return 4
        """
    )
    result = runs(
        """
        import os, pytest, covered

        @pytest.fixture(scope="session")
        def wide(): return covered.shared()

        @pytest.mark.minidocker(hostname="lab")
        def test_inside(wide): assert covered.inside() == 1

        @pytest.mark.minidocker
        def test_crashes(): os._exit(1)

        def test_outside(): assert covered.outside() == 2
        """,
        "--cov=covered",
        "--cov-report=term-missing",
        "--cov-context=test",
        *branch,
        *workers,
        plugins=["pytest_cov", "xdist"],
    )
    assert result.parseoutcomes() == {"passed": 2, "failed": 1}
    result.stdout.fnmatch_lines(["covered.py * 88%   11"])
    # No file is left to combine.
    left = {path.name for path in Path(runs.pytester.path).glob(".coverage*")}
    assert left == {".coverage"}
    code = """
        import coverage
        data = coverage.CoverageData(".coverage")
        data.read()
        [name] = data.measured_files()
        for line, contexts in sorted(data.contexts_by_lineno(name).items()):
            print(line, sorted(context.partition("::")[2] for context in contexts))
        """
    script = runs.pytester.makepyfile(shows=code)
    shown = runs.pytester.run(sys.executable, script).stdout.str()
    assert "2 ['test_inside|run']" in shown
    assert "5 ['test_outside|run']" in shown
