"""Inside an outer container: what works, and that each refusal names the setting behind it."""

import json
import os
import subprocess

import pytest

import minidocker
from nested.environment import VARIABLE
from support.command_line import cli

#: The rows of the doctor that cannot work here, each with words of its remedy.
CANNOT = json.loads(os.environ.get(VARIABLE, "{}"))

#: Options of `run` that need a row.
OPTIONS = {
    "run": {},
    "hostname": {"hostname": "inside"},
    "profile-docker": {"profile": "docker"},
    "profile-untrusted": {"profile": "untrusted"},
}

#: Root has every id that it may map, and needs no subordinate ones.
APART = {"subordinate-ids"} if os.geteuid() == 0 else set()


@pytest.fixture(scope="module")
def missing():
    # The smoke part needs no control groups; the machine decides about them.
    return {
        row.name: row
        for row in minidocker.doctor()
        if not row.works and row.name not in APART and not row.name.startswith("cgroup-")
    }


@pytest.mark.smoke
def test_the_doctor_finds_what_cannot_work_and_nothing_else(missing):
    if "run" in CANNOT:
        # Rows that need a failed one have its remedy, and fail with it.
        assert missing.keys() >= CANNOT.keys()
    else:
        assert missing.keys() == CANNOT.keys(), "\n".join(map(str, missing.values()))


@pytest.mark.smoke
def test_the_doctors_remedies_name_the_setting(missing):
    for name, words in CANNOT.items():
        assert words in missing[name].remedy
    if "run" in CANNOT:
        essential = {row.remedy for row in missing.values() if row.essential}
        assert all(CANNOT["run"] in remedy for remedy in essential), essential


@pytest.mark.smoke
def test_a_refused_launch_names_the_setting():
    for name in CANNOT.keys() & OPTIONS.keys():
        with pytest.raises(minidocker.SpawnError) as refusal:
            minidocker.run(["true"], **OPTIONS[name])
        assert CANNOT[name] in refusal.value.hint


@pytest.mark.smoke
def test_a_container_starts_unless_it_cannot():
    if "run" not in CANNOT:
        assert minidocker.run(["true"]).returncode == 0


@pytest.mark.smoke
def test_an_empty_input_needs_no_device():
    if "run" not in CANNOT:
        done = minidocker.run(["cat"], stdin=subprocess.DEVNULL, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        for method in ("fork", "spawn"):
            assert minidocker.isolated(method=method)(os.read)(0, 1) == b""


@pytest.mark.smoke
def test_a_device_works_or_the_error_names_the_setting():
    if "devices" in CANNOT:
        with pytest.raises(minidocker.PermissionDenied) as refusal:
            minidocker.run(["true"], stdout=subprocess.DEVNULL)
        assert CANNOT["devices"] in refusal.value.hint
        assert CANNOT["devices"] in cli("run", "-t", "true").stderr
    elif "run" not in CANNOT:
        assert minidocker.run(["true"], stdout=subprocess.DEVNULL).returncode == 0
