"""What confines a container: the system call filter, and how docker's options are written."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn

from minidocker._errors import SpecError
from minidocker._spec.names import PROFILES

if sys.platform == "linux":
    from minidocker import _core

__all__ = ["Seccomp"]

Limit = int | tuple[int, int]
Ulimits = Mapping[str, Limit] | Sequence[Mapping[str, Any]]
SeccompDocument = Mapping[str, Any] | str | os.PathLike[str]

_BARE: dict[str, object] = {
    "profile": "namespaces",
    "cap_add": (),
    "cap_drop": (),
    "no_new_privileges": None,
    "seccomp": None,
    "ulimits": (),
}
OPTIONS = tuple(_BARE)
"""The fields of `Spec` that belong to a process, whichever container it enters."""

_BASES = ("profile", "allow", "deny")
_ON_DENIED = ("errno", "kill", "log")
_LIMIT_KEYS = {"name": "name", "soft": "soft", "hard": "hard"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seccomp:
    """A system call filter, seccomp(2), by lists.

    ::

        Seccomp(deny=["ptrace"])                       # the profile's filter, and no ptrace(2)
        Seccomp(base="deny", allow=["read", "write"])  # nothing else
        Seccomp(on_denied="kill")                      # the profile's filter, which then kills

    Args:
        allow: names of system calls that are allowed, whatever ``base`` says of them.
        deny: names of system calls that are denied, whatever ``base`` says of them.
        base: what holds for every other call: ``"profile"``: what the container's profile says
            (``"namespaces"`` allows all); ``"allow"``; ``"deny"``; or a filter in docker's JSON
            format, as a mapping or as the path of a file.
        on_denied: what a denied call gets: ``"errno"``: it fails, with EPERM unless the filter says
            otherwise; ``"kill"``: SIGSYS ends the process; ``"log"``: it fails, and the kernel
            writes it to its audit log.

    Raises:
        SpecError: a value of the wrong kind. Names are looked up when a container is made of it.
    """

    allow: Sequence[str] = ()
    deny: Sequence[str] = ()
    base: Literal["profile", "allow", "deny"] | SeccompDocument = "profile"
    on_denied: Literal["errno", "kill", "log"] = "errno"

    def __post_init__(self) -> None:
        for option in ("allow", "deny"):
            check_names("seccomp", getattr(self, option))
        base: object = self.base
        if not isinstance(base, str | Mapping | os.PathLike):
            _wrong("seccomp", base, "base is 'profile', 'allow', 'deny' or docker's format")
        if self.on_denied not in _ON_DENIED:
            reason = f"on_denied is {self.on_denied!r}: give 'errno', 'kill' or 'log'"
            raise SpecError(reason, option="seccomp", value=self)


def check(given: Mapping[str, Any]) -> None:
    """Refuse values of the wrong kind.

    Args:
        given: a value for each of `OPTIONS`.

    Raises:
        SpecError: for the first of them.
    """
    # On the path of every run.
    if given == _BARE:
        return
    if not isinstance(given["profile"], str):
        _wrong("profile", given["profile"], f"give one of {', '.join(map(repr, PROFILES))}")
    for option in ("cap_add", "cap_drop"):
        check_names(option, given[option])
    if not isinstance(given["no_new_privileges"], bool | None):
        _wrong("no_new_privileges", given["no_new_privileges"], "give True or False")
    if not isinstance(given["seccomp"], Seccomp | Mapping | str | os.PathLike | None):
        advice = "give a Seccomp, a mapping or file in docker's format, or 'unconfined'"
        _wrong("seccomp", given["seccomp"], advice)
    _limits(given["ulimits"])


def core(given: Mapping[str, Any]) -> _core.Confine | None:
    """Return the same for the engine; None where there is nothing but namespaces.

    Args:
        given: a value for each of `OPTIONS`.

    Raises:
        SpecError: a name that does not exist, a malformed filter.
    """
    if given == _BARE:
        return None
    try:
        return _core.Confine(
            profile=given["profile"],
            cap_add=list(given["cap_add"]),
            cap_drop=list(given["cap_drop"]),
            no_new_privileges=given["no_new_privileges"],
            seccomp=_filter(given["seccomp"]),
            ulimits=_limits(given["ulimits"]),
        )
    except SpecError:
        # The engine does not know of the file that a filter came from.
        _check_file(given["seccomp"])
        raise


def check_names(option: str, names: object) -> None:
    """Refuse what is not a sequence of names."""
    if isinstance(names, str | bytes) or not isinstance(names, Sequence | frozenset | set):
        _wrong(option, names, "give a list of names")
    for name in names:
        if not isinstance(name, str):
            raise SpecError(f"{name!r} is no name: give a str", option=option, value=names)


_Filter = tuple[str, str | None, list[str], list[str], str]


def _filter(seccomp: Seccomp | SeccompDocument | None) -> _Filter | None:
    if seccomp is None:
        return None
    if isinstance(seccomp, Seccomp):
        base, document = seccomp.base, None
        if base not in _BASES:
            base, document = "document", _document(base)
        return str(base), document, list(seccomp.allow), list(seccomp.deny), seccomp.on_denied
    if seccomp == "unconfined":
        return "unconfined", None, [], [], "errno"
    return "document", _document(seccomp), [], [], "errno"


def _document(source: SeccompDocument) -> str:
    """The text of a filter in docker's format."""
    if isinstance(source, Mapping):
        try:
            return json.dumps(source)
        except (TypeError, ValueError) as error:
            reason = f"it cannot be written as JSON: {error}"
            raise SpecError(reason, option="seccomp", value=source) from None
    try:
        with open(source, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise _no_document(source, error) from None


def _check_file(seccomp: Seccomp | SeccompDocument | None) -> None:
    """Say of a file that is no JSON that it is the file, once the engine has refused a filter."""
    source = seccomp.base if isinstance(seccomp, Seccomp) else seccomp
    if not isinstance(source, str | os.PathLike) or source in (*_BASES, "unconfined"):
        return
    try:
        json.loads(_document(source))
    except json.JSONDecodeError as error:
        raise _no_document(source, error) from None


def _no_document(source: object, error: Exception) -> SpecError:
    words = "'unconfined' or the path of a file in docker's JSON format"
    reason = f"{error}: give {words}, or a Seccomp with lists"
    return SpecError(reason, option="seccomp", value=source)


_Row = tuple[str, int | None, int | None]


def _limits(ulimits: object) -> list[_Row]:
    """The limits as rows: name, soft, hard."""
    if isinstance(ulimits, Mapping):
        rows = [_row(ulimits, name, limit) for name, limit in ulimits.items()]
    elif isinstance(ulimits, Iterable) and not isinstance(ulimits, str | bytes):
        rows = [_docker_row(ulimits, limit) for limit in ulimits]
    else:
        advice = 'give {"nofile": 1024} or [{"name": "nofile", "soft": 1024, "hard": 2048}]'
        return _wrong("ulimits", ulimits, advice)
    seen = set()
    for name, _, _ in rows:
        if name in seen:
            raise SpecError(f"{name!r} is there twice: give it once", option="ulimits")
        seen.add(name)
    return rows


def _row(whole: object, name: object, limit: object) -> _Row:
    values = list(limit) if isinstance(limit, tuple | list) and len(limit) == 2 else [limit, None]
    return _checked(whole, name, *values)


def _docker_row(whole: object, limit: object) -> _Row:
    """A row of docker-py: ``{"name": …, "soft": …, "hard": …}``; its own class has capitals."""
    if not isinstance(limit, Mapping):
        advice = '{"name": "nofile", "soft": 1024, "hard": 2048}'
        raise SpecError(f"{limit!r} is no limit: give {advice}", option="ulimits", value=whole)
    values: dict[str, Any] = {}
    for key, value in limit.items():
        known = _LIMIT_KEYS.get(key.lower() if isinstance(key, str) else key)
        if known is None:
            reason = f"{key!r} is no key of a limit: the keys are name, soft and hard"
            raise SpecError(reason, option="ulimits", value=whole)
        values[known] = value
    return _checked(whole, values.get("name"), values.get("soft"), values.get("hard"))


def _checked(whole: object, name: object, soft: object, hard: object) -> _Row:
    if not isinstance(name, str):
        reason = f"{name!r} is no name: give one such as 'nofile'"
        raise SpecError(reason, option="ulimits", value=whole)
    for value in (soft, hard):
        if value is None:
            continue
        if type(value) is not int or not -(2**63) <= value < 2**63:
            reason = f"{value!r} is no limit: give an int, -1 for none"
            raise SpecError(reason, option="ulimits", value=whole)
    return name, soft, hard  # type: ignore[return-value]


def _wrong(option: str, value: object, advice: str) -> NoReturn:
    raise SpecError(f"it is a {type(value).__name__}: {advice}", option=option, value=value)
