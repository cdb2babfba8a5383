"""Skip or fail tests that need a container on a machine that cannot make one."""

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

# From an option to the doctor's row for it, if that has another name.
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
    """Skip the test if this machine cannot make its container, and fail it otherwise.

    Args:
        config: pytest's configuration.
        error: the exception that the start of the container raised.
        options: the requested options that differ from the default.
        where: the marker or fixture that requested the container, for the message.
    """
    reason = _reason(config, error, options)
    if reason is None or config.getoption("minidocker_require"):
        raise pytest.fail.Exception(f"{where}: {reason or error}", pytrace=False) from None
    raise pytest.skip.Exception(reason, _use_item_location=True) from None


def _reason(config: pytest.Config, error: Exception, options: Mapping[str, Any]) -> str | None:
    """Return why the machine cannot make the container; None if the request itself is wrong."""
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
