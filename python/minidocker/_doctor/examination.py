"""`Examination`: makes one check after another, and collects their rows."""

from __future__ import annotations

import dataclasses
import errno
import functools
from typing import TYPE_CHECKING

from minidocker._doctor import causes
from minidocker._doctor.causes import Failure, FilteredCall, Problem, Witness
from minidocker._doctor.report import Report, Row, Status
from minidocker._spec.names import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._doctor.surroundings import Surroundings

__all__ = ["Check", "Examination"]

_CLONES = (
    *KINDS, "capabilities", "hostname", "fresh-proc", "fresh-sys", "shared-memory", "loopback",
    "ping", "subordinate-ids", "overlay", "pivot-root", "read-only", "devpts",
)  # fmt: skip
"""Probes that call clone(2) with the flags of new namespaces."""

_UNFILTERED: dict[FilteredCall, tuple[causes.How, int]] = {
    "clone": ("refused", errno.EINVAL),
    "unshare": ("refused", errno.EINVAL),
    "mount": ("refused", errno.EFAULT),
    "setns": ("refused", errno.EBADF),
    "memfd_create": ("refused", errno.EINVAL),
}
"""The kernel's own answers to calls with invalid arguments."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: the name of its row, and of its probe if it has one.
        title: the title of its row.
        detail: the purpose of the feature, for the row if it works.
        essential: whether `run` needs it by default.
        needs: the rows that must work before this check makes sense.
        attempt: a function that replaces the probe; it returns the detail, or the problem.
        cause: a function that returns the problem of a failed probe.
    """

    name: str
    title: str
    detail: str = ""
    essential: bool = False
    needs: tuple[str, ...] = ()
    attempt: Callable[[Examination], str | Problem] | None = None
    cause: Callable[[Failure, Witness], Problem] = causes.general


class Examination:
    """The rows of the checks made so far.

    Args:
        surroundings: the machine and the caller.
        probe: runs a probe by name; with or without a new user namespace, at a path.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        probe: Callable[[str, bool, bytes | None], Failure | None],
    ) -> None:
        self.surroundings = surroundings
        self.rows: dict[str, Row] = {}
        self._probe = probe
        self._filters = functools.cache(lambda call: probe(f"filter-{call}", True, None))
        self._witness = Witness(surroundings, self._is_filtered)

    def probe(self, name: str, path: bytes | None = None) -> Failure | None:
        """Run a probe, in a new user namespace if these work."""
        if name in _CLONES and self.deadly("clone"):
            # The caller itself makes that call, and the filter would kill it.
            return self.filter("clone")
        user = self.rows.get("user")
        return self._probe(name, user is None or user.works, path)

    def filter(self, call: FilteredCall) -> Failure | None:
        """Make a call with invalid arguments in a child, and return the failure."""
        return self._filters(call)

    def deadly(self, call: FilteredCall) -> bool:
        """Return whether a seccomp filter kills a process for that call."""
        failure = self.filter(call)
        return failure is not None and failure.how == "killed"

    def _is_filtered(self, call: FilteredCall) -> bool:
        failure = self.filter(call)
        return failure is not None and (failure.how, failure.number) != _UNFILTERED[call]

    def make(self, check: Check) -> None:
        """Make one check and add its row."""
        found = self._outcome(check)
        status: Status = "works"
        detail, remedy = found if isinstance(found, Problem) else (found, None)
        if remedy is not None:
            status = "fails" if check.essential else "missing-optional"
        self.rows[check.name] = Row(
            name=check.name,
            title=check.title,
            status=status,
            detail=detail,
            remedy=remedy,
            essential=check.essential,
        )

    def _outcome(self, check: Check) -> str | Problem:
        for name in check.needs:
            if not self.rows[name].works:
                return self._blocked(name)
        if check.attempt is not None:
            return check.attempt(self)
        failure = self.probe(check.name)
        if failure is None:
            return check.detail
        # Without these two, every other step is refused for the same reason.
        if failure.denied and check.name not in ("user", "unshare"):
            for name in ("user", "capabilities"):
                if name in self.rows and not self.rows[name].works:
                    return self._blocked(name)
        return check.cause(failure, self._witness)

    def _blocked(self, name: str) -> Problem:
        needed = self.rows[name]
        return Problem(
            f"this needs {name} ({needed.title}), which does not work", needed.remedy or ""
        )

    def report(self) -> Report:
        """Return the report of all rows."""
        return Report(tuple(self.rows.values()), self.surroundings.phrases())
