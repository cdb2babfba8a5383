"""The messages between a caller and a function in a container.

A message is one byte for its kind, eight bytes for the length of the payload, and the payload. The
code inside a container may write anything to its channel, so the caller's half (`Receiver`,
`decode_answer`) reads one message, of a permitted kind and length, and not a byte more. With
``result="json"`` it never unpickles one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Coroutine
from types import FunctionType
from typing import TYPE_CHECKING, Any

from minidocker._errors import CallFailed, CallResultError
from minidocker._functions import strict_json
from minidocker._inspect.text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import NoReturn

# Before any thread needs it: a copy made while another thread imports a module waits for ever for
# that import.
with contextlib.suppress(ImportError):
    importlib.import_module("cloudpickle")

HEADER = struct.Struct("<BQ")
CHUNK = 1 << 18

VALUE = 1
"""A pickled value."""
RAISED = 2
"""A pickled exception and the text of its traceback."""
UNABLE = 3
"""JSON: the reason why neither value nor exception could be sent."""
JSON_VALUE = 4
JSON_RAISED = 5
TASK = 6
"""A pickled function and its arguments: a `worker.Task`."""
CONTEXT = 7
"""A pickled `worker.Context`, for a clean interpreter."""
INITIALIZED = 8
"""Empty: the initializer of a task has returned, and the function begins."""

ANSWERS = frozenset({VALUE, RAISED, UNABLE, INITIALIZED})
JSON_ANSWERS = frozenset({JSON_VALUE, JSON_RAISED, UNABLE, INITIALIZED})


class RemoteTraceback(Exception):
    """The text of a remote traceback: the ``__cause__`` of an exception raised in a container."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def message(kind: int, payload: bytes) -> bytes:
    """Return a message as bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def parts(kind: int, *payload: bytes) -> list[bytes]:
    """Return a message as parts to send, without a copy of the payload."""
    return [HEADER.pack(kind, sum(map(len, payload))), *payload]


# --- pickling ----------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Records the need for ``__main__``; pickles functions inside decorators by name."""

    needs_main = False

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, type | FunctionType):
            return NotImplemented
        self.needs_main = self.needs_main or obj.__module__ == "__main__"
        if isinstance(obj, FunctionType) and _is_inside_its_own_name(obj):
            return _inner, (obj.__module__, obj.__qualname__)
        return NotImplemented


def _find(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    if found is None:
        __import__(module)
        found = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _is_inside_its_own_name(function: FunctionType) -> bool:
    """Return whether the function's name leads to a decorated function that wraps it."""
    try:
        found = _find(function.__module__, function.__qualname__)
    except (ImportError, AttributeError):
        return False
    return found is not function and getattr(found, "__wrapped__", None) is function


def _inner(module: str, qualname: str) -> Any:
    return _find(module, qualname).__wrapped__


def dumps(value: Any) -> tuple[bytes, bool]:
    """Pickle a value; return the pickle, and whether unpickling needs the caller's ``__main__``.

    Use cloudpickle, if it is installed, for values that pickle rejects, such as lambdas and
    closures, and for definitions in ``__main__`` or a notebook.

    Raises:
        Exception: the value cannot be pickled; its own methods may raise any exception.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    try:
        pickler.dump(value)
    except Exception:
        cloudpickle = _cloudpickle()
        if cloudpickle is None:
            raise
        return cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), False
    if pickler.needs_main:
        cloudpickle = _cloudpickle()
        if cloudpickle is not None:
            return cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), False
    return buffer.getvalue(), pickler.needs_main


def _cloudpickle() -> Any:
    try:
        import cloudpickle  # noqa: PLC0415 - optional, and needed only if pickle is not enough
    except ImportError:
        return None
    return cloudpickle


# --- in the container --------------------------------------------------------------------------


def answer(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, as_json: bool
) -> bytes:
    """Call the function; return the message with its value or exception.

    `asyncio.run` runs the coroutine of an async function.

    Raises:
        SystemExit: the function raised it.
    """
    try:
        value = function(*args, **kwargs)
        if isinstance(value, Coroutine):
            value = _run_coroutine(value)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the caller raises it
        return raised(error, as_json=as_json, skip=1)
    return _returned_json(value) if as_json else _returned(value)


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio  # noqa: PLC0415 - slow to import, and rarely needed

    # The copy of a thread that runs an event loop does not run it.
    asyncio.events._set_running_loop(None)
    return asyncio.run(coroutine)


def raised(error: BaseException, *, as_json: bool, skip: int = 0) -> bytes:
    """Return the message with an exception, without the first ``skip`` frames of its traceback."""
    frames = error.__traceback__
    for _ in range(skip):
        frames = None if frames is None else frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    if as_json:
        return message(JSON_RAISED, _json_of_exception(error, text))
    # The frames hold the function's variables.
    error.__traceback__ = None
    try:
        pickled = dumps_result((error, text))
        # An exception whose constructor needs more than ``args`` pickles, but does not unpickle.
        pickle.loads(pickled)
    except Exception as why:  # noqa: BLE001 - an exception's own methods may raise anything
        reason = f"the exception {_show(error)} cannot be transferred: {_show(why)}"
        return _unable(reason, text)
    return message(RAISED, pickled)


def _returned(value: Any) -> bytes:
    try:
        return message(VALUE, dumps_result(value))
    except Exception as why:  # noqa: BLE001 - a value's own methods may raise anything
        reason = f"the value, of type {type(value).__qualname__}, cannot be pickled: {_show(why)}"
        return _unable(reason, None)


def dumps_result(value: Any) -> bytes:
    """Pickle a value for the caller, which has the definitions of its own ``__main__``.

    Raises:
        Exception: the value cannot be pickled; its own methods may raise any exception.
    """
    # pickle.dumps() is usually enough. It writes to few pages, and a forked process must copy each
    # page that it writes to.
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a value's own methods may raise anything
        why = error
    try:
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
        return buffer.getvalue()
    except Exception:  # noqa: BLE001 - as above; the first reason is reported
        cloudpickle = _cloudpickle()
        if cloudpickle is None:
            raise why from None
    pickled: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return pickled


def _returned_json(value: Any) -> bytes:
    try:
        return message(JSON_VALUE, json.dumps(value, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as why:
        reason = f"the value, of type {type(value).__qualname__}, is not JSON: {_show(why)}"
        return _unable(reason, None)


def _unable(reason: str, text: str | None) -> bytes:
    return message(UNABLE, json.dumps([reason, text]).encode())


def _json_of_exception(error: BaseException, text: str) -> bytes:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    described = [name, _text(error), text]
    return json.dumps(described).encode("utf-8", "backslashreplace")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise anything
        return f"<{type(error).__qualname__} whose str() raises>"


def _show(error: BaseException) -> str:
    return f"{type(error).__qualname__}({_text(error)!r})"


# --- in the caller -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A received message: its kind and its payload."""

    kind: int
    payload: bytearray


class Receiver:
    """Receives one message after another from a sender that may be hostile.

    It reads nothing beyond the end of a message, so it never holds more than one.

    Args:
        kinds: the permitted kinds of messages.
        limit: the maximum size of a payload, in bytes; None for no limit.
    """

    def __init__(self, kinds: Collection[int], limit: int | None) -> None:
        self._kinds = kinds
        self._limit = limit
        self._header = bytearray()
        self._message: Message | None = None
        self._missing = HEADER.size

    def receive(self, fd: int) -> bool:
        """Read an available part of the message, at most `CHUNK` bytes of it.

        Returns:
            False at the end of the file.

        Raises:
            CallResultError: the message is of another kind, or too large.
        """
        try:
            data = os.read(fd, min(self._missing, CHUNK))
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._missing -= len(data)
        if self._message is not None:
            self._message.payload.extend(data)
        else:
            self._header += data
            if not self._missing:
                self._begin()
        return bool(data)

    def take(self) -> Message | None:
        """Return the message once it is complete, and begin with the next one."""
        if self._message is None or self._missing:
            return None
        message, self._message = self._message, None
        self._header.clear()
        self._missing = HEADER.size
        return message

    def _begin(self) -> None:
        kind, length = HEADER.unpack(self._header)
        if kind not in self._kinds or length > sys.maxsize:
            malformed()
        if self._limit is not None and length > self._limit:
            reason = f"the answer has {length} bytes, but result_limit allows {self._limit}"
            raise CallResultError(reason)
        self._message, self._missing = Message(kind, bytearray()), length


def decode_answer(message: Message, *, as_json: bool, limit: int | None) -> Any:
    """Return the value of an answer, or raise its exception.

    Args:
        message: the answer.
        as_json: whether it is JSON, and nothing may be unpickled.
        limit: the ``result_limit``, which bounds the memory of a value of JSON; None: no limit.

    Raises:
        CallResultError: the answer has neither, or it cannot be decoded.
        CallFailed: the function raised an exception, and ``as_json`` is true.
        BaseException: the function's exception.
    """
    kind, payload = message.kind, message.payload
    if kind == UNABLE:
        reason, text = _read_json(payload, limit, str, (str, type(None)))
        raise CallResultError(escaped(reason)) from (None if text is None else _remote(text))
    if as_json:
        if kind == JSON_VALUE:
            return _loads_json(payload, limit)
        if kind == JSON_RAISED:
            name, summary, text = _read_json(payload, limit, str, str, str)
            name, summary = escaped(name, lines=False, most=_LONGEST_NAME), escaped(summary)
            shown = f"{name}: {summary}" if summary else name
            raise CallFailed(shown, type=name, message=summary) from _remote(text)
    elif kind == VALUE:
        return _unpickle(payload)
    elif kind == RAISED:
        error, text = _unpickle(payload)
        error.__cause__ = _remote(text)
        raise error
    return malformed()


_LONGEST_NAME = 200


def _remote(text: str) -> RemoteTraceback:
    return RemoteTraceback(escaped(text))


def _unpickle(payload: bytes | bytearray) -> Any:
    try:
        return pickle.loads(payload)
    except Exception as why:
        reason = f"the answer cannot be unpickled here: {_show(why)}"
        raise CallResultError(reason) from why


def _loads_json(payload: bytes | bytearray, limit: int | None) -> Any:
    try:
        return strict_json.loads(payload, limit=limit)
    except (ValueError, RecursionError) as why:
        # The message of a UnicodeDecodeError would show the payload.
        reason = "it is not ASCII" if isinstance(why, UnicodeError) else escaped(_text(why))
        raise CallResultError(f"the answer is not JSON: {reason}") from None


def _read_json(
    payload: bytes | bytearray, limit: int | None, *kinds: type | tuple[type, ...]
) -> Any:
    """Parse and check a list of values of these types, from an untrusted sender."""
    values = _loads_json(payload, limit)
    if not isinstance(values, list) or len(values) != len(kinds):
        malformed()
    if not all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        malformed()
    return values


def malformed() -> NoReturn:
    """Raise the exception for a message that this package does not send."""
    raise CallResultError("the answer is malformed: other code inside wrote to the channel")
