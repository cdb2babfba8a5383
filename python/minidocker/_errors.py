"""The exceptions that minidocker raises.

::

    minidocker.Error
    ├── SpecError(ValueError)                   wrong on any machine; nothing was created
    ├── SpawnError(OSError)                     the kernel refused; nothing is left behind
    │   ├── CommandNotFound(FileNotFoundError)  the command itself
    │   ├── PathNotFound(FileNotFoundError)     any other path: cwd, a mount source, the root
    │   ├── NotADirectory(NotADirectoryError)   a path, or a part of one, is not a directory
    │   └── PermissionDenied(PermissionError)
    ├── CallError                               a function returned no value and raised nothing
    │   ├── CallExited                          it ended the interpreter: sys.exit(), os._exit()
    │   ├── CallKilled                          a signal ended it
    │   ├── CallLimitExceeded                   a resource limit ended it
    │   ├── CallTimeout(TimeoutError)           it ran longer than its timeout
    │   ├── CallResultError                     its value or exception cannot be transferred
    │   └── CallFailed                          its exception as text, with ``result="json"``
    ├── NotReady(TimeoutError)                  a server, a line or a file did not appear in time
    ├── BrokenContainer(BrokenExecutor)         a task's container ended (in ``executor.py``)
    └── UnsupportedPlatformError(NotImplementedError)

The name in parentheses is a second base class: the exception that the standard library raises for a
similar failure, so code written for `subprocess` keeps working. All of them can be pickled and
copied, and keep their attributes.
"""

from __future__ import annotations

import errno as _errno
import os
import reprlib

from minidocker._spelling import OPTIONS, Remedy
from minidocker._words import nearest

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "CallError",
    "CallExited",
    "CallFailed",
    "CallKilled",
    "CallLimitExceeded",
    "CallResultError",
    "CallTimeout",
    "CommandNotFound",
    "Error",
    "NotADirectory",
    "NotReady",
    "PathNotFound",
    "PermissionDenied",
    "SpawnError",
    "SpecError",
    "UnsupportedPlatformError",
    "device_error",
    "spawn_error",
    "unknown_option",
]

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


class Error(Exception):
    """The base class of the exceptions of minidocker."""


class SpecError(Error, ValueError):
    """An option that is wrong on any machine; nothing was created.

    Args:
        args: the reason and the remedy, in one sentence.
        option: the keyword of the wrong option.
        value: the value of the option; None if there is no value to show.
    """

    option: str | None
    value: Any

    def __init__(self, *args: object, option: str | None = None, value: Any = None) -> None:
        super().__init__(*args)
        self.option = option
        self.value = value

    def __str__(self) -> str:
        reason = super().__str__()
        if self.option is None:
            return reason
        shown = "" if self.value is None else f"={self.shown}"
        return f"{self.option}{shown}: {reason}" if reason else f"{self.option}{shown}"

    @property
    def shown(self) -> str:
        """The value as text, shortened."""
        return _short.repr(self.value)

    @property
    def parts(self) -> tuple[str, Remedy | None]:
        """The reason, and the engine's remedy, which can be spelled in other words."""
        parts: tuple[str, Remedy] | None = self.__dict__.get("_parts")
        return (super().__str__(), None) if parts is None else parts

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args, {**self.__dict__, "value": _Value(self.value)}

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        state = dict(state or {})
        if isinstance(held := state.get("value"), _Value):
            state["value"] = held.value
        super().__setstate__(state)


class OutOfRange(SpecError, OverflowError):
    """A number that is too large for the kernel; `subprocess` raises OverflowError for it."""


class _Value:
    """The value of a SpecError while the exception is pickled.

    The value may be any object. One that pickle rejects, such as a lambda, is replaced by its repr,
    because the exception must reach the other process in any case.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        import pickle  # noqa: PLC0415 - only an exception that is pickled needs it

        try:
            pickle.dumps(self.value)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError):
            return _Value, (_short.repr(self.value),)
        return _Value, (self.value,)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Value:
        import copy  # noqa: PLC0415 - only an exception that is copied needs it

        return _Value(copy.deepcopy(self.value, memo))


class SpawnError(Error, OSError):
    """The kernel refused a step while a container was started or entered; nothing is left behind.

    ``errno``, ``strerror`` and ``filename`` are those of :class:`OSError`.

    Args:
        args: errno, its text and the file name, as for :class:`OSError`.
        step: the short name of the failed step, as :func:`minidocker.explain` shows it.
        hint: one remedy.
        doing: what the step does, in words that follow "cannot".
        reason: why the step failed, if that is known better than from errno.
    """

    step: str | None
    hint: str | None
    reason: str | None

    def __init__(
        self,
        *args: Any,
        step: str | None = None,
        hint: str | None = None,
        doing: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(*args)
        self.step = step
        self.hint = hint
        self.reason = reason
        self._doing = doing

    def __str__(self) -> str:
        doing = self._doing or self.step or "start the container"
        parts = [f"cannot {doing}"]
        # A description such as "mount proc on /proc" already names the file.
        if self.filename is not None and _text(self.filename) not in doing.split():
            parts[0] += f" {self.filename!r}"
        if self.reason is not None:
            parts.append(self.reason)
        elif self.errno is not None:
            parts.append(f"{self.strerror} (errno {self.errno})")
        else:
            parts.extend(str(argument) for argument in self.args)
        message = ": ".join(parts)
        return message if self.hint is None else f"{message}. Remedy: {self.hint}"


class CommandNotFound(SpawnError, FileNotFoundError):
    """The command does not exist inside the container."""


class PathNotFound(SpawnError, FileNotFoundError):
    """A path other than the command does not exist: the cwd, the source of a mount, the root."""


class NotADirectory(SpawnError, NotADirectoryError):
    """A path that must be a directory, or a parent in a path, is not a directory."""


class PermissionDenied(SpawnError, PermissionError):
    """The caller lacks the permission for a step, or for executing the command."""


class CallError(Error):
    """A function called in a container returned no value and raised no exception.

    Args:
        args: what happened, in one sentence.
        stdout: the captured standard output; None if it was not captured.
        stderr: the captured standard error; None if it was not captured.
    """

    stdout: bytes | str | None
    stderr: bytes | str | None

    def __init__(
        self,
        *args: object,
        stdout: bytes | str | None = None,
        stderr: bytes | str | None = None,
    ) -> None:
        super().__init__(*args)
        self.stdout = stdout
        self.stderr = stderr


class CallExited(CallError):
    """The function ended its interpreter: ``sys.exit()``, ``os._exit()``.

    Attributes:
        code: the exit status.
    """

    def __init__(
        self, *args: object, code: int | None = None, **output: bytes | str | None
    ) -> None:
        super().__init__(*args, **output)
        self.code = code


class CallKilled(CallError):
    """A signal ended the function: a crash, the kernel's OOM killer, or kill(2).

    Attributes:
        signal: the number of the signal; see signal(7).
    """

    def __init__(
        self, *args: object, signal: int | None = None, **output: bytes | str | None
    ) -> None:
        super().__init__(*args, **output)
        self.signal = signal


class CallLimitExceeded(CallError):
    """The kernel ended the function because a resource limit was reached.

    Attributes:
        limit: the option that set it: ``"ulimits.cpu"``, ``"ulimits.fsize"``.
    """

    def __init__(
        self, *args: object, limit: str | None = None, **output: bytes | str | None
    ) -> None:
        super().__init__(*args, **output)
        self.limit = limit


class CallTimeout(CallError, TimeoutError):
    """The function ran longer than its timeout, and its whole container was ended.

    Attributes:
        timeout: the timeout in seconds.
    """

    def __init__(
        self, *args: object, timeout: float | None = None, **output: bytes | str | None
    ) -> None:
        super().__init__(*args, **output)
        self.timeout = timeout


class CallResultError(CallError):
    """The value or exception cannot be transferred: not pickle, not JSON, or too large."""


class CallFailed(CallError):
    """The function raised an exception, and ``result="json"`` transferred its text only.

    Its ``__cause__`` is the remote traceback. Everything here comes from the container, so the code
    inside controls what it says.

    Attributes:
        type: the name of the exception's class, with its module.
        message: the exception as text.
    """

    def __init__(
        self,
        *args: object,
        type: str | None = None,  # noqa: A002 - the usual name of an exception's class
        message: str | None = None,
        **output: bytes | str | None,
    ) -> None:
        super().__init__(*args, **output)
        self.type = type
        self.message = message


class NotReady(Error, TimeoutError):
    """A server, a line or a file did not appear before the timeout, or its process ended.

    The message contains the output so far.
    """


class UnsupportedPlatformError(Error, NotImplementedError):
    """This machine does not run Linux: minidocker can be imported here, but runs nothing."""


def spawn_error(
    errno: int,
    filename: str | bytes | None = None,
    step: str | None = None,
    hint: str | None = None,
    *,
    doing: str | None = None,
    reason: str | None = None,
    command: bool = False,
) -> SpawnError:
    """Return the exception for a step that the kernel refused; the errno decides its class.

    Args:
        errno: the error number, from :mod:`errno`.
        filename: the file that the step used.
        step: the short name of the step: ``"mount-proc"``.
        hint: one remedy, without a full stop.
        doing: what the step does, in words that follow "cannot": ``"mount a fresh proc"``.
        reason: why it failed, if that is known better than from the errno.
        command: whether the step executes the command itself, which makes ``ENOENT`` a
            :class:`CommandNotFound`.
    """
    chosen: type[SpawnError]
    match errno:
        case _errno.ENOENT:
            chosen = CommandNotFound if command else PathNotFound
        case _errno.ENOTDIR:
            chosen = NotADirectory
        case _errno.EPERM | _errno.EACCES:
            chosen = PermissionDenied
        case _:
            chosen = SpawnError
    arguments = (errno, os.strerror(errno))
    if filename is None:
        return chosen(*arguments, step=step, hint=hint, doing=doing, reason=reason)
    return chosen(*arguments, filename, step=step, hint=hint, doing=doing, reason=reason)


def device_error(errno: int, path: str) -> SpawnError:
    """Return the exception for a device of the caller's /dev that does not open."""
    if errno == _errno.EACCES:
        hint = (
            "/dev is mounted with nodev. Inside bubblewrap, start bwrap with --dev /dev;"
            " elsewhere, as root: mount -o remount,dev /dev"
        )
    else:
        hint = "make /dev complete: mount a devtmpfs there"
    return spawn_error(errno, path, "prepare", hint, doing="open the device")


def spec_error(
    option: str, value: bool | str | None, shown: str | None, reason: str, remedy: str
) -> SpecError:
    """Return the exception for an option that the engine refused.

    Args:
        option: the engine's name of the option.
        value: the value, if it is a flag or a word.
        shown: any other value, as text.
        reason: why the engine refused it.
        remedy: one thing to do instead.
    """
    given = value if shown is None else _Shown(shown)
    error = SpecError(f"{reason}. {remedy}", option=OPTIONS.get(option, option), value=given)
    if isinstance(remedy, Remedy):
        error.__dict__["_parts"] = (reason, remedy)
    return error


class _Shown(str):
    """A value that the engine has formatted: its repr is its text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def unknown_option(name: str, value: Any, known: Iterable[str]) -> SpecError:
    """Return the exception for an unknown keyword.

    It explains a word that docker or subprocess has, and else suggests the most similar option.
    """
    from minidocker._vocabulary import sentence  # noqa: PLC0415 - only this error needs it

    explained = sentence(name, repr)
    if explained is not None:
        return SpecError(f"unknown option: {explained}", option=name, value=value)
    options = sorted(known)
    near = nearest(name, options)
    advice = f"did you mean {near!r}?" if near else f"the options are {', '.join(options)}"
    return SpecError(f"unknown option: {advice}", option=name, value=value)


def _text(filename: object) -> str:
    if isinstance(filename, str | bytes | os.PathLike):
        return os.fsdecode(filename)
    return str(filename)
