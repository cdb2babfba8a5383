"""The snapshots of syrupy.

The plugin writes new snapshots at the end of the session, and deletes those that no test used.
Therefore the copy writes the test's own snapshots, and the pytest outside notes which it used.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from minidocker._pytest.results import find_class
from minidocker._pytest.shapes import Malformed, check

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["ReceivedSnapshots", "start_in_copy"]

_RESULT = {"location": str, "name": str, "created": bool, "updated": bool, "success": bool}
_ASSERTION = {"extension": (str, str), "results": [_RESULT]}


def _session(item: pytest.Item) -> Any:
    return getattr(item.config, "_syrupy", None)


def start_in_copy(item: pytest.Item) -> Callable[[], list[dict[str, Any]]] | None:
    """Return a function that writes the snapshots from now on, and packs the names of those used.

    Return None without the plugin.
    """
    session = _session(item)
    if session is None:
        return None
    known = len(session._assertions)

    def finish() -> list[dict[str, Any]]:
        session.flush_snapshot_write_queue()
        return [_packed(assertion) for assertion in session._assertions[known:]]

    return finish


def _packed(assertion: Any) -> dict[str, Any]:
    extension = type(assertion.extension)
    return {
        "extension": [extension.__module__, extension.__qualname__],
        "results": [
            {
                "location": result.snapshot_location,
                "name": result.snapshot_name,
                "created": result.created,
                "updated": result.updated,
                "success": result.success,
            }
            for result in assertion.executions.values()
        ],
    }


class ReceivedSnapshots:
    """The snapshots that one test used, as its container sent them.

    Args:
        item: the test.
        packed: the snapshots.

    Raises:
        Malformed: they are not such as `start_in_copy` packs, or not below the test's directory of
            snapshots.
    """

    def __init__(self, item: pytest.Item, packed: object) -> None:
        self._item = item
        self._session = _session(item)
        check(packed, [_ASSERTION])
        assertions: Any = packed
        if self._session is None and assertions:
            raise Malformed("syrupy: this session has no snapshots")
        self._assertions = [self._checked(**assertion) for assertion in assertions]

    def _checked(
        self, extension: list[str], results: list[dict[str, Any]]
    ) -> tuple[type[Any], list[dict[str, Any]]]:
        modules: Any = sys.modules
        base = modules["syrupy.extensions.base"].AbstractSyrupyExtension
        # A class that only the container has imported is unknown here.
        known = (
            find_class(extension[0], extension[1], base)
            or modules["syrupy.extensions"].DEFAULT_EXTENSION
        )
        directory = known.dirname(test_location=self._place())
        for result in results:
            location = result["location"]
            # Syrupy deletes the lock files beside it.
            if os.path.normpath(location) != location or not location.startswith(
                directory + os.sep
            ):
                reason = f"{location!r} is not below {directory!r}"
                hint = "Import the class of its extension when the file of the test is imported"
                raise Malformed(f"syrupy: {reason}. {hint}")
        return known, results

    def _place(self) -> Any:
        location: Any = sys.modules["syrupy.location"]
        return location.PyTestLocation(self._item)

    def add(self) -> None:
        """Add the snapshots to those that the session has used."""
        module: Any = sys.modules["syrupy.assertion"]
        for extension, results in self._assertions:
            # The constructor registers it.
            assertion = module.SnapshotAssertion(
                session=self._session,
                extension_class=extension,
                test_location=self._place(),
                update_snapshots=self._session.update_snapshots,
            )
            for number, result in enumerate(results):
                assertion.executions[number] = module.AssertionResult(
                    snapshot_location=result["location"],
                    snapshot_name=result["name"],
                    created=result["created"],
                    updated=result["updated"],
                    success=result["success"],
                    asserted_data=None,
                    recalled_data=None,
                    exception=None,
                    test_location=assertion.test_location,
                )
                if result["created"] or result["updated"]:
                    self._session._written_snapshot_locations.add(result["location"])
