"""The ids of users and groups, looked up in the container's own files."""

from __future__ import annotations

import grp
import os
import pwd

from minidocker._errors import OutOfRange, SpecError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NO_ID = 2**32 - 1
"""(uid_t) -1: the system calls take it as "do not change this id"."""

_DIGITS = 10
"""The digits of the largest id."""

_MOST = 16 << 20
"""The bytes of a container's passwd or group file that are read."""

_MOST_DIGITS = 100

_OWN_ID, _PRIMARY_GROUP = 2, 3
"""Columns of passwd(5) and group(5)."""

_Path = str | os.PathLike[str]


def resolve(
    user: int | str | None,
    group: int | str | None,
    *,
    entered: int | None,
    rootfs: _Path | None = None,
) -> tuple[int | None, int | None]:
    """Return the ids of user and group for `subprocess.Popen`.

    Args:
        user: an id, a name, or ``"user:group"``.
        group: an id or a name.
        entered: the pid of the container to enter; names are looked up in its files.
        rootfs: the container's future root; names are looked up there if ``entered`` is None.

    Raises:
        SpecError: both ``"user:group"`` and ``group`` are given, a name does not exist inside, or a
            number is too large.
    """
    if isinstance(user, str):
        name, colon, rest = user.partition(":")
        if colon:
            if group is not None:
                reason = f"the option group is also given, as {group!r}: name the group once"
                raise SpecError(reason, option="user", value=user)
            if not name or not rest:
                reason = "the user or the group is empty: give user:group, or the user alone"
                raise SpecError(reason, option="user", value=user)
            user, group = name, rest
        user = _number("user", user)
    if isinstance(group, str):
        group = _number("group", group)
    root = _root(entered, rootfs)
    if root is not None:
        user = _lookup("user", user, "passwd", root)
        group = _lookup("group", group, "group", root)
        return user, group
    return _id("user", user, _uid), _id("group", group, _gid)


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def ids(user: int | str | None, *, rootfs: _Path | None = None) -> tuple[int | None, int | None]:
    """Return the uid of a `Spec`'s user, and the gid of the group if ``user`` names one.

    Args:
        user: an id, a name, or ``"user:group"``.
        rootfs: the container's future root; names are looked up there.

    Raises:
        SpecError: a name does not exist inside, or the number is not an id.
    """
    uid, gid = resolve(user, None, entered=None, rootfs=rootfs)
    return single("user", uid), gid


def primary_group(
    user: str, *, entered: int | None = None, rootfs: _Path | None = None
) -> int | None:
    """Return the primary group of a user, or None.

    None if ``user`` names a group itself, or is an id without a row in the passwd file.

    Args:
        user: an id, a name, or ``"user:group"``.
        entered: the pid of the container to enter; the name is looked up in its files.
        rootfs: the container's future root; the name is looked up there if ``entered`` is None.

    Raises:
        SpecError: the name does not exist inside.
    """
    if ":" in user:
        return None
    root = _root(entered, rootfs)
    if _is_number(user):
        return _gid_of_uid(int(user), root)
    if root is not None:
        return _lookup("user", user, "passwd", root, column=_PRIMARY_GROUP)
    return _id("user", user, _gid_of_user)


def _gid_of_user(name: str) -> int:
    return pwd.getpwnam(name).pw_gid


def _gid_of_uid(uid: int, root: _Path | None) -> int | None:
    if root is None:
        try:
            return pwd.getpwuid(uid).pw_gid
        except (KeyError, OverflowError):
            return None
    for line in _read("passwd", root):
        fields = line.split(":")
        numbers = fields[_OWN_ID : _PRIMARY_GROUP + 1]
        if len(numbers) == 2 and all(map(_is_number, numbers)) and int(numbers[0]) == uid:
            return int(numbers[1])
    return None


def _id(option: str, name: int | str | None, find: Callable[[str], int]) -> int | None:
    if not isinstance(name, str):
        return name
    try:
        return find(name)
    except KeyError:
        what = "user" if option == "user" else "group"
        reason = f"there is no such {what} on this machine: give its id"
        raise SpecError(reason, option=option, value=name) from None


def _root(entered: int | None, rootfs: _Path | None) -> _Path | None:
    return f"/proc/{entered}/root" if entered is not None else rootfs


def named_groups(extra_groups: Any, *, entered: int | None, rootfs: _Path | None = None) -> Any:
    """Return ``extra_groups`` for `subprocess.Popen`, which looks up names in the caller's files.

    Args:
        extra_groups: the ids and names that the caller gave.
        entered: the pid of the container to enter; names are looked up in its files instead.
        rootfs: the container's future root; names are looked up there if ``entered`` is None.

    Raises:
        SpecError: a name does not exist inside.
    """
    root = _root(entered, rootfs)
    if extra_groups is None or isinstance(extra_groups, str):
        return extra_groups
    if root is None:
        return [_id("extra_groups", group, _gid) for group in extra_groups]
    return [_lookup("extra_groups", group, "group", root) for group in extra_groups]


def single(option: str, number: int | None) -> int | None:
    """Return a number unchanged if it is an id, or None.

    Raises:
        OutOfRange: it is larger than any id.
        SpecError: it is negative, or (uid_t) -1.
    """
    if number is None or 0 <= number < _NO_ID:
        return number
    if number > _NO_ID:
        reason = f"it is not an id: give a number up to {_NO_ID - 1}"
        raise OutOfRange(reason, option=option, value=number)
    what = "(uid_t) -1" if number == _NO_ID else "negative"
    reason = f"it is {what}, which is not an id: give a number from 0 to {_NO_ID - 1}"
    raise SpecError(reason, option=option, value=number)


def groups(gids: list[int] | None) -> list[int] | None:
    """Return supplementary groups unchanged if all of them are valid ids.

    Raises:
        SpecError: one of them is not a valid id.
    """
    for gid in gids or ():
        if not 0 <= gid < _NO_ID:
            reason = f"{gid} is not a group id: give numbers from 0 to {_NO_ID - 1}"
            raise SpecError(reason, option="extra_groups", value=gids)
    return gids


def _is_number(text: str) -> bool:
    # int() refuses thousands of digits, which a container may have written to its files.
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _number(option: str, name: str) -> int | str:
    if not (name.isascii() and name.isdigit()):
        return name
    # int() refuses thousands of digits.
    if len(name.lstrip("0")) > _DIGITS or int(name) > _NO_ID:
        reason = f"it is not an id: give a number up to {_NO_ID - 1}"
        raise SpecError(reason, option=option, value=name)
    return int(name)


def _lookup(
    option: str, name: int | str | None, file: str, root: _Path, column: int = _OWN_ID
) -> int | None:
    if name is None or isinstance(name, int):
        return name
    for line in _read(file, root):
        fields = line.split(":")
        if len(fields) > column and fields[0] == name and _is_number(fields[column]):
            return int(fields[column])
    reason = f"there is no such name in the container's /etc/{file}: give its id"
    raise SpecError(reason, option=option, value=name)


def _read(file: str, path: _Path) -> list[str]:
    """Return the lines of a file in a container's /etc, without following symbolic links."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        root = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            etc = os.open("etc", flags | os.O_DIRECTORY, dir_fd=root)
            try:
                # O_NONBLOCK: a container may have put a FIFO there.
                flags |= os.O_NONBLOCK
                with open(os.open(file, flags, dir_fd=etc), "rb", buffering=0) as content:
                    return os.fsdecode(content.read(_MOST) or b"").split("\n")
            finally:
                os.close(etc)
        finally:
            os.close(root)
    except OSError:
        # Without a file that the caller may read, the container has no names.
        return []
