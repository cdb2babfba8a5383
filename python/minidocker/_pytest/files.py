"""The files of a test in a container whose profile lists what it shows."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minidocker._functions.sources import with_sources
from minidocker._pytest.shared import shares_temporary_files

if TYPE_CHECKING:
    import pytest

    from minidocker._spec.spec import Spec

__all__ = ["make_basetemp", "with_test_root"]


def with_test_root(spec: Spec, item: pytest.Item) -> Spec:
    """Show the root directory of the tests, the file of this one, and shared files, read-only.

    Shared are those below ``basetemp``, if a fixture of a wider scope makes files there.
    """
    shown = [item.config.rootpath, item.path]
    basetemp = _basetemp(item.config)
    if basetemp is not None and shares_temporary_files(item):
        shown.append(basetemp)
    return with_sources(spec, tuple(map(str, shown)))


def _basetemp(config: Any) -> Path | None:
    basetemp: Path | None = getattr(_factory(config), "_basetemp", None)
    return basetemp


def _factory(config: Any) -> Any:
    return getattr(config, "_tmp_path_factory", None)


def make_basetemp(config: Any) -> None:
    """Make the directory of ``tmp_path`` in the copy, where /tmp may be another one.

    If it is read-only there, because it is among the tests or has shared files, take one in /tmp.
    """
    basetemp = _basetemp(config)
    if basetemp is None:
        return
    # If a root has no place for it, the fixture fails with the reason.
    with contextlib.suppress(OSError):
        basetemp.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(basetemp, os.W_OK):
            _factory(config)._basetemp = Path(tempfile.mkdtemp(prefix="pytest-"))
