"""The paths that the profiles' source lists."""

import re

from support.places import REPOSITORY

SOURCE = REPOSITORY / "core/src/spec/profile.rs"


def paths_in(constant: str) -> set[str]:
    """Return the absolute paths in the definition of a constant."""
    return _paths(rf"const {constant}:(.*?);\n")


def paths_of_view(field: str) -> set[str]:
    """Return the paths in a field of the view of "untrusted"."""
    return _paths(rf"\b{field}: &\[\n(.*?)\n    \],")


def _paths(pattern: str) -> set[str]:
    found = re.search(pattern, SOURCE.read_text(), re.DOTALL)
    assert found is not None, pattern
    return set(re.findall(r'"(/[^"]+)"', found[1]))
