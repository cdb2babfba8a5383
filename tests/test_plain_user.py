"""The plain user's run really has no privileges, and can make user namespaces."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain(reason="looks at the plain user's own process")


def test_the_plain_user_has_no_capabilities_and_may_run_setuid_programs():
    rows = dict(row.split(":\t", 1) for row in Path("/proc/self/status").read_text().splitlines())
    held = {name: int(rows[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
    assert set(held.values()) == {0}
    assert rows["NoNewPrivs"] == "0"
    assert 0 not in os.getresuid() + os.getresgid()
    assert 0 not in os.getgroups()


def test_the_plain_user_cannot_read_roots_files():
    with pytest.raises(PermissionError):
        Path("/etc/shadow").read_bytes()
    with pytest.raises(PermissionError):
        Path("/proc/1/environ").read_bytes()


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
def test_the_plain_user_can_mount_in_a_user_namespace(kind, tmp_path):
    flags = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork"]
    subprocess.run(["unshare", *flags, "mount", "-t", kind, kind, tmp_path], check=True)
    assert list(tmp_path.iterdir()) == []
