"""Subordinate ids: the causes why ``uid_map="auto"`` does not work."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
from typing import TYPE_CHECKING

from minidocker._doctor import outer
from minidocker._doctor.causes import Failure, Problem, Witness, general

if TYPE_CHECKING:
    from minidocker._doctor.surroundings import Surroundings

__all__ = ["of_subordinate_ids"]

_INSTALL = "install newuidmap and newgidmap (package uidmap, shadow-utils or shadow)"


def of_subordinate_ids(failure: Failure, witness: Witness) -> Problem:
    """Return why subordinate ids cannot be mapped."""
    around = witness.surroundings
    if failure.how == "impossible":
        ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
        return Problem(str(failure), f"as root: usermod {ranges} {_user_name(around.uid)}")
    program = os.path.basename(failure.filename or "")
    if program not in ("newuidmap", "newgidmap"):
        return general(failure, witness)
    if failure.errno == errno.ENOENT:
        return Problem(f"no directory of PATH has {program}", _INSTALL)
    return _of_program(program, failure, around)


def _of_program(program: str, failure: Failure, around: Surroundings) -> Problem:
    path = shutil.which(program)
    if path is None:
        return Problem(f"no directory of PATH has an executable {program}", _INSTALL)
    if around.no_new_privileges:
        # First, because without root's id in the user namespace the owner shows as nobody.
        remedy = outer.remedy(around, "no-new-privileges") or (
            "start Python without no_new_privileges (NoNewPrivileges=no in a systemd unit)"
        )
        return Problem(
            f"the caller has no_new_privileges set, so {path} gains no privileges", remedy
        )
    if not _gains_privileges(path):
        return Problem(
            f"{path} is neither set-user-ID root nor has file capabilities",
            f"as root: chmod u+s {path}",
        )
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return Problem(
            f"{path} is on a mount with nosuid, so it gains no privileges",
            "mount that file system without nosuid",
        )
    if failure.denied and around.cannot_gain("SYS_ADMIN"):
        return Problem(
            f"{path} needs CAP_SYS_ADMIN, which is not in the caller's bounding set: {failure}",
            outer.remedy(around, "no-sys-admin") or "start Python with CAP_SYS_ADMIN in that set",
        )
    return Problem(
        f"{path} refused the rows of /etc/subuid and /etc/subgid: {failure}",
        "give each user rows there that do not overlap with those of another user",
    )


def _gains_privileges(path: str) -> bool:
    found = os.stat(path)
    if found.st_mode & stat.S_ISUID and found.st_uid == 0:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
