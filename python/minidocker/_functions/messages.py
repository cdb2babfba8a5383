"""What crosses between a caller and a function in a container, in both directions.

A message is one byte that says what it is, eight bytes of length, and that many bytes. With
``result="json"`` the caller's half (`bring_back`) trusts nothing of it, and never unpickles.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import traceback
from types import FunctionType
from typing import TYPE_CHECKING, Any

from minidocker._errors import CallFailed, CallResultError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

HEADER = struct.Struct("<BQ")

VALUE = 1
"""A pickled value."""
RAISED = 2
"""A pickled exception and the text of its traceback."""
UNABLE = 3
"""JSON: why the value, or the exception, could not be sent."""
JSON_VALUE = 4
JSON_RAISED = 5
TASK = 6
"""A pickled function and its arguments, for a process that did not get them by a fork."""
CONTEXT = 7
"""What a clean interpreter takes over of its caller: see `minidocker._functions.worker`."""


class RemoteTraceback(Exception):
    """The traceback of an exception that was raised in a container, as text: its ``__cause__``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def message(kind: int, payload: bytes) -> bytes:
    """One message, ready to be written."""
    return HEADER.pack(kind, len(payload)) + payload


# --- pickling
# --------------------------------------------------------------------------------------


class _Pickler(pickle.Pickler):
    """Notes whether something of ``__main__`` is needed, and sees through decorated functions."""

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
    """Whether the function's name is that of the decorated one, which calls it."""
    try:
        found = _find(function.__module__, function.__qualname__)
    except (ImportError, AttributeError):
        return False
    return found is not function and getattr(found, "__wrapped__", None) is function


def _inner(module: str, qualname: str) -> Any:
    return _find(module, qualname).__wrapped__


def dumps(value: Any) -> tuple[bytes, bool]:
    """Pickle a value; whether that needs the caller's ``__main__`` to be loaded.

    With pickle, and with cloudpickle, where it is installed, what pickle cannot: lambdas, closures,
    and what is defined in ``__main__`` or a notebook.

    Raises:
        Exception: whatever pickling it raised: its own methods may do so.
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
        import cloudpickle  # noqa: PLC0415 - optional, and only where pickle is not enough
    except ImportError:
        return None
    return cloudpickle


# --- in the container
# ------------------------------------------------------------------------------


def answer(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, as_json: bool
) -> bytes:
    """Call the function; the message with what came of it.

    Raises:
        SystemExit: as the function raised it.
    """
    try:
        value = function(*args, **kwargs)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the caller
        return raised(error, as_json=as_json, skip=1)
    return _returned_json(value) if as_json else _returned(value)


def raised(error: BaseException, *, as_json: bool, skip: int = 0) -> bytes:
    """The message with an exception, whose traceback begins after ``skip`` frames."""
    frames = error.__traceback__
    for _ in range(skip):
        frames = None if frames is None else frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    if as_json:
        return message(JSON_RAISED, _json_of_exception(error, text))
    # The frames hold the function's variables, which nobody asked for.
    error.__traceback__ = None
    try:
        pickled = _dumps_result((error, text))
        # An exception that asks for more than its arguments pickles, and then does not unpickle.
        pickle.loads(pickled)
    except Exception as why:  # noqa: BLE001 - an exception's own methods may raise anything
        said = f"the exception {_show(error)} cannot be brought back: {_show(why)}"
        return _unable(said, text)
    return message(RAISED, pickled)


def _returned(value: Any) -> bytes:
    try:
        return message(VALUE, _dumps_result(value))
    except Exception as why:  # noqa: BLE001 - a value's own methods may raise anything
        said = f"the value, a {type(value).__qualname__}, cannot be pickled: {_show(why)}"
        return _unable(said, None)


def _dumps_result(value: Any) -> bytes:
    # Nearly always enough, and it touches little memory, which a copy pays for page by page.
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - a value's own methods may raise anything
        why = error
    try:
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(value)
        return buffer.getvalue()
    except Exception:  # noqa: BLE001 - as above; the first reason is the one to tell
        cloudpickle = _cloudpickle()
        if cloudpickle is None:
            raise why from None
    pickled: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return pickled


def _returned_json(value: Any) -> bytes:
    try:
        return message(JSON_VALUE, json.dumps(value).encode())
    except (TypeError, ValueError, RecursionError) as why:
        said = f"the value, a {type(value).__qualname__}, is no JSON: {_show(why)}"
        return _unable(said, None)


def _unable(said: str, text: str | None) -> bytes:
    return message(UNABLE, json.dumps([said, text]).encode())


def _json_of_exception(error: BaseException, text: str) -> bytes:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    said = [name, _text(error), text]
    return json.dumps(said).encode("utf-8", "backslashreplace")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise anything
        return f"<{type(error).__qualname__} whose str() raises>"


def _show(error: BaseException) -> str:
    return f"{type(error).__qualname__}({_text(error)!r})"


# --- in the caller
# ---------------------------------------------------------------------------------


def bring_back(kind: int, payload: bytes | bytearray, *, as_json: bool) -> Any:
    """Return the value of a message, or raise its exception.

    Raises:
        CallResultError: there is none that could be brought back.
        CallFailed: the exception of code that is not trusted.
        BaseException: the function's own.
    """
    if kind == UNABLE:
        said, text = _read_json(payload, str, (str, type(None)))
        raise CallResultError(said) from (None if text is None else RemoteTraceback(text))
    if as_json:
        if kind == JSON_VALUE:
            return _loads_json(payload)
        if kind == JSON_RAISED:
            name, said, text = _read_json(payload, str, str, str)
            shown = f"{name}: {said}" if said else name
            raise CallFailed(shown, type=name, message=said) from RemoteTraceback(text)
        return _garbled()
    if kind == VALUE:
        return _unpickle(payload)
    if kind == RAISED:
        error, text = _unpickle(payload)
        error.__cause__ = RemoteTraceback(text)
        raise error
    return _garbled()


def _unpickle(payload: bytes | bytearray) -> Any:
    try:
        return pickle.loads(payload)
    except Exception as why:
        said = f"what came back cannot be unpickled here: {_show(why)}"
        raise CallResultError(said) from why


def _loads_json(payload: bytes | bytearray) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as why:
        raise CallResultError(f"what came back is no JSON: {_show(why)}") from None


def _read_json(payload: bytes | bytearray, *kinds: type | tuple[type, ...]) -> Any:
    """A list of values of these types: who sent it is not trusted."""
    values = _loads_json(payload)
    if not isinstance(values, list) or len(values) != len(kinds):
        _garbled()
    if not all(isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
        _garbled()
    return values


def _garbled() -> NoReturn:
    raise CallResultError("what came back is no answer: something inside wrote over it")
