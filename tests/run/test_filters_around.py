"""A seccomp filter around the caller that refuses a step of the confinement.

A launch then fails. A container with less confinement than its profile promises never starts.
"""

import errno

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
