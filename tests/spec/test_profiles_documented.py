"""The documentation names every path that a profile masks, protects or shows."""

import re

import pytest

from support.places import REPOSITORY
from support.profile_source import paths_in, paths_of_view

MANUAL = REPOSITORY / "docs/profiles.md"
POLICY = REPOSITORY / "SECURITY.md"


@pytest.mark.parametrize(
    ("constant", "heading"),
    [
        ("DOCKER_MASKED_PATHS", 'What `"docker"` does, exactly'),
        ("DOCKER_READ_ONLY_PATHS", 'What `"docker"` does, exactly'),
        ("UNTRUSTED_MASKED_PATHS", 'What `"untrusted"` does, exactly'),
        ("UNTRUSTED_VIEW", 'What `"untrusted"` does, exactly'),
        ("UNTRUSTED_LANDLOCK", 'What `"untrusted"` does, exactly'),
    ],
)
def test_every_path_of_a_profile_is_in_its_section(constant, heading):
    section = MANUAL.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(/[^`]+)`", section))
    # Landlock's rules hold for the whole root.
    paths = paths_in(constant) - {"/"}
    assert paths
    assert paths <= documented


def test_the_policy_names_each_directory_that_untrusted_binds():
    bullet = POLICY.read_text().split("- for **secrets in what is shown**")[1].split("\n- ")[0]
    named = set(re.findall(r"`([^`]+)`", bullet))
    # Not /usr and the links into it.
    directories = {path for path in paths_of_view("bound") if path.count("/") > 1}
    assert len(directories) > 10
    assert {path.removeprefix("/etc/") for path in directories} <= named


def test_masks_lie_where_no_process_can_rename_their_mount_points():
    """The kernel drops a mount on a name that is renamed over; proc and sysfs refuse renames."""
    for constant in ("DOCKER_MASKED_PATHS", "UNTRUSTED_MASKED_PATHS", "DOCKER_READ_ONLY_PATHS"):
        assert all(path.startswith(("/proc/", "/sys/")) for path in paths_in(constant))
