"""The container around the caller: its engine, its obstacles, and the options against them."""

import subprocess
import sys

import pytest

import minidocker
from minidocker._doctor import outer
from minidocker._doctor.surroundings import Surroundings
from minidocker._inspect.proc import MountEntry

MASK = MountEntry(
    target="/proc/kcore", source="tmpfs", type="tmpfs", root="/null",
    options=("rw",), propagation=(), device="0:99",
)  # fmt: skip

SECCOMP = "--security-opt seccomp=unconfined"
APPARMOR = "--security-opt apparmor=unconfined"
PATHS = "--security-opt systempaths=unconfined"


@pytest.mark.parametrize(
    ("obstacle", "label", "mounts", "options"),
    [
        ("filter", None, (), [SECCOMP]),
        ("filter", None, (MASK,), [SECCOMP, PATHS]),
        ("filter", "docker-default", (MASK,), [SECCOMP, APPARMOR, PATHS]),
        ("label", "docker-default", (MASK,), [APPARMOR, PATHS]),
        ("masks", "docker-default", (MASK,), [PATHS]),
    ],
)
def test_the_remedy_removes_an_obstacle_and_those_behind_it(obstacle, label, mounts, options):
    around = Surroundings(engine="docker", seccomp=2, label=label, mounts=mounts)
    expected = f"start that container with {' '.join(options)}"
    assert outer.remedy(around, obstacle) == expected


def test_settings_of_kubernetes_are_a_sentence():
    around = Surroundings(engine="kubernetes", mounts=(MASK,))
    assert outer.remedy(around, "filter") == (
        "set securityContext.seccompProfile.type to Unconfined, "
        "securityContext.procMount to Unmasked for the container"
    )


def test_without_an_engine_or_an_option_of_it_there_is_no_remedy():
    assert outer.remedy(Surroundings(mounts=(MASK,)), "masks") is None
    assert outer.remedy(Surroundings(engine="WSL"), "filter") is None
    assert outer.remedy(Surroundings(engine="docker"), "nodev") is None


ENGINE = (
    "from minidocker._doctor.surroundings import Surroundings; print(Surroundings.gather().engine)"
)


@pytest.mark.parametrize(("name", "engine"), [("bwrap", "bubblewrap"), ("firejail", "firejail")])
def test_a_program_that_stays_the_parent_of_its_container_is_found(tmp_path, name, engine):
    for nested in (name, "other"):
        (tmp_path / nested).write_text('#!/bin/sh\n"$@"\n:\n')
        (tmp_path / nested).chmod(0o755)
    command = [tmp_path / name, tmp_path / "other", sys.executable, "-c", ENGINE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{engine}\n"


REFUSED = """
import minidocker
try:
    minidocker.run(["true"])
except minidocker.SpawnError as error:
    print(error.step, error.hint, sep="|")
print(minidocker.doctor()["user"].remedy)
"""


def test_a_profile_of_minidocker_around_the_caller_is_named_with_the_profile_that_nests():
    command = [sys.executable, "-c", REFUSED]
    done = minidocker.run(command, profile="docker", capture_output=True, text=True)
    refusal, remedy = done.stdout.splitlines()
    step, _, hint = refusal.partition("|")
    assert step == "clone"
    assert hint == (
        "The outer container (minidocker) refuses it by a seccomp filter: "
        'start that container with profile="namespaces"'
    )
    assert hint.endswith(f": {remedy}")


def test_the_doctor_says_that_nothing_replaces_user_namespaces():
    code = "import minidocker; print(minidocker.doctor()['user'].detail)"
    command = [sys.executable, "-c", code]
    done = minidocker.run(command, profile="docker", capture_output=True, text=True)
    assert "no fallback for callers without user namespaces" in done.stdout
