"""Control groups: the controllers with which the caller may make groups."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from minidocker._doctor.causes import Failure, Problem
from minidocker._inspect import kernel_text, proc
from minidocker._inspect.kernel_text import unescaped, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._doctor.surroundings import Surroundings

__all__ = ["CONTROLLERS", "try_controller"]

CONTROLLERS: dict[str, str] = {
    "memory": "limits of memory",
    "cpu": "shares and limits of CPU time",
    "cpuset": "limits of the usable CPUs",
    "pids": "limits of the number of processes",
    "freezer": "pausing all processes at once",
}
"""Each controller and its purpose."""

_WITH_DELEGATION = (
    "start Python in a group that is delegated to it: "
    'systemd-run --user --scope -p "Delegate=yes" python'
)


class Place(NamedTuple):
    """The caller's own group in the hierarchy of a controller."""

    version: int
    directory: Path


class _Hierarchy(NamedTuple):
    version: int
    target: str
    #: The group that is mounted at ``target``.
    root: str
    controllers: frozenset[str]


def _hierarchies() -> list[_Hierarchy]:
    try:
        rows = proc.mount_fields()
    except OSError:
        return []
    found = []
    for fields in rows:
        end = fields.index("-", 6)
        kind, options = fields[end + 1], fields[end + 3]
        if kind in ("cgroup", "cgroup2"):
            version = 2 if kind == "cgroup2" else 1
            names = frozenset(options.split(",")) if version == 1 else frozenset[str]()
            target, root = unescaped(fields[4]), unescaped(fields[3])
            found.append(_Hierarchy(version, target, root, names))
    return found


def _own_group(hierarchy: _Hierarchy, controller: str) -> Path | None:
    """Return the directory of the caller's group; None if no mount shows it."""
    try:
        groups = proc.cgroups()
    except OSError:
        return None
    for names, path in groups.items():
        named = controller in names.split(",") if hierarchy.version == 1 else names == ""
        below = path if hierarchy.root == "/" else path.removeprefix(hierarchy.root)
        outside = hierarchy.root != "/" and not path.startswith(hierarchy.root)
        if named and not outside and ".." not in path:
            return Path(hierarchy.target, below.lstrip("/"))
    return None


def _place(controller: str) -> Place | Problem:
    hierarchies = _hierarchies()
    unified = None
    for hierarchy in hierarchies:
        if hierarchy.version == 1 and controller not in hierarchy.controllers:
            continue
        directory = _own_group(hierarchy, controller)
        if directory is None or not directory.is_dir():
            continue
        if hierarchy.version == 1:
            return Place(1, directory)
        unified = directory
    if unified is None:
        what = f"no hierarchy of control groups with the {controller} controller is mounted"
        if hierarchies:
            what += " that shows the caller's own group"
        return Problem(what, "as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    if controller in ("freezer", *_enabled(unified)):
        return Place(2, unified)
    return Problem(
        f"the {controller} controller is not enabled for the caller's group {unified}",
        "as root: systemctl set-property user@.service Delegate=yes, and log in again",
    )


def _enabled(directory: Path) -> list[str]:
    try:
        return words(kernel_text.read(str(directory / "cgroup.controllers")))
    except OSError:
        return []


def try_controller(
    controller: str, probe: Callable[[bytes], Failure | None], around: Surroundings
) -> str | Problem:
    """Make a group below the caller's own, and remove it.

    Args:
        controller: one of `CONTROLLERS`.
        probe: makes and removes a directory.
        around: the machine and the caller.

    Returns:
        the place of the group, or the problem.
    """
    place = _place(controller)
    if isinstance(place, Problem):
        return place
    name = f"minidocker-doctor-{secrets.token_hex(4)}"
    failure = probe(os.fsencode(place.directory / name))
    if failure is None:
        return f"version {place.version}, below {place.directory}"
    if failure.errno == errno.EROFS:
        remedy = "mount -o remount,rw /sys/fs/cgroup"
        if around.engine in ("docker", "podman"):
            remedy = "start that container with -v /sys/fs/cgroup:/sys/fs/cgroup:rw"
        return Problem(f"control groups are mounted read-only: {failure}", remedy)
    if failure.denied and place.version == 2:
        return Problem(f"the group {place.directory} belongs to another user", _WITH_DELEGATION)
    if failure.denied:
        return Problem(
            f"the group {place.directory} belongs to another user; version 1 is not delegated",
            "run as root",
        )
    return Problem(str(failure), f"check the directory {place.directory}")
