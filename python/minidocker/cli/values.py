"""Values of options: from the text of the command line to arguments of :class:`minidocker.Popen`.

The message of a :exc:`ValueError` names what is wrong with the text and completes
``invalid value 'text' for --option:``.
"""

from __future__ import annotations

import os

from minidocker._run import timeouts
from minidocker._spec.names import KINDS
from minidocker._words import nearest

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minidocker.cli.parser import Parsed


def process_id(text: str) -> int:
    """Read a process id."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(
            "expected the process id of a process in the container (see minidocker ps)"
        )
    return int(text)


def seconds(text: str) -> float | None:
    """Read a positive number of seconds; None for one that is longer than any wait."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError("expected a positive number of seconds")
    return timeouts.seconds(value)


def user(text: str) -> str:
    """Check ``uid``, ``name``, ``user:group``."""
    if not text:
        raise ValueError("expected NAME, UID or USER:GROUP")
    return text


def host(text: str) -> str:
    """Accept only ``host``: a namespace is either new or the caller's."""
    if text != "host":
        raise ValueError("expected host (without the option the namespace is new)")
    return text


def host_or_private(text: str) -> str:
    """Accept ``host`` and docker's name of the default."""
    if text not in ("host", "private"):
        raise ValueError("expected host, or private (the default: the namespace is new)")
    return text


def store_sharing(kind: str) -> Callable[[Parsed, Any], None]:
    """Store whether a kind of namespace is the caller's; the last value counts."""

    def store(parsed: Parsed, value: Any) -> None:
        parsed.settings.pop(f"share_{kind}", None)
        if value == "host":
            parsed.settings[f"share_{kind}"] = value

    return store


def network(text: str) -> str:
    """Check ``none``, ``host`` or ``container:PID``."""
    kind, colon, pid = text.partition(":")
    if kind == "container" and colon:
        process_id(pid)
    elif text not in ("none", "host"):
        raise ValueError("expected none, host or container:PID")
    return text


def namespaces(text: str) -> tuple[tuple[str, ...], bool]:
    """Read a list of kinds. Return the kinds, and whether each of them was named."""
    if text == "all":
        return KINDS[:-1], False
    if text == "none":
        return (), False
    kinds: list[str] = []
    for word in text.split(","):
        if word == "all":
            kinds += [kind for kind in KINDS[:-1] if kind not in kinds]
        elif word not in KINDS:
            near = nearest(word, KINDS)
            hint = f"did you mean {near}?" if near else f"the kinds are {', '.join(KINDS)}"
            raise ValueError(f"unknown namespace {word!r}; {hint}")
        elif word not in kinds:
            kinds.append(word)
    return tuple(kinds), "all" not in text.split(",")


def id_row(text: str) -> str | tuple[int, int, int]:
    """Read ``INSIDE:OUTSIDE:COUNT`` or ``auto``."""
    if text == "auto":
        return text
    words = text.split(":")
    if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError("expected INSIDE:OUTSIDE:COUNT, three numbers, or auto")
    inside, outside, count = (int(word) for word in words)
    return inside, outside, count


def id_rows(name: str) -> Callable[[Parsed, Any], None]:
    """Collect id map rows as a keyword; ``auto`` excludes rows."""

    def store(parsed: Parsed, value: Any) -> None:
        rows = parsed.keywords.get(name)
        if rows is not None and (value == "auto" or rows == "auto"):
            raise ValueError("auto stands for the whole map and cannot be combined with rows")
        parsed.keywords[name] = value if value == "auto" else [*(rows or ()), value]

    return store


def time_offset(text: str) -> tuple[str, int | float]:
    """Read ``CLOCK=SECONDS``."""
    clock, _, amount = text.partition("=")
    if clock not in ("monotonic", "boottime"):
        raise ValueError("expected monotonic=SECONDS or boottime=SECONDS")
    try:
        return clock, int(amount)
    except ValueError:
        pass
    try:
        offset = float(amount)
    except ValueError:
        offset = float("nan")
    if not abs(offset) < float("inf"):
        raise ValueError(f"{amount!r} is not a number of seconds")
    return clock, offset


def variable(text: str) -> tuple[str, str | None]:
    """Read ``NAME=VALUE``, or ``NAME`` for the caller's value (None where the caller has none)."""
    name, equals, value = text.partition("=")
    if not name:
        raise ValueError("expected NAME=VALUE, or NAME for the caller's value")
    return name, value if equals else os.environ.get(name)


def environment_file(path: str) -> list[tuple[str, str | None]]:
    """Read a file in docker's format.

    Each line is ``NAME=VALUE`` or ``NAME``, with the value taken literally. Empty lines and lines
    that begin with ``#`` are skipped.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    variables = []
    for number, text in enumerate(lines, 1):
        line = text.lstrip().removesuffix("\r")
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name or name != name.strip() or " " in name or "\0" in line:
            raise ValueError(f"line {number}: {line!r} is neither NAME=VALUE nor NAME")
        variables.append(variable(line))
    return variables
