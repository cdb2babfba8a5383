"""The documentation names every path that a profile masks, protects or shows."""

import re

import pytest

from support.places import REPOSITORY

SOURCE = REPOSITORY / "core/src/spec/profile.rs"
MANUAL = REPOSITORY / "docs/profiles.md"
POLICY = REPOSITORY / "SECURITY.md"


def paths_in(constant: str) -> set[str]:
    """Return the absolute paths in the definition of a constant of the profiles."""
    found = re.search(rf"const {constant}:(.*?);\n", SOURCE.read_text(), re.DOTALL)
    assert found is not None, constant
    return set(re.findall(r'"(/[^"]+)"', found[1]))


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


def bound_directories() -> set[str]:
    """Return the directories that "untrusted" binds, other than /usr and links into it."""
    found = re.search(r"\bbound: &\[(.*?)\n    \],", SOURCE.read_text(), re.DOTALL)
    assert found is not None
    paths = set(re.findall(r'"(/[^"]+)"', found[1]))
    return {path for path in paths if path.count("/") > 1}


def test_the_policy_names_each_directory_that_untrusted_binds():
    bullet = POLICY.read_text().split("- for **secrets in what is shown**")[1].split("\n- ")[0]
    named = set(re.findall(r"`([^`]+)`", bullet))
    directories = bound_directories()
    assert len(directories) > 10
    assert {path.removeprefix("/etc/") for path in directories} <= named


def test_masks_lie_where_no_process_can_rename_their_mount_points():
    """The kernel drops a mount on a name that is renamed over; proc and sysfs refuse renames."""
    for constant in ("DOCKER_MASKED_PATHS", "UNTRUSTED_MASKED_PATHS", "DOCKER_READ_ONLY_PATHS"):
        assert all(path.startswith(("/proc/", "/sys/")) for path in paths_in(constant))
