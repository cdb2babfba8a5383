"""A seccomp filter around the caller that refuses a step of the confinement.

A launch then fails. A container with less confinement than its profile promises never starts.
"""

import errno
import os

import pytest

import minidocker
from support.attack import landlock_abi
from support.child import in_child
from support.denied import NUMBERS_OF_LANDLOCK, deny, deny_number

BIND = 0x1000

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")


def outcome(function, *arguments, **options):
    """Return a status or value, or the step, the error number and the remedy of an error."""
    try:
        found = function(*arguments, **options)
    except minidocker.SpawnError as error:
        return error.step, error.errno, error.hint
    return getattr(found, "returncode", found)


def in_container(**options):
    with minidocker.Container(**options) as box:
        return box.run(["true"]).returncode


def entering(**options):
    with minidocker.Container() as box:
        return box.run(["true"], **options).returncode


WAYS = {
    "run": lambda: outcome(minidocker.run, ["true"], profile="untrusted"),
    "init": lambda: outcome(minidocker.run, ["true"], profile="untrusted", init=True),
    "container": lambda: outcome(in_container, profile="untrusted"),
    "entering": lambda: outcome(entering, profile="untrusted"),
    "fork": lambda: outcome(minidocker.isolated(profile="untrusted", method="fork")(len), "abc"),
    "spawn": lambda: outcome(minidocker.isolated(profile="untrusted", method="spawn")(len), "abc"),
    "shared": lambda: outcome(
        minidocker.run,
        ["true"],
        profile="untrusted",
        namespaces=minidocker.NamespaceOptions.all().without_pid(),
    ),
}


def assert_named(found, number):
    """Check that an error names Landlock and the filter."""
    step, refusal, hint = found
    assert (step, refusal) == ("landlock", number)
    assert "landlock_*" in hint
    assert "seccomp filter" in hint


@needs_landlock
@pytest.mark.parametrize("refusal", ["EPERM", "EACCES", "ENOSYS", "EOPNOTSUPP", "EINVAL"])
def test_a_filter_that_refuses_landlock_is_an_error_whatever_its_answer(refusal):
    number = getattr(errno, refusal)

    def check():
        deny_number(NUMBERS_OF_LANDLOCK["landlock_create_ruleset"], number)
        others = [outcome(minidocker.run, ["true"], profile=p) for p in ("namespaces", "docker")]
        return outcome(minidocker.run, ["true"], profile="untrusted"), others

    (step, found, hint), others = in_child(check)
    assert (step, found) == ("landlock", number)
    assert "seccomp filter" in hint
    # These profiles promise no Landlock.
    assert others == [0, 0]


@needs_landlock
def test_a_filter_that_refuses_landlock_is_an_error_for_every_way_to_start():
    def check():
        deny_number(NUMBERS_OF_LANDLOCK["landlock_create_ruleset"], errno.ENOSYS)
        return {name: way() for name, way in WAYS.items()}

    for found in in_child(check).values():
        assert_named(found, errno.ENOSYS)


@needs_landlock
@pytest.mark.parametrize("name", ["landlock_add_rule", "landlock_restrict_self"])
def test_a_filter_that_refuses_a_later_call_of_landlock_is_an_error(name):
    def check():
        deny_number(NUMBERS_OF_LANDLOCK[name], errno.EPERM)
        return [WAYS[way]() for way in ("run", "fork")]

    for found in in_child(check):
        assert_named(found, errno.EPERM)


@needs_landlock
def test_a_filter_that_also_hides_the_list_of_security_modules_is_an_error():
    """Nothing then shows whether the kernel has Landlock."""

    def check():
        deny_number(NUMBERS_OF_LANDLOCK["lsm_list_modules"], errno.ENOSYS)
        deny_number(NUMBERS_OF_LANDLOCK["landlock_create_ruleset"], errno.ENOSYS)
        return WAYS["run"]()

    assert_named(in_child(check), errno.ENOSYS)


def test_a_filter_that_hides_the_callers_limits_is_an_error():
    """The launch could not find out which of them the profile lowers."""

    def check():
        deny("prlimit64", errno.EPERM)
        return WAYS["run"]()

    step, number, hint = in_child(check)
    assert (step, number) == ("ulimits", errno.EPERM)
    assert "prlimit64(2)" in hint


@pytest.mark.parametrize("refusal", ["EACCES", "EPERM", "ENOSYS"])
def test_a_mask_that_cannot_be_mounted_is_an_error(refusal):
    """AppArmor answers EACCES, as for a path that is out of reach and so needs no mask."""
    number = getattr(errno, refusal)

    def check():
        deny("mount", number, argument=(3, BIND))
        return outcome(minidocker.run, ["true"], profile="docker")

    step, found, _ = in_child(check)
    assert (step, found) == ("hide", number)


#: Calls of a launch, and how x86-64 numbers them.
CALLS = {
    "ioctl": 16, "sendfile": 40, "fchdir": 81, "umask": 95, "setsid": 112, "setresuid": 117,
    "setresgid": 119, "capget": 125, "capset": 126, "statfs": 137, "pivot_root": 155,
    "prctl": 157, "mount": 165, "umount2": 166, "sethostname": 170, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "symlinkat": 266, "fchmodat": 268, "prlimit64": 302,
    "seccomp": 317, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "close_range": 436, "openat2": 437, "mount_setattr": 442,
}  # fmt: skip

SHOW = """
grep -E '^(Cap|NoNewPrivs)' /proc/self/status
cut -d' ' -f5,6 /proc/self/mountinfo
cat /proc/self/limits /proc/sys/user/max_inotify_instances
umask
"""


def confinement(profile):
    """Return the confinement as it shows inside, or nothing if the launch fails."""
    command = ["/bin/sh", "-c", SHOW]
    try:
        done = minidocker.run(
            command, profile=profile, hostname="lab", capture_output=True, text=True, cwd="/"
        )
    except minidocker.SpawnError:
        return None
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of x86-64")
@pytest.mark.parametrize("profile", ["docker", "untrusted"])
def test_a_container_behind_a_filter_has_the_whole_confinement_or_does_not_start(profile):
    def check(name=None):
        # This sets no_new_privileges; the container of "docker" inherits it.
        deny("splice", errno.EPERM)
        if name is not None:
            deny_number(CALLS[name], errno.EACCES)
        return confinement(profile)

    whole = in_child(check)
    assert "Cap" in whole
    found = {name: in_child(check, name) for name in CALLS}
    assert {name: text for name, text in found.items() if text not in (None, whole)} == {}
    # Most of the calls are needed.
    assert sum(text is None for text in found.values()) >= 12


def test_a_filter_that_hides_what_is_mounted_on_sys_is_an_error():
    """The container would get the host's /sys, writable for root."""

    def check():
        deny("statfs", errno.EPERM)
        return outcome(minidocker.run, ["true"], profile="docker")

    step, number, _ = in_child(check)
    assert (step, number) == ("prepare", errno.EPERM)
