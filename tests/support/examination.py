"""A doctor in made-up surroundings: for what cannot be broken here."""

import errno
from typing import Any

from minidocker._doctor.causes import Failure
from minidocker._doctor.checks import CHECKS, Examination
from minidocker._doctor.report import Report
from minidocker._doctor.surroundings import Surroundings

#: What the kernel answers to calls that can never be right, where that is not EINVAL.
_UNFILTERED = {"filter-mount": errno.EFAULT, "filter-setns": errno.EBADF}


def broken(*, refuse: dict[str, Failure], **facts: Any) -> Examination:
    """An examination in surroundings that are made up, where the probes in `refuse` fail."""

    def probe(name: str, _user_namespace: bool, _path: bytes | None) -> Failure | None:
        if name.startswith("filter-"):
            return refused(name, _UNFILTERED.get(name, errno.EINVAL))
        return refuse.get(name)

    return Examination(Surroundings(**facts), probe)


def examined(examination: Examination, *names: str) -> Report:
    """The report of the checks of these names alone."""
    for check in CHECKS:
        if check.name in names:
            examination.make(check)
    return examination.report()


def refused(call: str, number: int) -> Failure:
    """The failure of a call with an error number."""
    return Failure("refused", call, number, None)
