"""Functions in containers: their values and exceptions, and the errors without either."""

import asyncio
import concurrent.futures
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import minidocker
from minidocker import NamespaceOptions, Spec, call, isolated
from support import functions

METHODS = ["fork", "spawn"]
both_methods = pytest.mark.parametrize("method", METHODS)


pytestmark = pytest.mark.usefixtures("template")


class Interruption(BaseException):
    """The exception that a signal handler raises."""


# --- values and exceptions -----------------------------------------------------------------------


@pytest.mark.smoke
@both_methods
def test_the_value_comes_back(leaks, method):
    assert isolated(method=method)(functions.add)(1, 2, more=3) == 6


def test_call_takes_the_functions_own_keywords():
    def function(timeout, method, capture_output):
        return timeout, method, capture_output

    assert call(function, timeout=1, method=2, capture_output=3) == (1, 2, 3)


@pytest.mark.smoke
def test_a_closure_is_seen_and_what_it_changes_stays_inside(leaks):
    seen = ["outside"]

    def change():
        seen.append("inside")
        return list(seen)

    assert call(change) == ["outside", "inside"]
    assert seen == ["outside"]


@both_methods
def test_a_kept_layer_has_the_directory_that_a_function_made(leaks, method, tmp_path):
    isolated(method=method, overlay=tmp_path)(os.mkdir)("/new")
    assert "/new" in minidocker.changes(tmp_path).added


@both_methods
def test_the_function_is_in_a_container_and_the_caller_is_not(method):
    pid, parent, hostname = isolated(method=method, hostname="lab")(functions.where)()
    assert (pid, parent, hostname) == (2, 1, "lab")
    assert socket.gethostname() != "lab"


@pytest.mark.smoke
@both_methods
def test_the_exception_comes_back_with_the_remote_traceback_as_its_cause(leaks, method):
    with pytest.raises(functions.OwnError) as caught:
        isolated(method=method)(functions.fail)("why", number=7)
    assert caught.value.args == ("why",)
    assert caught.value.number == 7
    cause = str(caught.value.__cause__)
    assert "in fail\n    raise OwnError(*args, number=number)" in cause
    assert "messages.py" not in cause


@both_methods
def test_a_value_that_cannot_be_pickled_is_named(leaks, method):
    with pytest.raises(minidocker.CallResultError, match="of type lock, cannot be pickled"):
        isolated(method=method)(functions.lock)()


@both_methods
def test_an_exception_that_cannot_be_unpickled_comes_back_as_text(leaks, method):
    with pytest.raises(minidocker.CallResultError, match="NeedsAKeyword") as caught:
        isolated(method=method)(functions.fail_to_unpickle)()
    assert 'raise NeedsAKeyword(needed="this")' in str(caught.value.__cause__)


def test_an_exception_carries_its_notes():
    def noted():
        error = ValueError("why")
        error.add_note("and this")
        raise error

    with pytest.raises(ValueError, match="why") as caught:
        call(noted)
    assert caught.value.__notes__ == ["and this"]


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 3 << 20])
@both_methods
def test_a_value_of_any_size_comes_back(leaks, method, size):
    joined = isolated(method=method)(functions.add)(b"x" * size, b"y", more=b"z")
    assert joined == b"x" * size + b"yz"


# --- other ends ----------------------------------------------------------------------------------


@both_methods
@pytest.mark.parametrize(
    ("function", "code", "status"),
    [
        (functions.leave, 3, 3),
        (functions.leave, None, 0),
        (functions.leave, "a message", 1),
        (functions.leave_at_once, 0, 0),
        (functions.leave_at_once, 4, 4),
    ],
)
def test_a_function_that_exits_raises_call_exited(leaks, method, function, code, status):
    with pytest.raises(minidocker.CallExited, match=f"exit status {status}") as caught:
        isolated(method=method)(function)(code)
    assert caught.value.code == status


def test_the_message_of_sys_exit_goes_to_standard_error():
    with pytest.raises(minidocker.CallExited) as caught:
        isolated(capture_output=True, text=True)(functions.leave)("a message")
    assert caught.value.stderr == "a message\n"


@both_methods
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_the_error_of_a_killed_function_names_the_signal(leaks, method, number):
    with pytest.raises(minidocker.CallKilled, match=signal.Signals(number).name) as caught:
        isolated(method=method)(functions.die)(number)
    assert caught.value.signal == number


@both_methods
def test_the_error_of_a_function_that_exceeds_a_limit_names_the_limit(leaks, method):
    with pytest.raises(minidocker.CallLimitExceeded, match="RLIMIT_CPU") as caught:
        isolated(method=method, timeout=30)(functions.use_up_cpu)(1)
    assert caught.value.limit == "ulimits.cpu"


@pytest.mark.smoke
@both_methods
def test_a_timeout_ends_the_whole_container(leaks, survivors, method):
    sleep = isolated(method=method, timeout=0.5)(functions.sleep_marked)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.5 seconds") as caught:
        sleep(60, survivors.mark)
    assert time.monotonic() - started < 30
    assert isinstance(caught.value, minidocker.CallTimeout)
    assert caught.value.timeout == 0.5
    survivors.wait_until_gone()


def test_a_timeout_has_the_output_so_far():
    def talk():
        print("so far", flush=True)
        time.sleep(60)

    with pytest.raises(minidocker.CallTimeout) as caught:
        isolated(timeout=1, capture_output=True)(talk)()
    assert caught.value.stdout == b"so far\n"


@both_methods
def test_an_exception_in_the_caller_ends_the_whole_container(leaks, survivors, method):
    def interrupt(*_):
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interruption):
            isolated(method=method)(functions.sleep_marked)(60, survivors.mark)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    survivors.wait_until_gone()


@both_methods
@pytest.mark.parametrize(
    "namespaces", [NamespaceOptions.none(), NamespaceOptions.all().without_pid()]
)
def test_processes_that_a_function_leaves_end_with_it_without_a_pid_namespace_too(
    leaks, survivors, method, namespaces
):
    if os.geteuid() != 0 and not namespaces.user:
        namespaces = namespaces.with_user()

    def leave_behind(mark):
        subprocess.Popen(["sh", "-c", f": {mark}; sleep 60"])

    isolated(method=method, namespaces=namespaces).__call__(leave_behind)(survivors.mark)
    survivors.wait_until_gone()


def test_the_exceptions_pickle_with_their_attributes():
    for error in (
        minidocker.CallExited("why", code=3, stdout="o", stderr="e"),
        minidocker.CallKilled("why", signal=9),
        minidocker.CallLimitExceeded("why", limit="ulimits.cpu"),
        minidocker.CallTimeout("why", timeout=1.5),
        minidocker.CallFailed("why", type="ValueError", message="why"),
        minidocker.CallResultError("why"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (again.args, vars(again)) == (error.args, vars(error))
        assert isinstance(again, minidocker.CallError)


# --- decorators ----------------------------------------------------------------------------------


def test_a_decorated_function_keeps_its_name_and_is_itself_inside():
    assert functions.decorated(1) == (2, "decorated")
    assert functions.decorated.__name__ == "decorated"
    assert functions.decorated.__wrapped__(1) == (2, socket.gethostname())


def test_a_decorated_method_is_bound():
    assert functions.Laboratory("lab").describe("!") == "lab! on method"


def test_a_decorator_without_options_needs_no_parentheses():
    @isolated
    def pid():
        return os.getpid()

    assert pid() == 2


def test_a_decorated_function_pickles_by_name_and_any_other_by_value():
    assert pickle.loads(pickle.dumps(functions.decorated)) is functions.decorated
    other = isolated(hostname="other", method="spawn")(functions.where)
    again = pickle.loads(pickle.dumps(other))
    assert (again.spec, again.options) == (other.spec, other.options)
    assert again()[2] == "other"


def test_a_decorated_function_can_be_spawned():
    spawned = isolated(method="spawn", hostname="spawned")
    assert spawned(functions.decorated.__wrapped__)(1) == (2, "spawned")


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "thread"}, "method='thread': give 'fork' or 'spawn'"),
        ({"result": "yaml"}, "result='yaml': give 'pickle' or 'json'"),
        ({"timeout": "1"}, "timeout='1': give a number of seconds"),
        ({"timeout": True}, "timeout=True: give a number of seconds"),
        ({"timeout": float("nan")}, "timeout=nan: give a number of seconds"),
        ({"result_limit": 0}, "result_limit=0: give a number of bytes"),
        ({"preload": "numpy", "method": "spawn"}, "preload='numpy': give a list of module names"),
        ({"preload": ["json"]}, "preload=.*: a fork has the modules that the caller has"),
        ({"text": True}, "text=True: it needs captured output"),
        ({"capture_output": 1}, "capture_output=1: give True or False"),
        ({"hostnam": "x"}, "hostnam='x': unknown option: did you mean 'hostname'"),
        ({"timout": 5}, "timout=5: unknown option: did you mean 'timeout'"),
        (
            {"cwd": "/"},
            "cwd='/': unknown option: it belongs to a command",
        ),
    ],
)
def test_a_wrong_option_is_named_before_anything_happens(leaks, options, message):
    with pytest.raises(minidocker.SpecError, match=message):
        isolated(**options)


@both_methods
def test_an_object_that_is_not_callable_is_refused(method):
    with pytest.raises(minidocker.SpecError, match="it is of type int: give a function or another"):
        isolated(method=method)(3)()


def test_a_spec_of_another_type_is_refused():
    with pytest.raises(minidocker.SpecError, match=r"give a minidocker\.Spec"):
        call(functions.add, 1, spec="lab")


def test_a_user_that_does_not_exist_is_named(leaks):
    with pytest.raises(minidocker.SpecError, match="there is no such user"):
        call(functions.add, 1, spec=Spec(user="nobody-of-that-name"))


@both_methods
def test_a_refusal_of_the_kernel_is_a_spawn_error(leaks, method):
    before_the_epoch = {"boottime": -(2**33) + 1}
    spec = Spec(namespaces=NamespaceOptions.all().with_time(), time_offsets=before_the_epoch)
    with pytest.raises(minidocker.SpawnError) as caught:
        isolated(method=method, spec=spec)(functions.add)(1)
    assert caught.value.step == "time"


# --- many ----------------------------------------------------------------------------------------


@both_methods
def test_many_calls_in_a_row_leave_nothing(leaks, method):
    function = isolated(method=method)(functions.add)
    assert [function(number) for number in range(100)] == list(range(1, 101))
    leaks.assert_unchanged()


@both_methods
def test_calls_from_many_threads_leave_nothing(leaks, method):
    function = isolated(method=method)(functions.add)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(function, range(100))) == list(range(1, 101))
    leaks.assert_unchanged()


def test_a_long_call_in_one_thread_does_not_hold_up_another(leaks, tmp_path):
    """A copy inherits the pipes of another call, and must not keep them open."""
    ready, gate = threading.Event(), tmp_path / "gate"
    long = threading.Thread(target=lambda: (ready.set(), call(functions.wait_for, str(gate))))

    def short():
        return isolated(capture_output=True)(functions.write_to_both).run().value

    long.start()
    ready.wait()
    assert [short() for _ in range(20)] == [5] * 20
    assert minidocker.run(["true"], init=True).returncode == 0
    assert long.is_alive()
    gate.touch()
    long.join()


@both_methods
def test_calls_from_asyncio(leaks, method):
    function = isolated(method=method)(functions.add)

    async def several():
        tasks = (asyncio.to_thread(function, number) for number in range(10))
        return await asyncio.gather(*tasks)

    assert asyncio.run(several()) == list(range(1, 11))


def test_an_event_loop_can_be_run_inside_even_from_within_one():
    async def inside():
        await asyncio.sleep(0)
        return os.getpid()

    async def outside():
        return call(lambda: asyncio.run(inside()))

    assert asyncio.run(outside()) == 2


def test_a_function_calls_another_one_container_further_in():
    def innermost():
        return os.getpid(), socket.gethostname()

    def inner():
        return os.getpid(), *call(innermost, spec=Spec(hostname="inner"))

    own, other, hostname = call(inner, spec=Spec(hostname="outer"))
    # Libraries distinguish parent and child by their pids.
    assert own == 2
    assert other != own
    assert hostname == "inner"


def test_python_runs_with_warnings_as_errors_and_threads():
    """Python 3.12 and later warn when os.fork() is called in a process with threads."""
    script = (
        "import threading, minidocker\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "assert minidocker.call(int) == 0\n"
    )
    done = minidocker.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script], capture_output=True, init=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
