"""`Container.call`: functions in a running container."""

import os
import signal
import socket
import subprocess
import threading

import pytest

import minidocker
from support import functions


@pytest.fixture
def box():
    with minidocker.Container(hostname="db") as box:
        yield box


@pytest.mark.smoke
@pytest.mark.needs("hostname")
def test_a_function_runs_among_the_processes_of_the_container(box):
    pid, parent, hostname = box.call(functions.where)
    assert hostname == "db" != socket.gethostname()
    # The function's process entered the PID namespace, so its parent is not visible there.
    assert pid > 1
    assert parent == 0
    for kind in ("pid", "net", "mnt", "uts", "user"):
        link = f"/proc/self/ns/{kind}"
        assert box.call(os.readlink, link) != os.readlink(link)
        inside = box.run(["readlink", link], capture_output=True, text=True, check=True)
        assert box.call(os.readlink, link) == inside.stdout.strip()


def test_arguments_go_in_and_the_value_comes_back(box):
    assert box.call(functions.add, 1, 2, more=3) == 6
    # Keywords belong to the function, even if options have the same names.
    assert box.call(dict, timeout=1, spec=2, function=3) == {"timeout": 1, "spec": 2, "function": 3}


def test_the_changes_of_a_function_stay_in_the_container_for_the_next_one(box):
    box.call(subprocess.run, ["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    box.call(os.mkdir, "/mnt/inside")
    assert box.call(os.listdir, "/mnt") == ["inside"]
    assert not os.path.exists("/mnt/inside")


def test_the_memory_of_the_caller_does_not_enter(box):
    functions.remember("the caller's")
    try:
        assert box.call(functions.recall) == []
        assert box.call(os.getpid) != os.getpid()
    finally:
        functions.STATE.clear()


def test_closures_are_pickled_with_cloudpickle(box):
    number = 40
    assert box.call(lambda more: number + more, 2) == 42
    with pytest.raises(TypeError, match="pickle") as caught:
        box.call(functions.add, threading.Lock())
    assert "pip install cloudpickle" in caught.value.__notes__[0]


def test_an_exception_comes_back_with_where_it_was_raised(box):
    with pytest.raises(functions.OwnError) as caught:
        box.call(functions.fail, "why", number=3)
    assert (caught.value.args, caught.value.number) == (("why",), 3)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("function", "argument", "error"),
    [
        (functions.leave_at_once, 3, minidocker.CallExited),
        (functions.die, signal.SIGKILL, minidocker.CallKilled),
    ],
)
def test_the_container_outlives_a_function_that_does_not_return(box, function, argument, error):
    with pytest.raises(error):
        box.call(function, argument)
    assert box.call(functions.add, 1) == 2


def test_an_interrupt_ends_the_function_and_not_the_container(box, survivors):
    def interrupt():
        while not survivors.find():
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        box.call(functions.sleep_marked, 60, survivors.mark)
    thread.join()
    assert box.status == "running"
    assert box.call(functions.add, 1) == 2


@pytest.mark.plain(reason="the interpreter may lie below a directory that only root can pass")
def test_a_function_runs_as_the_user_of_the_container():
    with minidocker.Container(user=1234) as box:
        assert box.call(os.getuid) == 1234
    assert os.getuid() != 1234


def test_a_function_can_be_called_in_an_attached_container(box):
    with minidocker.attach(box.pid) as attached:
        assert attached.call(socket.gethostname) == "db"


def test_nothing_is_left_of_a_call(box, leaks):
    box.call(functions.add, 1)
    with pytest.raises(functions.OwnError):
        box.call(functions.fail)
    leaks.assert_unchanged()
    assert {process.container_pid for process in box.processes()} == {1}


def test_an_object_that_is_not_callable_and_a_container_that_is_not_running_are_refused(box):
    with pytest.raises(minidocker.SpecError, match="give a function or another callable"):
        box.call(5)
    unstarted = minidocker.Container()
    with pytest.raises(ProcessLookupError, match="start it"):
        unstarted.call(os.getpid)


def test_an_interpreter_that_does_not_exist_inside_is_named(tmp_path):
    with (
        minidocker.Container(rootfs=tmp_path) as box,
        pytest.raises(minidocker.CommandNotFound) as caught,
    ):
        box.call(os.getpid)
    assert "python" in str(caught.value.filename)
