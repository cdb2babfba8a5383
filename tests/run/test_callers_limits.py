"""Callers with low resource limits: a launch works, or its error names the limit."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

import minidocker
from support.child import in_child

KINDS = {
    "alone": {},
    "init": {"init": True},
    "hostname": {"hostname": "lab"},
    "untrusted": {"profile": "untrusted"},
    "tmpfs": {"tmpfs": ["/mnt"]},
}

LIMITS = {
    "RLIMIT_FSIZE": [0, 1, 4096, 8192],
    "RLIMIT_CORE": [0],
    "RLIMIT_MEMLOCK": [0],
    "RLIMIT_STACK": [1 << 20],
    "RLIMIT_DATA": [1 << 24],
    "RLIMIT_AS": [1 << 28],
    "RLIMIT_MSGQUEUE": [0],
    "RLIMIT_SIGPENDING": [0],
    "RLIMIT_RTTIME": [0],
}


@pytest.fixture(autouse=True)
def _imported(noop):
    """Run a container first: importing modules needs memory."""
    assert callable(minidocker.run)


def outcome(args, **options):
    """Return a status, or the error's step and hint."""
    try:
        return minidocker.run(args, **options).returncode
    except minidocker.SpawnError as error:
        return error.step, error.hint


def may_raise_limits():
    """Return whether this process has CAP_SYS_RESOURCE, which raising a hard limit takes."""
    rows = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    return bool(int(rows["CapEff"], 16) >> 24 & 1)


def limited(name, value, *, hard):
    number = getattr(resource, name)
    _, most = resource.getrlimit(number)
    resource.setrlimit(number, (value, value if hard else most))
    return number, resource.getrlimit(number)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_low_limit_is_obeyed_or_named(name, hard):
    def check(value):
        number, before = limited(name, value, hard=hard)
        found = {kind: outcome(["/bin/true"], **options) for kind, options in KINDS.items()}
        # The caller keeps its limit.
        assert resource.getrlimit(number) == before
        return found

    for value in LIMITS[name]:
        for kind, result in in_child(check, value).items():
            if result != 0:
                step, hint = result
                assert name in hint, (value, kind, step)


def test_a_low_soft_limit_of_file_sizes_does_not_matter():
    """The helper is a file in memory, to which the limit applies; the caller may raise it."""

    def check():
        limited("RLIMIT_FSIZE", 0, hard=False)
        command = ["/bin/true"]
        ways = ({"init": True}, {"profile": "untrusted"}, {"hostname": "lab"}, {"overlay": True})
        limit = ["/bin/sh", "-c", "ulimit -f"]
        inside = minidocker.run(limit, profile="untrusted", capture_output=True, text=True)
        return [outcome(command, **way) for way in ways], inside.stdout, minidocker.call(len, "abc")

    assert in_child(check) == ([0] * 4, "0\n", 3)


def test_a_low_hard_limit_of_file_sizes_is_raised_or_named_and_sends_no_signal(noop):
    """A caller with CAP_SYS_RESOURCE raises it for the helper; another one gets an error."""

    def check():
        received = []
        signal.signal(signal.SIGXFSZ, lambda *_: received.append("SIGXFSZ"))
        limited("RLIMIT_FSIZE", 4096, hard=True)
        return outcome([noop], init=True, die_with_parent=False), received

    found, received = in_child(check)
    assert received == []
    if may_raise_limits():
        assert found == 0
    else:
        step, hint = found
        assert (step, "RLIMIT_FSIZE" in hint) == ("helper", True)


def test_the_container_keeps_the_callers_limit_of_file_sizes():
    def check():
        limited("RLIMIT_FSIZE", 8192, hard=False)
        command = ["/bin/sh", "-c", "ulimit -Sf; ulimit -Hf"]
        inside = minidocker.run(command, init=True, capture_output=True, text=True).stdout
        return inside, subprocess.check_output(command, text=True)

    inside, outside = in_child(check)
    assert inside == outside


@pytest.mark.parametrize("count", [4080, 4090, 4200])
def test_many_open_descriptors_do_not_matter_to_a_profile_that_limits_them(count, noop):
    """The profile's limit is 4,096, and entering the Landlock domain takes descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip(f"the hard limit of descriptors here is {hard}")

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (5000, hard))
        opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
        done = minidocker.run(
            ["/bin/sh", "-c", "ulimit -n"], profile="untrusted", capture_output=True, text=True
        )
        return len(opened), done.stdout, done.returncode

    assert in_child(check) == (count, "4096\n", 0)


@pytest.mark.parametrize("profile", ["namespaces", "docker", "untrusted"])
def test_a_limit_of_the_container_does_not_disturb_its_launch(profile, tmp_path):
    """Limits that the calls of a launch would exceed are set after them."""
    (tmp_path / "file").write_text("x" * 5000)
    done = minidocker.run(
        ["/bin/sh", "-c", "ulimit -f; ulimit -n; cat /proc/sys/kernel/hostname"],
        profile=profile,
        hostname="lab",
        mounts=[minidocker.Mount("/mnt/file", content="x" * 5000)],
        ulimits={"fsize": 0, "nofile": 4},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["0", "4", "lab"], done.stderr


@pytest.mark.root(reason="without a new user namespace")
def test_a_limit_of_the_container_above_the_callers_is_raised_or_refused():
    """It is raised before the process gives up CAP_SYS_RESOURCE, if the caller has that."""

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
        try:
            done = minidocker.run(
                ["/bin/sh", "-c", "ulimit -n; ulimit -c"],
                ulimits={"nofile": 2000, "core": 0},
                cap_drop=["ALL"],
                namespaces=minidocker.NamespaceOptions.all().without_user(),
                capture_output=True,
                text=True,
            )
        except minidocker.SpawnError as error:
            return error.step
        return done.stdout.split()

    assert in_child(check) == (["2000", "0"] if may_raise_limits() else "ulimits")
