"""Values of the options for files and confinement: from docker's notation to minidocker's.

As in :mod:`minidocker.cli.values`, a :exc:`ValueError` names what is wrong with the text.
"""

from __future__ import annotations

import os

from minidocker._words import nearest

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

    from minidocker._spec.mounts import Mount
    from minidocker.cli.parser import Parsed

CAPABILITIES = (
    "ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF",
    "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID",
    "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE",
    "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE",
    "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "WAKE_ALARM",
)  # fmt: skip
"""The names in capabilities(7), for completion; the core checks against the running kernel."""

ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
    "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
"""The names in getrlimit(2), for completion."""

MOUNT_KEYS = ("type", "source", "target", "upper", "options", "tmpfs-size", "tmpfs-mode")
"""The keys of ``--mount`` that take a value, for completion."""

# From a key of --mount, with docker's synonyms, to a keyword of `minidocker.Mount`.
_KEYS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "destination": "target",
    "dst": "target",
    "readonly": "read_only",
    "ro": "read_only",
    "upper": "upper",
    "options": "options",
    "tmpfs-size": "size",
    "tmpfs-mode": "mode",
}
_SWITCHES = {"": True, "true": True, "1": True, "false": False, "0": False}


def volume(text: str) -> Mount:
    """Read ``SOURCE:TARGET[:OPTION[,OPTION ...]]``."""
    words = text.split(":")
    if len(words) not in (2, 3) or not all(words[:2]):
        raise ValueError("expected SOURCE:TARGET, or SOURCE:TARGET:ro")
    source, target = words[:2]
    if "/" not in source and source not in (".", ".."):
        raise ValueError(f"minidocker has no named volumes; for a directory here, write ./{source}")
    options = [word for word in words[2].split(",") if word] if len(words) == 3 else []
    rest = [word for word in options if word not in ("ro", "rw")]
    return _mount(
        target=target,
        source=os.path.abspath(source),
        read_only="ro" in options,
        options=",".join(rest),
    )


def mount(text: str) -> Mount:
    """Read ``type=TYPE,source=PATH,target=PATH[,readonly]``: fields separated by commas, as CSV."""
    import csv

    chosen: dict[str, Any] = {}
    for field in next(csv.reader([text], strict=True), []):
        key, equals, value = field.partition("=")
        name = _KEYS.get(key.lower())
        if name is None:
            near = nearest(key, _KEYS)
            hint = f"did you mean {near}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise ValueError(f"unknown key {key!r}; {hint}")
        if name == "read_only":
            if value.lower() not in _SWITCHES:
                raise ValueError(f"{key} is a flag; give it alone, not with the value {value!r}")
            chosen[name] = _SWITCHES[value.lower()]
        elif not equals or not value:
            raise ValueError(f"{key} needs a value, as in {key}=…")
        elif name == "mode":
            chosen[name] = _octal(value)
        elif name in chosen and name != "source":
            raise ValueError(f"{key} is given twice")
        elif name == "source":
            # An overlay takes several lower directories, the uppermost first.
            chosen.setdefault(name, []).append(os.path.abspath(value))
        else:
            chosen[name] = os.path.abspath(value) if name == "upper" else value
    if "target" not in chosen:
        raise ValueError("target is missing, as in type=bind,source=/srv/data,target=/data")
    if chosen.get("type") == "volume":
        raise ValueError("minidocker has no volumes; give type=bind with a directory as the source")
    sources = chosen.pop("source", [])
    if len(sources) > 1 and chosen.get("type") != "overlay":
        raise ValueError("source is given twice")
    if not sources and chosen.get("type", "bind") == "bind":
        raise ValueError("source is missing, as in type=bind,source=/srv/data,target=/data")
    if sources:
        chosen["source"] = sources if len(sources) > 1 else sources[0]
    return _mount(**chosen)


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f"tmpfs-mode={text} is not an octal number such as 1777") from None


def _mount(**chosen: Any) -> Mount:
    from minidocker._errors import SpecError
    from minidocker._spec.mounts import Mount

    try:
        return Mount(**chosen)
    except SpecError as error:
        raise ValueError(error.args[0]) from error


def tmpfs(text: str) -> tuple[str, str]:
    """Read ``TARGET[:OPTION[,OPTION ...]]``."""
    target, _, options = text.partition(":")
    if not target:
        raise ValueError("expected TARGET, or TARGET:size=64m")
    return target, options


def store_overlay(parsed: Parsed, directory: Any) -> None:
    """Store the directory that keeps the writes; it overrides --overlay."""
    parsed.keywords["overlay"] = os.path.abspath(directory)


def store_overlay_flag(parsed: Parsed, value: Any) -> None:
    """Store whether the root is an overlay, unless --overlay-dir was given before."""
    if not isinstance(parsed.keywords.get("overlay"), str):
        parsed.keywords["overlay"] = value


def security_option(text: str) -> tuple[str, Any]:
    """Read ``seccomp=FILE``, ``seccomp=unconfined`` or ``no-new-privileges[=BOOLEAN]``."""
    name, sign, value = text, "", ""
    # Docker also accepts its older form with a colon.
    if "=" in text or ":" in text:
        sign = min((sign for sign in "=:" if sign in text), key=text.index)
        name, _, value = text.partition(sign)
    if name == "no-new-privileges":
        if value.lower() not in _SWITCHES or (sign and not value):
            raise ValueError("expected no-new-privileges, or no-new-privileges=false")
        return "no_new_privileges", _SWITCHES[value.lower()]
    if name == "seccomp":
        if not value:
            raise ValueError(
                "expected seccomp=FILE with a filter in docker's JSON format, or unconfined"
            )
        return "seccomp", value if value == "unconfined" else os.path.abspath(value)
    if name in ("apparmor", "label", "systempaths"):
        raise ValueError(f"minidocker does not support {name}; leave it out")
    raise ValueError("expected seccomp=FILE, seccomp=unconfined or no-new-privileges")


def store_security_option(parsed: Parsed, value: Any) -> None:
    """Store the value of one ``--security-opt`` as a keyword."""
    name, content = value
    parsed.keywords[name] = content


def ulimit(text: str) -> tuple[str, tuple[int, int]]:
    """Read ``NAME=SOFT[:HARD]``; -1 or ``unlimited`` is no limit."""
    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    if not (name and equals and soft) or (colon and not hard):
        raise ValueError("expected NAME=SOFT or NAME=SOFT:HARD")
    lowest = _limit(soft)
    return name, (lowest, _limit(hard) if colon else lowest)


def _limit(text: str) -> int:
    if text == "unlimited":
        return -1
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number, -1 or unlimited") from None
