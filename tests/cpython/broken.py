"""A Popen with one error, to check that the comparison notices it."""

import subprocess
from typing import Any


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Reports every exit status as 0."""

    def wait(self, *args: Any, **keywords: Any) -> int:
        """Wait, and set the return code to 0."""
        super().wait(*args, **keywords)
        self.returncode = 0
        return 0
