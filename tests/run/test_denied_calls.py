"""A system call that the helper makes is refused: a launch works, or its error names the call.

The helper never spins, and leaves nothing behind after `kill -9` of the caller. The calls come from
the list in init/src/raw.rs, which has every call that the helper makes on its own.
tests/run/test_injection.py makes the calls of the plans fail.
"""

import errno
import json

import pytest

import minidocker
from support.callers import calling
from support.denied import calls_of_the_helper
from support.places import TESTS

#: Each case runs in a forked caller. The script is a subreaper: every process that a caller leaves
#: becomes its child.
CASES = """
import json
sys.path.insert(0, sys.argv[1])
from support.denied import deny_helpers
from support.waiting import state_of, wait_until
from support.callers import watchdogs_of

without_pid = NamespaceOptions.all().without_pid()

def in_container():
    with minidocker.Container() as box:
        return box.run(["true"], timeout=20).returncode

ATTEMPTS = {
    "unwatched": lambda: minidocker.run(
        ["true"], init=True, die_with_parent=False, timeout=20
    ).returncode,
    "container": in_container,
    "function": lambda: minidocker.call(len, ""),
    "unwatched function": lambda: minidocker.isolated(die_with_parent=False)(len)(""),
    # The caller's death ends these.
    "living": lambda: minidocker.Popen(["sleep", "100"]) and 0,
    "living init": lambda: minidocker.Popen(["sleep", "100"], init=True) and 0,
    "living session": lambda: minidocker.Popen(["sleep", "100"], namespaces=without_pid) and 0,
}

def outcome(attempt):
    try:
        return attempt()
    except minidocker.SpawnError as error:
        return error.step, error.errno, str(error)
    except Exception as error:
        return "none", 0, repr(error)

def case(number, refusal):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    deny_helpers(number, refusal)
    found = {name: outcome(attempt) for name, attempt in ATTEMPTS.items()}
    # A watchdog that spins never sleeps.
    sleeping = [wait_until(lambda: state_of(dog) == "S") for dog in watchdogs_of(os.getpid())]
    assert all(sleeping)
    say(json.dumps(found))

def await_the_end_of_all():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.002)
        except ChildProcessError:
            return []
    return [open(f"/proc/{pid}/stat").read() for pid in
            open(f"/proc/self/task/{os.getpid()}/children").read().split()]

for line in sys.stdin:
    if os.fork() == 0:
        try:
            case(*json.loads(line))
        except BaseException as error:
            say(json.dumps({"case": ("none", 0, repr(error))}))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    say(json.dumps(await_the_end_of_all()))
"""


def test_the_list_of_calls_is_that_of_the_helper():
    assert {"recvmsg", "epoll_pwait", "rt_sigtimedwait", "exit_group"} <= set(calls_of_the_helper())


def test_a_refused_call_of_the_helper_is_an_error_or_does_not_matter():
    refusals = (errno.ENOSYS, errno.EPERM)
    cases = [(name, refusal) for name in calls_of_the_helper() for refusal in refusals]
    named = set()
    with calling(CASES, TESTS) as callers:
        for name, refusal in cases:
            callers.stdin.write(json.dumps([calls_of_the_helper()[name], refusal]) + "\n")
            callers.stdin.flush()
            found = json.loads(callers.line())
            assert json.loads(callers.line()) == [], (name, refusal, found)
            for attempt, outcome in found.items():
                if outcome == 0:
                    continue
                step, number, text = outcome
                assert number == refusal, (name, refusal, attempt, text)
                # The other steps are named after the calls that a plan has for them.
                if step in ("watchdog", "exec-helper", "fork", "fork-caller"):
                    assert f"{name}(2) was refused" in text, (attempt, text)
                    named.add(name)
    assert {"recvmsg", "epoll_pwait", "setsid", "rt_sigtimedwait", "ppoll", "wait4"} <= named
    # The helper reads its program by the first two, and reports by the third.
    assert {"lseek", "mmap", "write"} <= named


WHOLE = """
sys.path.insert(0, sys.argv[1])
from support.denied import calls_of_the_helper, deny_number

deny_number(calls_of_the_helper()[sys.argv[2]], int(sys.argv[3]))
try:
    say(minidocker.run(["true"]).returncode)
except minidocker.SpawnError as error:
    say(error.step, error.errno, error)
report = minidocker.doctor()
row = next(row for row in report.rows if row.name == "watchdog")
say(row.status, row.detail, row.remedy)
sys.stdin.read()
"""


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("name", ["recvmsg", "epoll_pwait", "close_range"])
def test_a_filter_around_the_caller_is_named_by_run_and_by_the_doctor(name, refusal):
    with calling(WHOLE, TESTS, name, refusal) as caller:
        error, row = caller.line(), caller.line()
        assert error.startswith(f"watchdog {refusal} "), error
        assert f"{name}(2) was refused" in error
        assert row.startswith("fails cannot register with the watchdog"), row
        assert f"{name}(2) was refused" in row


@pytest.mark.parametrize("refusal", [errno.ENOSYS, errno.EPERM])
def test_a_caller_that_may_not_wait_for_its_children_starts_none(refusal):
    script = """
sys.path.insert(0, sys.argv[1])
from support.denied import deny

deny("waitid", int(sys.argv[2]))
for start in (minidocker.run, minidocker.Popen):
    try:
        say(start(["sleep", "100"]))
    except minidocker.SpawnError as error:
        say(error)
say(os.listdir("/proc/self/task") == [str(os.getpid())], open("/proc/thread-self/children").read())
"""
    with calling(script, TESTS, refusal) as caller:
        for _ in range(2):
            assert "waitid(2) was refused" in caller.line()
        assert caller.line() == "True"


def test_a_helper_that_a_filter_kills_is_named_as_the_cause(survivors):
    script = """
sys.path.insert(0, sys.argv[1])
from support.denied import calls_of_the_helper, kill_helpers

kill_helpers(calls_of_the_helper()["ppoll"])
for options in ({"init": True}, {"init": True, "die_with_parent": False}):
    try:
        say(minidocker.run(["true"], **options))
    except minidocker.SpawnError as error:
        say(error.step, error)
"""
    with calling(script, TESTS, env=survivors.env) as caller:
        for _ in range(2):
            line = caller.line()
            assert line.startswith("exec-helper cannot execute the helper program"), line
            assert "A signal ended the helper at its start" in line


def test_the_doctor_finds_a_watchdog_that_works():
    row = next(row for row in minidocker.doctor().rows if row.name == "watchdog")
    assert row.status == "works", row
