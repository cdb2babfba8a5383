"""Attempts to find a secret of the host in the view of "untrusted", on a machine full of them."""

import os

import pytest

import minidocker
from support.machine import (
    CLOSED,
    DOORS,
    LOCAL,
    NEVER,
    Administrator,
    Machine,
    make_machine,
)
from support.profile_source import paths_of_view
from support.specs import has_subordinate_ids

WITHOUT_USER = minidocker.NamespaceOptions.all().without_user()
IS_ROOT = os.geteuid() == 0
NAMES = (*NEVER, *CLOSED, *(f"usr/local/{name}" for name in LOCAL))

SETTINGS = ("/etc/", "/var/")

USER = {"user": 1000, "group": 1000, "extra_groups": []}

#: The machine's root, and a user of it. A plain user is the machine's root: all files are its own.
CALLERS = {"plain": USER | {"uid_map": "auto", "gid_map": "auto"}}
if IS_ROOT:
    shared = {"namespaces": WITHOUT_USER}
    CALLERS = {"root": shared, "plain": shared | USER}


@pytest.fixture(params=CALLERS)
def caller(request):
    if not IS_ROOT and not has_subordinate_ids():
        pytest.skip("/etc/subuid has no row for this user")
    return request.param


@pytest.fixture
def administrator(tmp_path):
    found = Administrator(make_machine(tmp_path))
    yield found
    found.close()


@pytest.fixture
def machine(administrator, caller):
    found = Machine(administrator.root, **CALLERS[caller])
    yield found
    found.close()


def assert_nothing_of_the_host_shows(found):
    assert not found.read
    # The names in a shown directory are no secret.
    assert not found.exist - set(CLOSED)
    assert not found.special
    assert not found.through


def test_no_secret_of_the_host_shows_before_or_after_the_host_changes_it(
    administrator, machine, caller
):
    machine.start("early", profile="untrusted")
    administrator.add()
    administrator.open_doors()
    machine.start("late", profile="untrusted")

    control = machine.look(NAMES, profile="namespaces")
    assert control.exist == set(NAMES)
    missed = {name for name in NAMES if f"/{name}" not in control.read}
    assert missed == (set() if caller == "root" else set(CLOSED))
    hidden = {"run"}  # A directory of the container's own, in every profile.
    assert control.through >= {
        f"/{door}/{kind}" for door in {*DOORS} - hidden for kind in ("fifo", "socket")
    }

    for change in (None, administrator.replace, administrator.rename):
        if change is not None:
            change()
        assert_nothing_of_the_host_shows(machine.look(NAMES, box="early"))
        assert_nothing_of_the_host_shows(machine.look(NAMES, box="late"))
        assert_nothing_of_the_host_shows(machine.look(NAMES, profile="untrusted"))


def test_every_listed_entry_that_the_host_has_is_shown(administrator, machine):
    def listed(field):
        paths = (path.replace("*", "9") for path in paths_of_view(field))
        return [path[1:] for path in paths if path.startswith(SETTINGS)]

    shown = [*listed("copied"), *(f"{name}/shown" for name in listed("bound"))]
    for name in shown:
        path = administrator.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.touch()
            path.chmod(0o644)
    assert len(shown) > 60
    assert machine.look(shown, profile="untrusted").exist == set(shown)
