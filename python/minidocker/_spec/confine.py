"""The confinement options: the system call filter, and docker's notation of the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from minidocker._errors import SpecError
from minidocker._record import record
from minidocker._spec.names import PROFILES

if sys.platform == "linux":
    from minidocker import _core

__all__ = ["Seccomp"]

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn

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
"""The fields of `Spec` that belong to a process and not to the container that it enters."""

_BASES = ("profile", "allow", "deny")
_ON_DENIED = ("errno", "kill", "log")
_LIMIT_KEYS = {"name": "name", "soft": "soft", "hard": "hard"}


@record(frozen=True, kw_only=True)
class Seccomp:
    """A system call filter (seccomp(2)), given as lists of names.

    ::

        Seccomp(deny=["ptrace"])                       # the profile's filter, without ptrace(2)
        Seccomp(base="deny", allow=["read", "write"])  # these two calls only
        Seccomp(on_denied="kill")                      # the profile's filter; a denied call kills

    Args:
        allow: names of system calls to allow, with any arguments and regardless of ``base``.
        deny: names of system calls to deny, regardless of ``base``.
        base: the rule for every other call: ``"profile"`` for the rule of the container's profile
            (``"namespaces"`` allows all); ``"allow"``; ``"deny"``; or a filter in docker's JSON
            format, as a mapping or as the path of a file.
        on_denied: the effect of a denied call: ``"errno"``: it fails, with EPERM unless the filter
            names another errno; ``"kill"``: SIGSYS ends the process; ``"log"``: it fails, and the
            kernel records it in the audit log.

    Raises:
        SpecError: a value has the wrong type. Names are checked when a container uses the filter.
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
            advice = "give 'profile', 'allow', 'deny' or a filter in docker's format as base"
            _wrong("seccomp", base, advice)
        if self.on_denied not in _ON_DENIED:
            reason = f"on_denied is {self.on_denied!r}: give 'errno', 'kill' or 'log'"
            raise SpecError(reason, option="seccomp", value=self)


def check(given: Mapping[str, Any]) -> None:
    """Refuse values of the wrong type.

    Args:
        given: a value for each of `OPTIONS`.

    Raises:
        SpecError: a value has the wrong type; for the first such value.
    """
    # Every run comes here, so the defaults take a short way.
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
    """Return the options for the engine, or None if all of them have their defaults.

    Args:
        given: a value for each of `OPTIONS`.

    Raises:
        SpecError: a name does not exist, or a filter is malformed.
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
        # The engine gets the text of a filter, so it cannot name the file.
        _check_file(given["seccomp"])
        raise


def ulimit(ulimits: Ulimits, name: str) -> tuple[int, int] | None:
    """Return the soft and the hard limit of this name, -1 for no limit; None if it is not given."""
    for found, soft, hard in _limits(ulimits):
        if found == name and (soft if soft is not None else hard) is not None:
            low = hard if soft is None else soft
            return low, (low if hard is None else hard)  # type: ignore[return-value]
    return None


def check_names(option: str, names: object) -> None:
    """Refuse anything but a list or a set of names."""
    if isinstance(names, str | bytes) or not isinstance(names, Sequence | frozenset | set):
        _wrong(option, names, "give a list of names")
    for name in names:
        if not isinstance(name, str):
            raise SpecError(f"{name!r} is not a name: give a str", option=option, value=names)


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
    """Return the text of a filter in docker's format."""
    if isinstance(source, Mapping):
        import json  # noqa: PLC0415 - most containers have no filter in JSON

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
    """Raise an error that names the file if the refused filter came from a file without JSON."""
    source = seccomp.base if isinstance(seccomp, Seccomp) else seccomp
    if not isinstance(source, str | os.PathLike) or source in (*_BASES, "unconfined"):
        return
    import json  # noqa: PLC0415 - as above

    try:
        json.loads(_document(source))
    except json.JSONDecodeError as error:
        raise _no_document(source, error) from None


def _no_document(source: object, error: Exception) -> SpecError:
    words = "'unconfined' or the path of a file in docker's JSON format"
    # The words of an OSError alone: its text has the path again.
    why = (isinstance(error, OSError) and error.strerror) or error
    reason = f"{why}: give {words}"
    return SpecError(reason, option="seccomp", value=source)


_Row = tuple[str, int | None, int | None]


def _limits(ulimits: object) -> list[_Row]:
    """Return the limits as rows of name, soft, hard."""
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
            raise SpecError(f"{name!r} is given twice: give it once", option="ulimits")
        seen.add(name)
    return rows


def _row(whole: object, name: object, limit: object) -> _Row:
    values = list(limit) if isinstance(limit, tuple | list) and len(limit) == 2 else [limit, None]
    return _checked(whole, name, *values)


def _docker_row(whole: object, limit: object) -> _Row:
    """Check a row of docker-py: ``{"name": …, "soft": …, "hard": …}``.

    docker-py's class ``Ulimit`` is a mapping whose keys begin with capitals.
    """
    if not isinstance(limit, Mapping):
        advice = '{"name": "nofile", "soft": 1024, "hard": 2048}'
        raise SpecError(f"{limit!r} is not a limit: give {advice}", option="ulimits", value=whole)
    values: dict[str, Any] = {}
    for key, value in limit.items():
        known = _LIMIT_KEYS.get(key.lower() if isinstance(key, str) else key)
        if known is None:
            reason = f"{key!r} is not a key of a limit: the keys are name, soft and hard"
            raise SpecError(reason, option="ulimits", value=whole)
        values[known] = value
    return _checked(whole, values.get("name"), values.get("soft"), values.get("hard"))


def _checked(whole: object, name: object, soft: object, hard: object) -> _Row:
    if not isinstance(name, str):
        reason = f"{name!r} is not a name: give one such as 'nofile'"
        raise SpecError(reason, option="ulimits", value=whole)
    for value in (soft, hard):
        if value is None:
            continue
        if type(value) is not int or not -(2**63) <= value < 2**63:
            reason = f"{value!r} is not a limit: give an int, or -1 for no limit"
            raise SpecError(reason, option="ulimits", value=whole)
    return name, soft, hard  # type: ignore[return-value]


def _wrong(option: str, value: object, advice: str) -> NoReturn:
    raise SpecError(f"it is of type {type(value).__name__}: {advice}", option=option, value=value)
