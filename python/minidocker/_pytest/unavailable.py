"""Tests that need a container, where this machine cannot make one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from minidocker._doctor import doctor
from minidocker._doctor.report import Report
from minidocker._errors import SpawnError, UnsupportedPlatformError
from minidocker._spec.namespaces import NamespaceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["unavailable"]

_report = pytest.StashKey[Report]()

# What the doctor calls what an option needs, where it is not the option's own name.
_ROWS = {
    "gid_map": "subordinate-ids",
    "read_only": "read-only",
    "rootfs": "pivot-root",
    "time_offsets": "time",
    "uid_map": "subordinate-ids",
}


def unavailable(
    config: pytest.Config, error: Exception, options: Mapping[str, Any], where: str
) -> NoReturn:
    """Skip the test if the machine is why it has no container, and let it fail otherwise.

    Args:
        config: pytest's.
        error: what was raised instead.
        options: the options that were asked for, beside the default ones.
        where: what asked for a container.
    """
    reason = _reason(config, error, options)
    if reason is None or config.getoption("minidocker_require"):
        raise pytest.fail.Exception(f"{where}: {reason or error}", pytrace=False) from None
    raise pytest.skip.Exception(reason, _use_item_location=True) from None


def _reason(config: pytest.Config, error: Exception, options: Mapping[str, Any]) -> str | None:
    """Why the machine cannot do it; None if it can, and what was asked for is wrong."""
    if isinstance(error, UnsupportedPlatformError):
        return str(error)
    if not isinstance(error, SpawnError):
        return None
    report = config.stash.get(_report, None)
    if report is None:
        report = config.stash[_report] = doctor()
    asked = {error.step, *(_ROWS.get(option, option) for option in options)}
    if isinstance(kinds := options.get("namespaces"), NamespaceOptions):
        asked.update(kinds)
    rows = [row.name for row in report if not row.works and (row.essential or row.name in asked)]
    return report.why(rows[0]) if rows else None
