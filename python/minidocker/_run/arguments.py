"""Converters from the arguments of `subprocess.Popen` to the engine's, with its exceptions."""

from __future__ import annotations

import os

from minidocker._errors import OutOfRange, SpecError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_LARGEST = 2**31 - 1
_STREAMS = ("stdin", "stdout", "stderr")


def words(args: Any, executable: Any, *, shell: bool) -> tuple[list[Any], Any]:
    """Return the arguments and the program, by the rules of `subprocess`."""
    if type(args) is list or type(args) is tuple:
        # The usual case comes first, because isinstance() with an abstract class is slow.
        args = list(args)
    elif isinstance(args, str | bytes):
        args = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    else:
        args = list(args)
    if not args:
        raise SpecError(
            "the command is empty: give at least a program's name", option="args", value=args
        )
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    return args, args[0] if executable is None else executable


def hint_for_string(args: Any) -> str | None:
    """Return the remedy for a command line that was given as the name of a program.

    Args:
        args: the command, as the caller gave it.
    """
    if not isinstance(args, str | bytes) or not os.fsdecode(args).split()[1:]:
        return None
    import shlex  # noqa: PLC0415 - slow to import, and rarely needed

    try:
        words = shlex.split(os.fsdecode(args))
    except ValueError:
        # A quotation mark is not closed.
        words = os.fsdecode(args).split()
    return f"a string is the name of a program: give the list {words!r}, or shell=True"


def candidates(executable: Any, env: Mapping[Any, Any] | None) -> list[bytes]:
    """Return the paths at which to look for the program, in the order of ``PATH``."""
    if env is not None and not (hasattr(env, "get") and hasattr(env, "items")):
        reason = f"it is of type {type(env).__name__}: give a mapping from names to values"
        raise SpecError(reason, option="env", value=env)
    name = os.fsencode(executable)
    if b"/" in name:
        return [name]
    # os.get_exec_path() accepts a mapping of str or of bytes.
    path = os.get_exec_path(env)
    return [os.path.join(os.fsencode(directory), name) for directory in path]


def environment(env: Mapping[Any, Any]) -> list[bytes]:
    lines = []
    for name, value in env.items():
        key = os.fsencode(name)
        if b"=" in key:
            reason = "illegal environment variable name: it contains =, so leave that out"
            raise SpecError(reason, option="env", value=name)
        lines.append(key + b"=" + os.fsencode(value))
    return lines


def stdio(*streams: int) -> tuple[int, int, int]:
    """Return the descriptors of standard input, output and error; -1 means the caller's own.

    Raises:
        SpecError: a descriptor is less than -1.
        OutOfRange: a descriptor is larger than any.
    """
    # subprocess has replaced PIPE (-1) by a descriptor; a -1 here stands for None.
    if min(streams) < -1:
        option, fd = next(pair for pair in zip(_STREAMS, streams, strict=True) if pair[1] < -1)
        reason = "it is not a descriptor: give a file, a descriptor, PIPE or DEVNULL"
        raise SpecError(reason, option=option, value=fd)
    if max(streams) > _LARGEST:
        for option, fd in zip(_STREAMS, streams, strict=True):
            number(option, fd)
    stdin, stdout, stderr = streams
    return stdin, stdout, stderr


def number(option: str, value: int) -> int | None:
    """Return a number that the kernel takes as an int; None if it is negative.

    Raises:
        OutOfRange: it is too large.
    """
    if value > _LARGEST:
        reason = f"the number is too large: give one up to {_LARGEST}"
        raise OutOfRange(reason, option=option, value=value)
    return value if value >= 0 else None


def descriptors(pass_fds: Iterable[Any]) -> list[int]:
    """Return the descriptors that the command inherits, sorted.

    Raises:
        SpecError: a number cannot be a descriptor.
    """
    numbers = sorted(map(int, pass_fds))
    for fd in numbers:
        if not 0 <= fd <= _LARGEST:
            reason = f"{fd} is not a descriptor: give the numbers of open files"
            raise SpecError(reason, option="pass_fds", value=numbers)
    return numbers
