"""The errors of the package in the words of the command line.

An error names options as keywords of Python. Here they become flags: ``hostname='': …`` becomes
``--hostname '': …``, and ``NamespaceOptions.with_uts()`` becomes ``add uts to --namespaces``.
"""

from __future__ import annotations

import copy
import re
import shlex

from minidocker._errors import SpawnError, SpecError
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import FIELDS
from minidocker._spelling import VERBATIM, Remedy, spell
from minidocker.cli.flags import SHARING, flag

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker._warnings import SpecWarning

_NEVER_SHARED = ("mount", "time")

_IDENTIFIER = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def message(error: BaseException) -> str:
    """Return the message of an error in the words of the command line."""
    if isinstance(error, SpecError):
        return _spec_message(error)
    if isinstance(error, SpawnError):
        respelled = copy.copy(error)
        respelled.reason = _respelled(error.reason)
        respelled.hint = _respelled(error.hint)
        return str(respelled)
    return str(error) or type(error).__name__


def warning(given: SpecWarning) -> str:
    """Return a warning in the words of the command line."""
    return f"{_respelled(given.reason)}. Remedy: {_respelled(given.hint)}"


def _spec_message(error: SpecError) -> str:
    reason, remedy = error.parts
    text = _IDENTIFIER.sub(_as_flag, reason)
    if remedy is not None:
        text += f". {_respelled(remedy)}"
    if error.option is None:
        return text
    value = error.value
    # Lists and mappings come from several options, and the reason names the wrong part.
    shown = f" {error.shown}" if isinstance(value, str) or type(value) is int else ""
    directory = error.option == "overlay" and isinstance(value, str)
    name = "--overlay-dir" if directory else flag(error.option)
    return f"{name}{shown}: {text}"


def _respelled(remedy: str | None) -> str | None:
    if isinstance(remedy, Remedy):
        if remedy.parts[1] in VERBATIM:
            return spell(*remedy.parts, _setting)
        return _IDENTIFIER.sub(_as_flag, spell(*remedy.parts, _setting))
    return remedy


def _setting(setting: str, neutral: str, name: str | None) -> str:
    """Return a setting of the engine in the words of the command line."""
    share = f"--{SHARING.get(name or '', name)} host"
    match setting:
        case "new-namespace" if name in _NEVER_SHARED:
            return f"{neutral}: add {name} to --namespaces"
        case "new-namespace":
            return f"{neutral}: leave {share} out, or add {name} to --namespaces"
        case "shared-namespace":
            return f"{neutral}: {share}"
        case "host-network":
            return "give --network host"
        case "no-filter":
            return "give --security-opt seccomp=unconfined"
        case "subordinate-ids":
            return "give --uidmap auto and --gidmap auto"
        case "every-id":
            return "give --uidmap 0:0:4294967295 and --gidmap 0:0:4294967295"
        case "option":
            return flag(name or "")
        case "profile":
            return f"--profile {name}"
        case "read-only-mount":
            path = name or ""
            if {":", ","} & set(path):
                return f"mount {path!r} from Python: -v cannot name it"
            return "-v " + shlex.quote(f"{path}:{path}:ro")
    return neutral


def _as_flag(found: re.Match[str]) -> str:
    word = found[0]
    return flag(word) if word in FIELDS or word in SUBPROCESS_KEYWORDS else word
