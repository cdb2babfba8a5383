"""The plain user's run is what it says: no privilege, and a machine like any other."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain(reason="looks at the plain user's own process")


def test_the_plain_user_has_no_capability_and_can_gain_some_by_setuid_programs_only():
    rows = dict(row.split(":\t", 1) for row in Path("/proc/self/status").read_text().splitlines())
    held = {name: int(rows[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    assert set(held.values()) == {0}
    assert rows["NoNewPrivs"] == "0"
    assert 0 not in os.getresuid() + os.getresgid()
    assert 0 not in os.getgroups()


def test_the_plain_user_can_read_nothing_that_is_roots_own():
    with pytest.raises(PermissionError):
        Path("/etc/shadow").read_bytes()
    with pytest.raises(PermissionError):
        Path("/proc/1/environ").read_bytes()


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_a_user_namespace_of_the_plain_user_can_mount_a_fresh(kind, tmp_path):
    flags = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork"]
    subprocess.run(["unshare", *flags, "mount", "-t", kind, kind, tmp_path], check=True)
    assert list(tmp_path.iterdir()) == []
