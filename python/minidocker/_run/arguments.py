"""What `subprocess.Popen` is given, as the engine takes it, with subprocess's exceptions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from minidocker._errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LARGEST = 2**31 - 1
_STREAMS = ("stdin", "stdout", "stderr")


def words(args: Any, executable: Any, *, shell: bool) -> tuple[list[Any], Any]:
    """The arguments and the program, as `subprocess` works them out."""
    if type(args) is list or type(args) is tuple:
        # What nearly everybody gives: what follows is slow where it has to say no.
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
            "there is no command: give at least a program's name", option="args", value=args
        )
    if shell:
        args = ["/bin/sh", "-c", *args]
        if executable:
            args[0] = executable
    return args, args[0] if executable is None else executable


def candidates(executable: Any, env: Mapping[Any, Any] | None) -> list[bytes]:
    """The files that the program may be, in the order of ``PATH``."""
    name = os.fsencode(executable)
    if b"/" in name:
        return [name]
    # os.get_exec_path() takes what os.environ is: a mapping of str, or of bytes.
    path = os.get_exec_path(env)
    return [os.path.join(os.fsencode(directory), name) for directory in path]


def environment(env: Mapping[Any, Any]) -> list[bytes]:
    lines = []
    for name, value in env.items():
        key = os.fsencode(name)
        if b"=" in key:
            raise ValueError("illegal environment variable name")
        lines.append(key + b"=" + os.fsencode(value))
    return lines


def stdio(*streams: int) -> tuple[int, int, int]:
    """Return the descriptors of standard input, output and error; -1 for those of the caller.

    Raises:
        SpecError: one is a negative number that means nothing.
    """
    # -1 was PIPE, which is a descriptor by now, or stands for None.
    if min(streams) < -1:
        option, fd = next(pair for pair in zip(_STREAMS, streams, strict=True) if pair[1] < -1)
        reason = "it is no open descriptor: give a file, a descriptor, PIPE or DEVNULL"
        raise SpecError(reason, option=option, value=fd)
    stdin, stdout, stderr = streams
    return stdin, stdout, stderr


def descriptors(pass_fds: Iterable[Any]) -> list[int]:
    """Return the descriptors that the command keeps.

    Raises:
        SpecError: one of them cannot be a descriptor.
    """
    numbers = sorted(map(int, pass_fds))
    for fd in numbers:
        if not 0 <= fd <= _LARGEST:
            reason = f"{fd} is no descriptor: give numbers of open files"
            raise SpecError(reason, option="pass_fds", value=numbers)
    return numbers
