"""Doctor runs in made-up surroundings, for faults that a test cannot cause on this machine."""

import errno
from typing import Any

from minidocker._doctor.causes import Failure
from minidocker._doctor.checks import CHECKS
from minidocker._doctor.examination import Examination
from minidocker._doctor.report import Report
from minidocker._doctor.surroundings import Surroundings

#: The kernel's error for deliberately invalid calls, where that is not EINVAL.
_UNFILTERED = {"filter-mount": errno.EFAULT, "filter-setns": errno.EBADF}


def broken(*, refuse: dict[str, Failure], **facts: Any) -> Examination:
    """Return an examination of made-up surroundings where the probes in `refuse` fail."""

    def probe(name: str, _user_namespace: bool, _path: bytes | None) -> Failure | None:
        if name.startswith("filter-"):
            return refused(name, _UNFILTERED.get(name, errno.EINVAL))
        return refuse.get(name)

    return Examination(Surroundings(**facts), probe)


def examined(examination: Examination, *names: str) -> Report:
    """Return the report of only the checks with these names."""
    for check in CHECKS:
        if check.name in names:
            examination.make(check)
    return examination.report()


def refused(call: str, number: int) -> Failure:
    """Return the failure of a call with an error number."""
    return Failure("refused", call, number, None)
