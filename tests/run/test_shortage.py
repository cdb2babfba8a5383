"""Running out of descriptors, processes or namespaces: the error says so, and nothing is left."""

import contextlib
import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions
from support.callers import calling
from support.child import in_child
from support.leaks import Holdings
from support.places import TESTS
from support.specs import has_subordinate_ids

needs_subordinate_ids = pytest.mark.skipif(
    os.geteuid() != 0 and not has_subordinate_ids(), reason="/etc/subuid has no row for this user"
)


@pytest.fixture(autouse=True)
def _imported():
    """Import the modules of run() first: importing needs descriptors too."""
    assert callable(minidocker.run)


def limits(first, last):
    """Return limits to try; the last has room for descriptors that other tests have in flight."""
    return [*range(first, last), last + 100]


def outcome(*args, **options):
    """Return the status and output of a run, or its error's step, number and hint."""
    try:
        done = minidocker.run(*args, **options)
    except minidocker.SpawnError as error:
        return error.step, error.errno, error.hint
    return done.returncode, done.stdout


# --- descriptors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"init": True}, {"capture_output": True, "input": b""}],
    ids=["alone", "init", "pipes"],
)
@pytest.mark.parametrize("kept", [False, True], ids=["first run", "later run"])
def test_running_out_of_descriptors_at_any_number_is_reported(kept, options, noop):
    """A run either fails with EMFILE or succeeds in full, and leaks no descriptor."""

    def check():
        if kept:
            minidocker.run(["true"])
        highest = max(map(int, os.listdir("/proc/self/fd")))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = set(os.listdir("/proc/self/fd"))
        found = []
        for limit in limits(3, highest + 25):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            found.append(outcome([noop], hostname="lab", **options))
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            # The process keeps three descriptors once a run was able to open them.
            gained = set(os.listdir("/proc/self/fd")) - before
            assert len(gained) <= 3, (limit, found[-1], gained)
        return found

    found = in_child(check)
    failures = [result for result in found if len(result) == 3]
    assert failures, "the limit was never too low"
    for step, number, hint in failures:
        # ETOOMANYREFS: this user's processes have more descriptors in flight than the limit.
        assert number in (errno.EMFILE, errno.ETOOMANYREFS), (step, number)
        assert "RLIMIT_NOFILE" in hint
    assert found[-1][0] == 0
    assert {result[0] for result in found if len(result) == 2} == {0}


def test_a_shortage_of_descriptors_never_makes_an_incomplete_container():
    """The launch does not treat a file that it cannot open as missing."""

    def check():
        full = Path("/proc/self/uid_map").read_text().split()
        reader, writer = os.pipe()
        highest = max(map(int, os.listdir("/proc/self/fd")))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        maps = []
        for limit in limits(3, highest + 20):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            with contextlib.suppress(minidocker.SpawnError):
                command = ["/bin/cat", "/proc/self/uid_map", "/etc/hosts"]
                minidocker.run(command, stdout=writer, hostname="lab", check=True)
                maps.append(os.read(reader, 1000).decode().split()[: len(full) + 2])
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return full, maps

    full, maps = in_child(check)
    expected = full if os.geteuid() == 0 else ["0", str(os.geteuid()), "1"]
    assert [[*expected, "127.0.1.1", "lab"]] * len(maps) == [
        words[: len(expected) + 2] for words in maps
    ]
    assert len(maps) > 1


# --- processes ---------------------------------------------------------------------------------


@pytest.mark.plain(reason="root is exempt from RLIMIT_NPROC")
@pytest.mark.parametrize("options", [{}, {"init": True}], ids=["alone", "init"])
def test_running_out_of_processes_is_reported(options, noop, survivors):
    def check():
        found = []
        minidocker.run([noop], die_with_parent=False)
        for limit in range(1, 10_000):
            # The limit counts all processes of this user, so try every number until one suffices.
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, 10_000))
            found.append(outcome([noop], **options))
            if found[-1] == (0, None):
                break
        return found

    before = Holdings.now()
    found = in_child(check)
    for step, number, hint in found[:-1]:
        assert step in ("clone", "fork", "watchdog")
        assert number == errno.EAGAIN
        assert "RLIMIT_NPROC" in hint
    assert found[-1] == (0, None)
    assert len(found) > 1
    before.assert_unchanged()


# --- namespaces --------------------------------------------------------------------------------

LIMITED = """
kind, number = sys.argv[1], int(sys.argv[2])
from minidocker import linux
from minidocker.linux import CloneFlags
uid, gid = os.geteuid(), os.getegid()
linux.unshare(CloneFlags.NEWUSER | CloneFlags.NEWNS)
for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    with open(f"/proc/self/{file}", "w") as map:
        map.write(text)
# Each user namespace has its own limits.
with open(f"/proc/sys/user/max_{kind}_namespaces", "w") as limit:
    limit.write(str(number))
for _ in range(3):
    try:
        say(minidocker.run(["true"]).returncode)
    except minidocker.SpawnError as error:
        say(error.step, error.errno, error.hint)
"""


@pytest.mark.parametrize("kind", ["user", "pid", "net", "mnt", "uts", "ipc", "cgroup"])
def test_a_limit_of_namespaces_is_reported(kind):
    with calling(LIMITED, kind, 0) as caller:
        for _ in range(3):
            step, number, hint = caller.line().split(maxsplit=2)
            assert (step, int(number)) == ("clone", errno.ENOSPC)
            assert "max_*_namespaces" in hint


def test_namespaces_that_failed_do_not_count_against_the_limit(noop):
    """Namespaces left behind by failed launches would soon exceed the limit of two."""
    attempts = (
        f"sys.path.append({str(TESTS)!r})\n"
        """
from support.launches import Launch, run_by
def attempt(launch):
    deadline = time.monotonic() + 30
    while True:
        try:
            return run_by(launch, ["true"]).returncode
        except minidocker.SpawnError as error:
            # The kernel counts a namespace for a moment after its last process has ended.
            if error.errno != 28 or time.monotonic() > deadline:
                return error.errno
            time.sleep(0.001)
for call in range(20):
    attempt(Launch(inject=(call, 1)))
for _ in range(3):
    say(attempt(Launch()))
"""
    )
    before, _, _ = LIMITED.partition("for _ in range(3):")
    with calling(before + attempts, "pid", 2) as caller:
        assert [caller.line() for _ in range(3)] == ["0"] * 3


@pytest.mark.plain(reason="nothing is forbidden to root")
def test_a_forbidden_namespace_is_reported_with_a_remedy(noop):
    with pytest.raises(minidocker.PermissionDenied) as caught:
        minidocker.run([noop], namespaces=NamespaceOptions.all().without_user())
    assert caught.value.step == "clone"
    assert "user namespace" in caught.value.hint


# --- id maps -----------------------------------------------------------------------------------


@pytest.mark.plain(reason="root writes its maps itself")
@needs_subordinate_ids
def test_a_missing_newuidmap_is_reported(noop, leaks, monkeypatch, survivors):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(minidocker.SpawnError) as caught:
        minidocker.run([noop, survivors.mark], uid_map="auto", gid_map="auto")
    assert caught.value.step == "id-maps"
    assert caught.value.filename == "newuidmap"
    assert "package uidmap" in caught.value.hint


@pytest.mark.plain(reason="root writes its maps itself")
@needs_subordinate_ids
def test_the_hint_quotes_the_error_message_of_newuidmap(noop, leaks, tmp_path, monkeypatch):
    fake = tmp_path / "newuidmap"
    fake.write_text("#!/bin/sh\nyes 'no such range' | head -c 200000 >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(minidocker.PermissionDenied) as caught:
        minidocker.run([noop], uid_map="auto", gid_map="auto")
    assert "It said: no such range" in caught.value.hint
    assert len(caught.value.hint) < 10_000


@pytest.mark.plain(reason="root may map every id")
def test_mapping_ids_of_other_users_is_refused_with_a_remedy(noop, leaks):
    rows = [(0, 0, 1)]
    with pytest.raises(minidocker.PermissionDenied) as caught:
        minidocker.run([noop], uid_map=rows, gid_map=rows)
    assert caught.value.step == "id-maps"
    assert "/etc/subuid" in caught.value.hint


@pytest.mark.plain(reason="root may write to every user's files")
def test_a_caller_that_is_not_dumpable_gets_an_error_that_says_why(noop):
    """A daemon that changed its uid from root is not dumpable: root owns its files in /proc."""

    def check():
        pr_set_dumpable = 4
        assert ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0) == 0
        return outcome([noop])

    step, number, hint = in_child(check)
    assert (step, number) == ("id-maps", errno.EACCES)
    assert "PR_SET_DUMPABLE" in hint


def test_a_proc_of_another_pid_namespace_is_reported(noop):
    """In such a /proc, /proc/PID is another process or does not exist."""
    command = [
        "unshare", "--user", "--map-root-user", "--pid", "--fork", sys.executable, "-c",
        f"""
import minidocker
try:
    minidocker.run([{str(noop)!r}])
except minidocker.SpawnError as error:
    print(error.step, error.hint)
""",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    step, hint = done.stdout.split(maxsplit=1)
    assert step == "id-maps"
    assert "start that container with a /proc of its own" in hint
    assert "unshare --mount-proc" in hint
