"""docs/profiles.md names every path that a profile masks, protects or shows."""

import re

import pytest

from support.places import REPOSITORY

SOURCE = REPOSITORY / "core/src/spec/profile.rs"
MANUAL = REPOSITORY / "docs/profiles.md"


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
        ("UNTRUSTED_VIEW", 'What `"untrusted"` does, exactly'),
    ],
)
def test_every_path_of_a_profile_is_in_its_section(constant, heading):
    section = MANUAL.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(/[^`]+)`", section))
    paths = paths_in(constant)
    assert paths
    assert paths <= documented
