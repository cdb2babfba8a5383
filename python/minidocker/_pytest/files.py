"""The files of a test in a container whose profile lists what it shows."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidocker._functions.sources import with_sources

if TYPE_CHECKING:
    import pytest

    from minidocker._spec.spec import Spec

__all__ = ["make_basetemp", "with_test_root"]


def with_test_root(spec: Spec, item: pytest.Item) -> Spec:
    """Show the root directory of the tests, and the file of this one, read-only."""
    return with_sources(spec, (str(item.config.rootpath), str(item.path)))


def make_basetemp(config: Any) -> None:
    """Make the directory of ``tmp_path`` in the copy, where /tmp may be another one.

    If it is read-only there, because it is among the tests, take one in /tmp.
    """
    factory = getattr(config, "_tmp_path_factory", None)
    basetemp = getattr(factory, "_basetemp", None)
    if factory is None or basetemp is None:
        return
    # If a root has no place for it, the fixture fails with the reason.
    with contextlib.suppress(OSError):
        basetemp.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(basetemp, os.W_OK):
            factory._basetemp = Path(tempfile.mkdtemp(prefix="pytest-"))
