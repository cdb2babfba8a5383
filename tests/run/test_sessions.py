"""Without a PID namespace, the end of a container ends its processes, some daemons excepted."""

import subprocess

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.callers import calling
from support.waiting import wait_until

#: A chain of sessions: each process is the parent of the next.
CHAIN = "setsid sh -c 'sleep 100 & setsid sh -c \"setsid sleep 100 & wait\" & wait' & wait"
#: Its parent has ended, and it has a session of its own.
DAEMON = "sh -c 'setsid sh -c \"setsid sleep 100 & exec sleep 100\" &'; sleep 100"
#: The processes of each.
COUNT = {CHAIN: 5, DAEMON: 4}

WITHOUT_PID = NamespaceOptions.all().without_pid()
OWN = {
    "all": WITHOUT_PID,
    "mount": NamespaceOptions.none().with_user().with_mount(),
    "uts": NamespaceOptions.none().with_user().with_uts(),
}
SHARED = NamespaceOptions.none().with_user()

START = """
namespaces = NamespaceOptions.none()
for kind in sys.argv[2].split():
    namespaces = getattr(namespaces, f"with_{kind}")()
minidocker.Popen(["sh", "-c", sys.argv[1]], namespaces=namespaces)
sys.stdin.read()
"""


def all_found(survivors, command, others=0):
    """Wait until every process of the command runs, and return their pids."""
    return wait_until(lambda: len(found := survivors.find()) == COUNT[command] + others and found)


def end_by_caller(command, namespaces, survivors):
    with calling(START, command, " ".join(namespaces), env=survivors.env) as caller:
        all_found(survivors, command, others=1)
        caller.kill9()


def end_by_timeout(command, namespaces, survivors):
    # The processes may need a moment to start.
    with minidocker.Popen(
        ["sh", "-c", command], namespaces=namespaces, env=survivors.env
    ) as process:
        all_found(survivors, command)
        process._kill_all()


ENDS = [end_by_caller, end_by_timeout]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("namespaces", [*OWN.values(), SHARED], ids=[*OWN, "shared"])
def test_descendants_in_other_sessions_end(end, namespaces, survivors):
    end(CHAIN, namespaces, survivors)
    survivors.wait_until_gone()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("namespaces", OWN.values(), ids=OWN)
def test_daemons_end_if_the_container_has_a_namespace_of_its_own(end, namespaces, survivors):
    end(DAEMON, namespaces, survivors)
    survivors.wait_until_gone()


@pytest.mark.parametrize("end", ENDS)
def test_daemons_survive_if_the_container_shares_all_namespaces(end, survivors):
    """SECURITY.md says so."""
    end(DAEMON, SHARED, survivors)
    wait_until(lambda: len(survivors.find()) == 2)
    assert set(survivors.find().values()) == {"sleep 100 "}
    survivors.kill()


def test_a_timeout_of_run_ends_daemons(survivors):
    with pytest.raises(subprocess.TimeoutExpired):
        minidocker.run(["sh", "-c", DAEMON], namespaces=WITHOUT_PID, env=survivors.env, timeout=1)
    survivors.wait_until_gone()


def test_other_containers_and_the_caller_go_on(survivors):
    """The search ends only the processes of one container."""
    options = {"namespaces": WITHOUT_PID, "env": survivors.env}
    with (
        minidocker.Popen(["sleep", "100"], **options) as other,
        subprocess.Popen(["sleep", "100"], env=survivors.env) as plain,
        minidocker.Popen(["sh", "-c", CHAIN], **options) as process,
    ):
        all_found(survivors, CHAIN, others=2)
        process._kill_all()
        process.wait()
        wait_until(lambda: len(survivors.find()) == 2)
        assert set(survivors.find()) == {other.pid, plain.pid}
        other.kill()
        plain.kill()
