"""Untrusted code of a plain caller has a subordinate id outside, if its user is not root inside."""

import os
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.specs import has_subordinate_ids

pytestmark = [
    pytest.mark.plain(reason="a root caller's containers have ids of their own"),
    pytest.mark.skipif(not has_subordinate_ids(), reason="/etc/subuid has no row for this user"),
]

AUTO = {"uid_map": "auto", "gid_map": "auto", "profile": "untrusted"}
USER = {"user": 1000, "group": 1000, "extra_groups": []}


def output(script, **options):
    done = minidocker.run(["sh", "-c", script], capture_output=True, text=True, **AUTO, **options)
    return done.stdout


def test_the_user_is_not_the_caller_outside():
    with minidocker.Popen(["sleep", "60"], **AUTO, **USER) as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
    uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    assert str(os.geteuid()) not in uids


def test_the_callers_own_files_are_closed_to_the_user(tmp_path):
    (tmp_path / "closed").write_text("of the caller\n")
    (tmp_path / "closed").chmod(0o600)
    mounts = [Mount("/mnt", str(tmp_path))]
    script = "cat /mnt/closed || echo closed; echo > /mnt/new || echo read-only"
    assert output(script, mounts=mounts, **USER) == "closed\nread-only\n"
    assert output(script, mounts=mounts) == "of the caller\n"
