"""A Popen that gets one thing wrong, to see that it would be noticed."""

import subprocess
from typing import Any


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Reports every exit status as 0."""

    def wait(self, *args: Any, **keywords: Any) -> int:
        """Wait, and say that all is well."""
        super().wait(*args, **keywords)
        self.returncode = 0
        return 0
