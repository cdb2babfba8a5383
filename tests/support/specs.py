"""Containers of every kind, for tests that must hold for all of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minidocker
from minidocker import NamespaceOptions, _core

ALL = NamespaceOptions.all()

FOR_ANY_USER: dict[str, dict[str, Any]] = {
    "all": {},
    "init": {"init": True},
    "names": {"hostname": "lab", "domainname": "example.org"},
    "names with init": {"hostname": "lab", "init": True},
    "time": {
        "namespaces": ALL.with_time(),
        "time_offsets": {"monotonic": 10, "boottime": 20},
    },
    "shared pid": {"namespaces": ALL.without_pid()},
    "user alone": {"namespaces": NamespaceOptions.none().with_user()},
    "none": {"namespaces": NamespaceOptions.none()},
    "independent": {"die_with_parent": False},
    "host network": {"network": "host"},
    "subordinate ids": {"uid_map": "auto", "gid_map": "auto"},
    "subordinate user": {"uid_map": "auto", "gid_map": "auto", "user": 1, "group": 1},
}

FOR_ROOT: dict[str, dict[str, Any]] = {
    "user": {"user": "nobody", "group": "nogroup", "extra_groups": [1, 2]},
    "user with init": {"user": "nobody", "init": True},
    "user on the host": {"namespaces": NamespaceOptions.none(), "user": "nobody"},
    "without user": {"namespaces": ALL.without_user()},
    "without user, with user": {"namespaces": ALL.without_user(), "user": 65534},
    "other root": {"uid_map": [(0, 100_000, 10)], "gid_map": [(0, 100_000, 10)]},
}

FOR_PLAIN_USER: dict[str, dict[str, Any]] = {
    "one row": {"user": 1234, "group": 1234},
    "one row with init": {"user": 1234, "init": True},
}


def _here() -> dict[str, dict[str, Any]]:
    root = os.geteuid() == 0
    specs = FOR_ANY_USER | (FOR_ROOT if root else FOR_PLAIN_USER)
    if root and not has_subordinate_ids():
        # Root seldom has rows in /etc/subuid, and may map any ids anyway.
        specs = {name: spec for name, spec in specs.items() if not name.startswith("subordinate")}
    return specs


def has_subordinate_ids() -> bool:
    """Return whether /etc/subuid has a row for this user."""
    names = {str(os.geteuid()), os.environ.get("USER", "")}
    try:
        rows = Path("/etc/subuid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return any(row.split(":")[0] in names for row in rows)


HERE = _here()
"""The containers that this user can make: name to keywords of `minidocker.run`."""


def call_counts(arguments: list[Any], **options: Any) -> Iterator[int]:
    """Return the numbers of the calls in the container's plan, for `Launch.inject`."""
    launched: list[tuple[Any, ...]] = []
    spawn = _core.spawn

    def record(spec: Any, command: Any, **keywords: Any) -> Any:
        launched.append((spec, command, keywords.get("enter")))
        return spawn(spec, command, **keywords)

    _core.spawn = record
    try:
        minidocker.run(arguments, check=True, **options)
    finally:
        _core.spawn = spawn
    (spec, command, enter) = launched[0]
    return iter(range(_core.call_count(spec, command, enter=enter)))
