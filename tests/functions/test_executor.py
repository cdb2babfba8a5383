"""`ContainerExecutor` keeps the contract of concurrent.futures that CPython's own tests check."""

import concurrent.futures
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
)
from pathlib import Path

import pytest

import minidocker
from minidocker import BrokenContainer, ContainerExecutor, Spec
from support import functions
from support.waiting import wait_until, wait_while

pytestmark = pytest.mark.usefixtures("template")

KINDS = {
    "fork": {"method": "fork"},
    "fork, kept": {"method": "fork", "max_tasks_per_child": None},
    "spawn": {"method": "spawn"},
    "spawn, kept": {"method": "spawn", "max_tasks_per_child": None},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def pool(leaks, kind):
    with ContainerExecutor(2, hostname="pool", **kind) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path):
    """Return the path of a file; a task that waits for it ends when the file is created."""
    return tmp_path / "gate"


def wait_for_the_threads():
    wait_while(lambda: [t for t in threading.enumerate() if "ContainerExecutor" in t.name])


# --- submit ------------------------------------------------------------


def test_it_is_an_executor(pool):
    assert isinstance(pool, Executor)
    future = pool.submit(pow, 2, 8)
    assert isinstance(future, Future)
    assert future.result() == 256
    assert future.done()
    assert future.exception() is None


def test_keywords_are_the_functions_own(pool):
    def function(*args, **kwargs):
        return args, kwargs

    future = pool.submit(function, 1, self=2, fn=3, spec=4)
    assert future.result() == ((1,), {"self": 2, "fn": 3, "spec": 4})


def test_tasks_run_in_containers(pool):
    assert pool.submit(functions.where).result() == (2, 1, "pool")


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_an_exception_is_the_futures_with_the_remote_traceback(pool):
    future = pool.submit(functions.fail, "why", number=3)
    error = future.exception()
    assert type(error) is functions.OwnError
    assert (error.args, error.number) == (("why",), 3)
    assert "raise OwnError" in str(error.__cause__)
    with pytest.raises(functions.OwnError):
        future.result()


def test_a_value_that_cannot_be_pickled_is_the_futures_exception_and_the_pool_goes_on(pool):
    with pytest.raises(minidocker.CallResultError):
        pool.submit(functions.lock).result()
    assert pool.submit(abs, -5).result() == 5


def test_an_argument_that_cannot_be_pickled_is_the_futures_exception(leaks):
    with ContainerExecutor(1, method="spawn") as pool:
        with pytest.raises(TypeError, match="pickle"):
            pool.submit(abs, functions.lock()).result()
        assert pool.submit(abs, -5).result() == 5


def test_no_more_run_at_a_time_than_there_are_workers(kind, tmp_path):
    def work(number):
        own = tmp_path / str(number)
        own.touch()
        # Time for a third task that would wrongly run: there is no event to wait for if none does.
        time.sleep(0.05)
        together = len(list(tmp_path.iterdir()))
        own.unlink()
        return together

    with ContainerExecutor(2, **kind) as pool:
        assert max(pool.map(work, range(6))) <= 2


def test_waiting_for_the_result_may_have_a_timeout(pool, gate):
    future = pool.submit(functions.wait_for, str(gate))
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.05)
    gate.touch()
    assert future.result(timeout=60) is None


def test_callbacks_are_called_with_the_future(pool):
    called = []
    future = pool.submit(abs, -1)
    future.add_done_callback(called.append)
    pool.shutdown()
    assert called == [future]


# --- cancel ------------------------------------------------------------


def test_a_task_can_be_cancelled_until_it_begins(leaks, kind, gate):
    with ContainerExecutor(1, **kind) as pool:
        running, waiting = [pool.submit(functions.wait_for, str(gate)) for _ in range(2)]
        wait_until(running.running)
        assert not running.cancel()
        assert waiting.cancel()
        gate.touch()
        with pytest.raises(CancelledError):
            waiting.result()
        assert running.result() is None


# --- wait, as_completed ------------------------------------------------


def test_wait_for_the_first(pool, gate):
    quick, slow = pool.submit(abs, -1), pool.submit(functions.wait_for, str(gate))
    done, rest = concurrent.futures.wait([quick, slow], return_when=FIRST_COMPLETED)
    gate.touch()
    assert (done, rest) == ({quick}, {slow})


def test_wait_for_the_first_exception(pool, gate):
    failing, slow = pool.submit(functions.fail), pool.submit(functions.wait_for, str(gate))
    done, rest = concurrent.futures.wait([failing, slow], return_when=FIRST_EXCEPTION)
    gate.touch()
    assert (done, rest) == ({failing}, {slow})


def test_wait_for_all(pool):
    futures = [pool.submit(abs, -1), pool.submit(functions.fail)]
    done, rest = concurrent.futures.wait(futures, return_when=ALL_COMPLETED)
    assert (done, rest) == (set(futures), set())


def test_as_completed_gives_each_once_it_is_done(pool, gate):
    slow, quick = pool.submit(functions.wait_for, str(gate)), pool.submit(abs, -1)
    done = concurrent.futures.as_completed([slow, quick])
    assert next(done) is quick
    gate.touch()
    assert list(done) == [slow]


# --- map ---------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 2, 3, 10, 100])
def test_map_keeps_the_order_in_chunks_of_any_size(pool, chunksize):
    powers = pool.map(pow, range(10), range(10), chunksize=chunksize)
    assert list(powers) == [n**n for n in range(10)]


def test_map_of_nothing(pool):
    assert list(pool.map(abs, [])) == []
    assert list(pool.map(abs, [], chunksize=3)) == []


def test_a_chunk_is_one_container():
    with ContainerExecutor(1) as pool:
        seen = list(pool.map(lambda _: os.stat("/proc/1").st_ctime_ns, range(4), chunksize=2))
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_map_raises_where_the_exception_belongs(pool):
    results = pool.map(divmod, [1, 1, 1], [2, 0, 2])
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_has_a_timeout(pool, gate):
    with pytest.raises(concurrent.futures.TimeoutError):
        list(pool.map(functions.wait_for, ["/", str(gate)], timeout=0.5))
    gate.touch()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunksize_below_1_is_refused(pool, chunksize):
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        pool.map(abs, [1], chunksize=chunksize)


# --- shutdown ----------------------------------------------------------


def test_after_shutdown_no_task_is_accepted(pool):
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)


def test_shutdown_waits_for_the_submitted_tasks(leaks, kind):
    pool = ContainerExecutor(2, **kind)
    futures = [pool.submit(time.sleep, 0.1) for _ in range(6)]
    pool.shutdown()
    assert all(future.done() and not future.cancelled() for future in futures)


def test_shutdown_can_cancel_the_tasks_that_have_not_begun(leaks, kind, gate):
    pool = ContainerExecutor(1, **kind)
    futures = [pool.submit(functions.wait_for, str(gate)) for _ in range(10)]
    wait_until(futures[0].running)
    shutdown = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
    shutdown.start()
    wait_until(futures[-1].cancelled)
    gate.touch()
    shutdown.join()
    assert all(future.done() for future in futures)
    assert not concurrent.futures.wait(futures, timeout=5).not_done
    assert futures[0].result() is None
    assert all(future.cancelled() for future in futures[2:])


def test_shutdown_without_waiting_returns_at_once(leaks, kind, gate):
    pool = ContainerExecutor(1, **kind)
    futures = [pool.submit(functions.wait_for, str(gate)) for _ in range(2)]
    pool.shutdown(wait=False)
    assert not futures[0].done()
    gate.touch()
    assert [future.result(timeout=60) for future in futures] == [None, None]
    wait_for_the_threads()


def test_an_executor_without_references_ends_its_workers(leaks, kind):
    pool = ContainerExecutor(1, **kind)
    assert pool.submit(abs, -1).result() == 1
    there = weakref.ref(pool)
    del pool
    gc.collect()
    assert there() is None
    wait_for_the_threads()


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_the_interpreter_ends_without_shutdown_once_the_tasks_have(options):
    script = f"""
import minidocker, time
from support import functions
from support.waiting import wait_until, wait_while
pool = minidocker.ContainerExecutor(1, **{options!r})
pool.submit(time.sleep, 0.2)
pool.submit(functions.add, 1).add_done_callback(lambda future: print(future.result()))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


# --- what breaks -------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "argument", "cause"),
    [
        (functions.die, signal.SIGKILL, minidocker.CallKilled),
        (functions.leave_at_once, 3, minidocker.CallExited),
        (functions.leave, 3, minidocker.CallExited),
        (functions.use_up_cpu, 1, minidocker.CallLimitExceeded),
    ],
)
def test_a_task_whose_container_dies_is_broken_and_the_pool_recovers(
    pool, function, argument, cause
):
    error = pool.submit(function, argument).exception()
    assert isinstance(error, BrokenContainer)
    assert isinstance(error, BrokenExecutor)
    assert isinstance(error.__cause__, cause)
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]


def test_other_tasks_go_on_when_one_container_dies(pool, gate):
    other = pool.submit(functions.wait_for, str(gate))
    assert isinstance(pool.submit(functions.die, signal.SIGKILL).exception(), BrokenContainer)
    gate.touch()
    assert other.result() is None


def test_a_task_that_takes_too_long_is_ended(leaks, kind, survivors):
    with ContainerExecutor(1, timeout=2, **kind) as pool:
        with pytest.raises(minidocker.CallTimeout, match="2 seconds"):
            pool.submit(functions.sleep_marked, 60, survivors.mark).result()
        survivors.wait_until_gone()
        assert pool.submit(abs, -1).result() == 1


def test_an_exception_of_a_nested_call_is_the_functions_own(pool):
    with pytest.raises(minidocker.CallExited) as caught:
        pool.submit(functions.call_again, os._exit, 5).result()
    assert caught.value.code == 5


# --- initializer, tasks per container ----------------------------------


@pytest.mark.smoke
def test_the_initializer_runs_in_each_container(leaks, kind):
    with ContainerExecutor(2, initializer=functions.remember, initargs=("set",), **kind) as pool:
        assert list(pool.map(lambda _: functions.recall(), range(4))) == [["set"]] * 4
    assert functions.STATE == []


def test_an_initializer_that_fails_breaks_the_pool(leaks, kind):
    with ContainerExecutor(1, initializer=functions.fail, initargs=("why",), **kind) as pool:
        for future in [pool.submit(abs, -1) for _ in range(3)]:
            with pytest.raises(BrokenContainer, match="initializer"):
                future.result()
        with pytest.raises(BrokenExecutor):
            pool.submit(abs, -1)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_container_performs_the_permitted_number_of_tasks(leaks, method):
    def count():
        functions.remember(1)
        return len(functions.recall())

    with ContainerExecutor(1, method=method, max_tasks_per_child=3) as pool:
        assert [pool.submit(count).result() for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    with ContainerExecutor(1, method=method) as pool:
        assert [pool.submit(count).result() for _ in range(3)] == [1, 1, 1]


def test_json_results(leaks, kind):
    with ContainerExecutor(1, result="json", initializer=int, **kind) as pool:
        assert pool.submit(divmod, 7, 2).result() == [3, 1]
        with pytest.raises(minidocker.CallFailed, match="OwnError"):
            pool.submit(functions.fail).result()


# --- bad input ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"initializer": 3}, TypeError, "initializer must be a callable"),
        ({"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child must be >= 1"),
        ({"max_tasks_per_child": "3"}, TypeError, "max_tasks_per_child must be an integer"),
        ({"method": "thread"}, minidocker.SpecError, "method='thread'"),
        ({"preload": ["json"]}, minidocker.SpecError, "a fork has the modules that"),
        ({"hostnam": "x"}, minidocker.SpecError, "did you mean 'hostname'"),
        ({"spec": "x"}, minidocker.SpecError, r"give a minidocker\.Spec"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ContainerExecutor(**options)


def test_a_refusal_of_the_kernel_is_the_futures_exception(leaks, kind):
    namespaces = minidocker.NamespaceOptions.all().with_time()
    spec = Spec(namespaces=namespaces, time_offsets={"boottime": -(2**33) + 1})
    with ContainerExecutor(1, spec=spec, **kind) as pool:
        error = pool.submit(abs, -1).exception()
        assert isinstance(error, minidocker.SpawnError)
        assert error.step == "time"


def test_many_tasks(pool):
    assert list(pool.map(abs, range(-100, 0))) == list(range(100, 0, -1))


def test_the_callers_own_files_exist_inside():
    with ContainerExecutor(1) as pool:
        assert pool.submit(Path(__file__).exists).result()


CLOUDPICKLE = """
import pickle, time
time.sleep(0.3)

def identity(value): return value

class Wrapped:
    def __init__(self, value): self.value = value
    def __reduce__(self): return identity, (self.value,)

def dumps(value, protocol): return pickle.dumps(Wrapped(value), protocol)
"""

SCRIPT = """
import sys, time
from minidocker import ContainerExecutor

def double(number): return 2 * number

with ContainerExecutor(2, max_tasks_per_child=None) as pool:
    first = pool.submit(double, 1)
    while "cloudpickle" not in sys.modules:
        time.sleep(0.001)
    print(pool.submit(double, 2).result(), first.result())
"""


def test_no_container_starts_while_another_thread_imports_cloudpickle(tmp_path):
    """Its process would wait for that import for ever."""
    (tmp_path / "cloudpickle.py").write_text(CLOUDPICKLE)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("4 2\n", "")
