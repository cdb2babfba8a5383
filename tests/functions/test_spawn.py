"""Start method "spawn": a clean interpreter, warm from a template."""

import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

import minidocker
from minidocker import NamespaceOptions, Spec, isolated
from minidocker._functions import spawn
from support import functions
from support.child import in_child
from support.waiting import descendants_of, wait_until, wait_while

pytestmark = pytest.mark.usefixtures("template")

spawned = isolated(method="spawn")


def python(directory, script, *args, cwd=None, **more):
    """Run a script, as the file script.py, in an interpreter of its own."""
    path = directory / "script.py"
    path.write_text(script)
    directory.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-W", "error", path, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more},
        check=False,
    )


WITHOUT_CLOUDPICKLE = "import sys; sys.modules['cloudpickle'] = None\n"


def template_of(preload):
    """Return the pid of the template process for these modules."""
    return spawn._clients[spawn._Kind.of(preload)].pid


@pytest.mark.smoke
def test_nothing_of_the_callers_memory_is_inside():
    functions.remember("the caller's")
    try:
        assert spawned(functions.recall)() == []
    finally:
        functions.STATE.clear()


def test_a_function_does_not_see_the_changes_of_the_one_before():
    spawned(functions.remember)("one's")
    assert spawned(functions.recall)() == []


def test_preloaded_modules_are_imported_before_the_function():
    preloaded = isolated(method="spawn", preload=["wave", "xml.dom"])(functions.modules)
    assert {"wave", "xml.dom"} <= preloaded()
    assert "wave" not in spawned(functions.modules)()


def test_a_module_that_cannot_be_imported_is_named(leaks):
    before = set(spawn._clients)
    broken = isolated(method="spawn", preload=("json", "no_such_module"))
    try:
        for _ in range(2):
            with pytest.raises(ModuleNotFoundError, match="no_such_module") as caught:
                broken(functions.add)(1)
            assert "preload=('json', 'no_such_module')" in caught.value.__notes__[0]
    finally:
        for kind in set(spawn._clients) - before:
            spawn._discard(kind, spawn._clients[kind])


def test_environment_directory_path_and_arguments_are_the_callers(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDOCKER_TEST_OF_SPAWN", "ü")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["a", "b"])
    found = spawned(functions.surroundings)()
    assert found["environ"] == dict(os.environ)
    assert found["cwd"] == str(tmp_path)
    assert found["path"] == sys.path
    assert found["argv"] == ["a", "b"]


def test_a_function_is_scheduled_as_its_caller_is():
    def check():
        asked = [os.sched_getaffinity, os.getpriority]
        spawned = [minidocker.isolated(method="spawn")(function) for function in asked]
        before = [spawned[0](0), spawned[1](os.PRIO_PROCESS, 0)]
        one = {min(os.sched_getaffinity(0))}
        nicer = os.nice(3)
        os.sched_setaffinity(0, one)
        after = [spawned[0](0), spawned[1](os.PRIO_PROCESS, 0)]
        return before, after, [one, nicer]

    before, after, wanted = in_child(check)
    assert before == [os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)]
    assert after == wanted


def test_a_directory_that_was_removed_is_not_a_failure(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert spawned(functions.add)(1) == 2


def test_lambdas_and_closures_go_with_cloudpickle():
    captured = [1, 2]
    assert spawned(lambda extra: [*captured, extra])(3) == [1, 2, 3]


def test_a_class_that_only_the_caller_has_comes_back_as_itself():
    class Own:
        pass

    assert type(spawned(lambda: Own())()) is Own  # noqa: PLW0108 - the lambda is what is pickled


@pytest.mark.parametrize("prelude", ["", WITHOUT_CLOUDPICKLE], ids=["cloudpickle", "pickle"])
def test_a_script_can_call_its_own_functions(tmp_path, prelude):
    script = """
import sys, minidocker

class Own(Exception):
    pass

@minidocker.isolated(method="spawn")
def add(one, other):
    return one + other, __name__, minidocker.call(min, one, other)

@minidocker.isolated(method="spawn")
def fail():
    raise Own("why")

if __name__ == "__main__":
    print(add(1, 2)[::2])
    try:
        fail()
    except Own as error:
        print("own", error)
"""
    done = python(tmp_path, prelude + script)
    assert (done.stdout, done.stderr) == ("(3, 1)\nown why\n", "")


def test_a_script_without_its_guard_is_refused_with_the_remedy(tmp_path):
    script = """
import minidocker

@minidocker.isolated(method="spawn")
def function():
    return 1

function()
"""
    done = python(tmp_path, WITHOUT_CLOUDPICKLE + script)
    assert done.returncode == 1
    assert 'put the code that starts them below `if __name__ == "__main__":`' in done.stderr


def test_a_module_that_was_started_with_m_can_call_its_own_functions(tmp_path):
    package = tmp_path / "its_package"
    package.mkdir()
    tmp_path.chmod(0o755)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(
        WITHOUT_CLOUDPICKLE
        + """
import minidocker
from . import __name__ as package

@minidocker.isolated(method="spawn")
def function():
    return package

if __name__ == "__main__":
    print(function())
"""
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "its_package"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert (done.stdout, done.stderr) == ("its_package\n", "")


def test_without_cloudpickle_a_lambda_is_refused_with_the_remedy(tmp_path):
    script = """
import minidocker
if __name__ == "__main__":
    minidocker.isolated(method="spawn")(lambda: 1)()
"""
    done = python(tmp_path, WITHOUT_CLOUDPICKLE + script)
    assert done.returncode == 1
    assert "Can't pickle" in done.stderr
    remedy = (
        'Install cloudpickle (pip install cloudpickle), which can pickle more, or use method="fork"'
    )
    assert remedy in done.stderr


def test_without_cloudpickle_a_typed_in_function_is_refused_with_the_reason():
    code = WITHOUT_CLOUDPICKLE + (
        "import minidocker\ndef typed(): pass\nminidocker.isolated(method='spawn')(typed)()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a __main__ that no other interpreter can import" in done.stderr


def test_arguments_that_cannot_be_pickled_are_refused_in_the_caller(leaks):
    with pytest.raises(TypeError, match="pickle") as caught:
        spawned(functions.add)(functions.lock())
    assert "cloudpickle" in caught.value.__notes__[0]


def test_a_function_that_cannot_be_imported_inside_is_named(leaks, tmp_path, monkeypatch):
    (tmp_path / "short_lived.py").write_text("def function(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import short_lived  # noqa: PLC0415 - it was just written

    (tmp_path / "short_lived.py").unlink()
    with pytest.raises(ModuleNotFoundError, match="short_lived") as caught:
        spawned(short_lived.function)()
    assert "could not be unpickled in the container" in caught.value.__notes__[0]


def test_another_containers_network_is_shared():
    with minidocker.Container(hostname="other") as box:
        own = isolated(method="spawn", network=box, hostname="mine", capture_output=True, text=True)
        done = own(os.readlink).run("/proc/self/ns/net")
        assert done.value == f"net:[{box.namespaces()['net']}]"
        pid, _, hostname = own(functions.where)()
        assert (pid, hostname) == (2, "mine")
        with pytest.raises(functions.OwnError):
            own(functions.fail)()
        with pytest.raises(minidocker.CallTimeout):
            isolated(method="spawn", network=box, timeout=1)(time.sleep)(60)
        with pytest.raises(minidocker.CallKilled):
            own(functions.die)(signal.SIGSEGV)


def wait_for_the_ready_container(template):
    """Wait until only a ready container's processes are left; return their pids."""
    wait_until(lambda: len(descendants_of(template)) == 2)
    return descendants_of(template).keys()


def test_a_mount_of_the_host_between_two_calls_is_seen(tmp_path):
    """A ready container has the mounts of the time when it was made."""
    (tmp_path / "covered").touch()
    exists = spawned(functions.exists)
    for _ in range(3):
        assert exists(str(tmp_path / "covered"))
    wait_for_the_ready_container(template_of(()))
    if os.geteuid() != 0:
        return
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        assert not exists(str(tmp_path / "covered"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert exists(str(tmp_path / "covered"))


def test_a_ready_container_serves_only_its_own_spec():
    for hostname in ("one", "one", "one", "two", "one", "two", "two"):
        assert isolated(method="spawn", hostname=hostname)(functions.where)()[2] == hostname
        # Time to make a ready container, which the template does for some of them only.
        time.sleep(0.02)


@pytest.mark.smoke
def test_the_end_of_a_function_leaves_the_ready_container_for_the_next():
    template = template_of(())
    for _ in range(2):
        spawned(functions.add)(1)
    waiting = wait_for_the_ready_container(template)
    # Time for an error that would end it: there is no event to wait for if nothing does.
    time.sleep(0.2)
    assert descendants_of(template).keys() == waiting
    spawned(functions.add)(1)
    wait_while(lambda: waiting & descendants_of(template).keys())


def test_a_ready_container_does_not_stay():
    template = template_of(())
    for _ in range(3):
        spawned(functions.add)(1)
    wait_while(lambda: descendants_of(template))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_template_that_is_killed_is_replaced(number):
    preload = ("colorsys",)
    function = isolated(method="spawn", preload=preload)(functions.add)
    assert function(1) == 2
    first = template_of(preload)
    os.kill(first, number)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert function(2) == 3
    assert template_of(preload) != first


def test_a_function_whose_template_is_killed_raises_an_error(survivors):
    preload = ("sndhdr" if sys.version_info < (3, 13) else "calendar",)
    function = isolated(method="spawn", preload=preload, capture_output=True)
    function(functions.add)(1)
    template = template_of(preload)

    def kill():
        survivors.wait_until_found()
        os.kill(template, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(minidocker.CallError, match="template process ended, and its containers"):
        function(functions.sleep_marked)(60, survivors.mark)
    killer.join()
    survivors.wait_until_gone()


def test_the_template_ends_with_the_caller(survivors):
    script = """
import os, sys, minidocker
from minidocker._functions import spawn
from support import functions
minidocker.isolated(method="spawn")(functions.add)(1)
print(*(client.pid for client in spawn._clients.values()), flush=True)
minidocker.isolated(method="spawn")(functions.sleep_marked)(60, sys.argv[1])
"""
    caller = subprocess.Popen(
        [sys.executable, "-c", script, survivors.mark],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    template = os.pidfd_open(int(caller.stdout.readline()))
    wait_until(lambda: len(survivors.find()) > 1)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    survivors.wait_until_gone()
    # The pidfd of a process that has ended is readable.
    wait_until(lambda: select.select([template], [], [], 0)[0])
    os.close(template)


def test_a_forked_caller_has_a_template_of_its_own():
    def inside():
        first = dict(spawn._clients)
        value = spawned(functions.add)(1)
        return first, value, len(spawn._clients)

    assert minidocker.call(inside) == ({}, 2, 1)
    assert spawned(functions.add)(1) == 2


def test_an_interpreter_that_ends_leaves_no_warning(tmp_path):
    script = """
import minidocker
from support import functions
from support.child import in_child
if __name__ == "__main__":
    print(minidocker.isolated(method="spawn")(functions.add)(1))
"""
    done = python(tmp_path, script, PYTHONDEVMODE="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_the_clean_interpreter_has_the_flags_of_the_caller():
    code = (
        "import sys, minidocker\n"
        "print(minidocker.isolated(method='spawn')(eval)('__import__(\"sys\").flags.optimize'))"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_large_environment_and_a_large_argument_go_through(monkeypatch):
    monkeypatch.setenv("MINIDOCKER_LARGE", "x" * 100_000)
    text = spawned(json.loads)(json.dumps("y" * 5_000_000))
    assert len(text) == 5_000_000


@pytest.mark.parametrize(
    "namespaces", [NamespaceOptions.all().without_net(), NamespaceOptions.all()]
)
def test_namespaces_are_those_of_the_spec(namespaces):
    net = isolated(method="spawn", namespaces=namespaces)(os.readlink)("/proc/self/ns/net")
    assert (net != os.readlink("/proc/self/ns/net")) == namespaces.net


def test_the_user_inside():
    assert isolated(method="spawn", spec=Spec(user=1234))(os.getuid)() == 1234


def test_results_are_not_unpickled_by_the_template():
    """Unpickling in the template would import, and keep, the modules that the function needs."""
    spawned(pickle.loads)(pickle.dumps(functions.add))
    assert "support.functions" not in spawned(eval)("set(__import__('sys').modules)")
    assert socket.gethostname()


@pytest.mark.parametrize("kept", [False, True])
def test_a_large_argument_is_copied_once(leaks, kept):
    size = 30_000_000
    data = bytes(size)
    tracemalloc.start()
    try:
        if kept:
            with minidocker.ContainerExecutor(1, method="spawn", max_tasks_per_child=2) as pool:
                assert pool.submit(len, data).result() == size
        else:
            assert spawned(len)(data) == size
        assert tracemalloc.get_traced_memory()[1] < 1.5 * size
    finally:
        tracemalloc.stop()


UNNAMED = """
import sys
sys.modules["cloudpickle"] = None
import functools, minidocker
def outer():
    def inner(): pass
    return inner
if __name__ == "__main__":
    spawned = minidocker.isolated(method="spawn")
    kept = minidocker.ContainerExecutor(1, max_tasks_per_child=2)
    for call in (
        lambda: spawned(lambda: 1)(),
        lambda: spawned(outer())(),
        lambda: spawned(functools.partial(lambda: 1))(),
        lambda: spawned(map)(abs, lambda: 1),
        lambda: spawned(sorted)([], key=lambda item: item),
        lambda: kept.submit(lambda: 1).result(),
    ):
        try:
            call()
        except minidocker.SpecError as refused:
            print(refused.option, "cloudpickle" in refused.__notes__[0], refused)
    kept.shutdown()
"""


def test_without_cloudpickle_every_function_without_a_name_is_refused_in_our_words(tmp_path):
    done = python(tmp_path, UNNAMED)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    options = ["function", "function", "function", "argument 2", "argument key", "function"]
    assert [line.partition(" True ")[0] for line in lines] == options
    assert all("pickle finds functions by their names" in line for line in lines)
