"""What runs in a container when the function is sent there: for "spawn", and for executors.

The process reads messages from its channel until that ends: at first, where it is a clean
interpreter, a `CONTEXT`; then a `TASK` for each function, which it answers.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import runpy
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._functions import messages
from minidocker._functions.fork import leave

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Context", "serve", "task"]

AS_JSON = 1
LAST = 2
"""No other task will follow."""


class Context(NamedTuple):
    """What a clean interpreter takes over of its caller."""

    environ: dict[str, str]
    path: list[str]
    argv: list[str]
    cwd: str | None
    main: tuple[str, str] | None
    """How ``__main__`` is imported: ``"module"`` and its name, or ``"path"`` and its path."""

    @classmethod
    def here(cls) -> Context:
        """This process's."""
        try:
            cwd = os.getcwd()
        except FileNotFoundError:
            cwd = None
        argv = list(getattr(sys, "argv", []))
        return cls(dict(os.environ), list(sys.path), argv, cwd, _own_main())

    def apply(self) -> None:
        """Become like the caller."""
        if self.environ != dict(os.environ):
            os.environ.clear()
            os.environ.update(self.environ)
        sys.path[:] = self.path
        be_like(self.argv, self.main)
        if self.cwd is not None:
            try:
                os.chdir(self.cwd)
            except OSError:
                # It does not exist inside, or is not to be entered: the root directory does.
                os.chdir("/")


def be_like(argv: list[str], main: tuple[str, str] | None) -> None:
    """Take over what a caller was started with."""
    global _main  # noqa: PLW0603 - what this process is
    sys.argv[:] = argv
    _main = main


_main: tuple[str, str] | None = None
_loading_main = False
_main_is_loaded = False


def _own_main() -> tuple[str, str] | None:
    if _main is not None:
        return _main
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return "module", spec.name
    path = getattr(main, "__file__", None)
    # The name that an interactive interpreter, or IPython, gives it is no file.
    if path is None or not os.path.isfile(path):
        return None
    return "path", os.path.abspath(path)


def check_not_loading_main() -> None:
    """Refuse to start anything while a worker imports its caller's script.

    Raises:
        RuntimeError: with the idiom that is missing.
    """
    if _loading_main:
        raise RuntimeError(
            "a function of this script is to run in a clean interpreter, which therefore imports "
            'the script: put what starts it below `if __name__ == "__main__":`'
        )


def _load_main() -> None:
    """Import the caller's ``__main__``, under another name, as `multiprocessing` does."""
    global _loading_main, _main_is_loaded  # noqa: PLW0603 - what this process is doing
    if _main is None or _main_is_loaded:
        return
    _main_is_loaded = True
    how, what = _main
    module = types.ModuleType("__mp_main__")
    _loading_main = True
    try:
        if how == "module":
            content = runpy.run_module(what, run_name="__mp_main__", alter_sys=True)
        else:
            content = runpy.run_path(what, run_name="__mp_main__")
    finally:
        _loading_main = False
    module.__dict__.update(content)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def task(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    as_json: bool = False,
    last: bool = False,
) -> bytes:
    """The message with a task.

    Raises:
        Exception: what pickling it raised.
    """
    try:
        pickled, needs_main = messages.dumps((function, args, kwargs))
        if needs_main and _own_main() is None:
            said = "it is defined in a __main__ that no other interpreter can import"
            raise pickle.PicklingError(f"can't pickle {function!r}: {said}")
        if needs_main:
            # What comes back may be of a class that the worker's copy of the script has defined.
            sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    except Exception as error:
        error.add_note(
            "The function and its arguments are pickled, to be sent to another process. "
            "cloudpickle, where it is installed (pip install cloudpickle), can do more; "
            'method="fork" needs no pickling.'
        )
        raise
    flags = (AS_JSON if as_json else 0) | (LAST if last else 0)
    return messages.message(messages.TASK, bytes([flags, needs_main]) + pickled)


def context(here: Context) -> bytes:
    """The message with a context."""
    return messages.message(messages.CONTEXT, pickle.dumps(here))


def serve(channel: int) -> None:
    """Answer tasks until there are no more.

    Raises:
        SystemExit: a task ended the interpreter.
    """
    os.set_blocking(channel, True)
    with open(channel, "r+b", buffering=0, closefd=False) as stream:
        while (received := _read(stream)) is not None:
            kind, payload = received
            if kind == messages.CONTEXT:
                pickle.loads(payload).apply()
                continue
            flags, needs_main = payload[:2]
            reply = _perform(memoryview(payload)[2:], flags, needs_main=bool(needs_main))
            if flags & LAST:
                # What the end of the interpreter does, the answer waits for.
                leave()
                write(channel, reply)
                return
            write(channel, reply)


def _perform(pickled: memoryview, flags: int, *, needs_main: bool) -> bytes:
    as_json = bool(flags & AS_JSON)
    try:
        if needs_main:
            _load_main()
        function, args, kwargs = pickle.loads(pickled)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the caller
        error.add_note("The function or its arguments could not be unpickled in the container.")
        return messages.raised(error, as_json=as_json)
    return messages.answer(function, args, kwargs, as_json=as_json)


def warm_up() -> None:
    """Do once what every task needs: the pages that it touches are this process's own then."""
    pickled = pickle.dumps((int, (), {}), pickle.HIGHEST_PROTOCOL)
    reply = _perform(memoryview(pickled), 0, needs_main=False)
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as stream:
        write(writer, reply)
        os.close(writer)
        _read(stream)
    leave()


def write(channel: int, data: bytes) -> None:
    """Write all of it, unless nobody reads it: a caller that was interrupted has gone."""
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while view:
            view = view[os.write(channel, view[: 1 << 20]) :]


def _read(stream: Any) -> tuple[int, bytes] | None:
    header = _exactly(stream, messages.HEADER.size)
    if header is None:
        return None
    kind, length = messages.HEADER.unpack(header)
    payload = _exactly(stream, length)
    return None if payload is None else (kind, payload)


def _exactly(stream: Any, length: int) -> bytes | None:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = stream.readinto(view)
        if not count:
            return None
        view = view[count:]
    return bytes(buffer)


def main(channel: int, path: list[str], preload: tuple[str, ...]) -> None:
    """Be the command of a container: what a clean interpreter is started with."""
    sys.path[:] = path
    for name in preload:
        importlib.import_module(name)
    serve(channel)
