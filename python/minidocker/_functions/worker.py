"""The process that runs functions in a container.

A copy of the caller has its `Task` in memory (`run`). Any other process reads messages from its
channel until the end of file (`serve`): a clean interpreter first reads a `Context`; then the
process reads and answers one `Task` for each function. The caller makes both.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import os
import pickle
import runpy
import signal
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._errors import SpecError
from minidocker._fd import pipe
from minidocker._functions import messages

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Context", "Task", "run", "run_exit_functions", "serve"]

AS_JSON = 1
LAST = 2
"""No other task follows."""


class Task(NamedTuple):
    """A function to call, its arguments, and the form of the answer."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    as_json: bool = False
    initialize: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    """An initializer, which is called before the function, and its arguments."""

    def message(self, *, last: bool = False) -> list[bytes]:
        """Pickle the task into the parts of a message.

        Raises:
            SpecError: the function, or a function among the arguments, cannot be found by its name.
            Exception: an argument cannot be pickled; its own methods may raise any exception.
        """
        try:
            work = self.function, self.args, self.kwargs, self.initialize
            pickled, needs_main = messages.dumps(work)
            if needs_main and own_main() is None:
                reason = "it is defined in a __main__ that no other interpreter can import"
                raise pickle.PicklingError(f"can't pickle {self.function!r}: {reason}")
            if needs_main:
                # The answer may be an instance of a class of ``__mp_main__``, which is the worker's
                # name for the script.
                sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
        except Exception as error:
            if isinstance(error, pickle.PicklingError | AttributeError):
                self._explain(error)
            error.add_note(_REMEDY)
            raise
        flags = (AS_JSON if self.as_json else 0) | (LAST if last else 0)
        return messages.parts(messages.TASK, bytes([flags, needs_main]), pickled)

    def _explain(self, error: Exception) -> None:
        """Raise a `SpecError` if the error is about a function that has no name to find it by.

        Lambdas, functions in functions, and those of a typed-in ``__main__`` have none.
        """
        where: dict[str, Any] = {"function": self.function}
        where |= {f"argument {number}": value for number, value in enumerate(self.args, 1)}
        where |= {f"argument {name}": value for name, value in self.kwargs.items()}
        if self.initialize is not None:
            where |= {"initializer": self.initialize[0], "initargs": self.initialize[1]}
        for name, value in where.items():
            if not isinstance(value, types.FunctionType | functools.partial):
                continue
            try:
                _, needs_main = messages.dumps(value)
            except Exception:  # noqa: BLE001 - its parts' own methods may raise anything
                reason = "pickle finds functions by their names, and this one has none: a lambda "
                reason += "or a function defined in another. Define it with def in a module"
            else:
                if not needs_main or own_main() is not None:
                    continue
                reason = "it is defined in a __main__ that no other interpreter can import"
            refused = SpecError(reason, option=name, value=value)
            refused.add_note(_REMEDY)
            raise refused from error


_REMEDY = (
    "The function and its arguments are pickled for another process. Install cloudpickle (pip "
    'install cloudpickle), which can pickle more, or use method="fork", which does not pickle them.'
)


class Context(NamedTuple):
    """The state of the caller that a clean interpreter adopts."""

    environ: dict[str, str] | None
    """None: the interpreter keeps the environment that it was started with."""
    path: list[str]
    argv: list[str]
    cwd: str | None
    main: tuple[str, str] | None
    """How to import ``__main__``: ``"module"`` and its name, or ``"path"`` and its path."""
    authkey: bytes | None = None
    """See `authkey`; None: not for this process."""

    @classmethod
    def here(
        cls, *, environ: dict[str, str] | None = None, authkey: bytes | None = None
    ) -> Context:
        """Return this process's context, with this environment."""
        try:
            cwd = os.getcwd()
        except FileNotFoundError:
            cwd = None
        argv = list(getattr(sys, "argv", []))
        return cls(environ, list(sys.path), argv, cwd, own_main(), authkey)

    def message(self) -> list[bytes]:
        """Pickle the context into the parts of a message."""
        return messages.parts(messages.CONTEXT, pickle.dumps(self))

    def apply(self) -> None:
        """Adopt the caller's state."""
        if self.environ is not None and self.environ != dict(os.environ):
            os.environ.clear()
            os.environ.update(self.environ)
        sys.path[:] = self.path
        adopt(self.argv, self.main)
        if self.authkey is not None:
            adopt_authkey(self.authkey)
        if self.cwd is not None:
            try:
                os.chdir(self.cwd)
            except OSError:
                # The directory does not exist inside, or it is not accessible.
                os.chdir("/")


def adopt(argv: list[str], main: tuple[str, str] | None) -> None:
    """Adopt the caller's ``sys.argv`` and its way to import ``__main__``."""
    global _main  # noqa: PLW0603 - a fact about this process
    sys.argv[:] = argv
    _main = main


def authkey() -> bytes | None:
    """Return the key of `multiprocessing`, if this process has used it.

    With the key, a proxy of a manager can connect to it, and so can any other code.
    """
    process: Any = sys.modules.get("multiprocessing.process")
    return None if process is None else bytes(process.current_process().authkey)


def adopt_authkey(key: bytes) -> None:
    """Adopt the caller's key of `multiprocessing`."""
    from multiprocessing import process  # noqa: PLC0415 - needed only if the caller has used it

    process.current_process().authkey = key


_main: tuple[str, str] | None = None
_loading_main = False
_main_is_loaded = False


def own_main() -> tuple[str, str] | None:
    """Return how a clean interpreter imports ``__main__``: ``"module"`` or ``"path"``, and which.

    None if no file holds it.
    """
    if _main is not None:
        return _main
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return "module", spec.name
    path = getattr(main, "__file__", None)
    # In an interactive interpreter or IPython it is not the name of a file.
    if path is None or not os.path.isfile(path):
        return None
    return "path", os.path.abspath(path)


def check_not_loading_main() -> None:
    """Refuse to start a function while a worker imports its caller's script.

    Raises:
        RuntimeError: the script lacks the idiom that the message shows.
    """
    if _loading_main:
        raise RuntimeError(
            "a clean interpreter imports this script, and must not start functions while it does: "
            'put the code that starts them below `if __name__ == "__main__":`'
        )


def _load_main() -> None:
    """Import the caller's ``__main__``, under another name, as `multiprocessing` does."""
    global _loading_main, _main_is_loaded  # noqa: PLW0603 - as above
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


# --- performing tasks --------------------------------------------------------------------------


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
            pickled = memoryview(payload)[2:]
            reply = _perform(pickled, channel, flags, needs_main=bool(needs_main))
            if flags & LAST:
                _answer_last(channel, reply)
                return
            _write(channel, reply)


def run(task: Task, channel: int) -> None:
    """Answer the one task of a copy of the caller.

    Raises:
        SystemExit: the task ended the interpreter.
    """
    _answer_last(channel, _answer(task, channel))


def _answer_last(channel: int, reply: bytes) -> None:
    # Exit functions and threads belong to the call, so they end before the answer.
    run_exit_functions()
    _write(channel, reply)


def _perform(pickled: memoryview, channel: int, flags: int, *, needs_main: bool) -> bytes:
    as_json = bool(flags & AS_JSON)
    try:
        if needs_main:
            _load_main()
        function, args, kwargs, initialize = pickle.loads(pickled)
    except Exception as error:  # noqa: BLE001 - the caller raises it
        error.add_note("The function or its arguments could not be unpickled in the container.")
        return messages.raised(error, as_json=as_json)
    return _answer(Task(function, args, kwargs, as_json, initialize), channel)


def _answer(task: Task, channel: int) -> bytes:
    """Run the initializer, if there is one, and the function; return the answer."""
    if task.initialize is not None:
        initializer, args = task.initialize
        try:
            initializer(*args)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            return messages.raised(error, as_json=task.as_json, skip=1)
        # The function can forge any later message, but not this one.
        _write(channel, messages.message(messages.INITIALIZED, b""))
    return messages.answer(task.function, task.args, task.kwargs, as_json=task.as_json)


def warm_up() -> None:
    """Perform a dummy task, so that this process has its own copies of the pages that it needs."""
    pickled = pickle.dumps((int, (), {}, None), pickle.HIGHEST_PROTOCOL)
    reader, writer = pipe()
    reply = _perform(memoryview(pickled), writer, 0, needs_main=False)
    with open(reader, "rb", buffering=0) as stream:
        _write(writer, reply)
        os.close(writer)
        _read(stream)
    run_exit_functions()


def _write(channel: int, data: bytes) -> None:
    """Write all data, or stop if the caller has closed the channel."""
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while view:
            view = view[os.write(channel, view[: 1 << 20]) :]


def _read(stream: Any) -> tuple[int, bytearray] | None:
    header = _exactly(stream, messages.HEADER.size)
    if header is None:
        return None
    kind, length = messages.HEADER.unpack(header)
    payload = _exactly(stream, length)
    return None if payload is None else (kind, payload)


def _exactly(stream: Any, length: int) -> bytearray | None:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = stream.readinto(view)
        if not count:
            return None
        view = view[count:]
    return buffer


# --- the interpreter ---------------------------------------------------------------------------


_inherited_threads = 1


def inherit_threads() -> None:
    """Count the threads of a new copy, whose end an exit does not wait for.

    There is one, unless eventlet lists the green threads of the caller, which never end here.
    """
    global _inherited_threads  # noqa: PLW0603 - a fact about this process
    _inherited_threads = threading.active_count()


def run_exit_functions() -> None:
    """Do what an interpreter does before it ends; a second time does nothing."""
    if threading.active_count() > _inherited_threads:
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # The copy has cleared atexit's list, with multiprocessing's exit function if it was there.
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    flush_outputs()


def flush_outputs() -> None:
    """Flush Python's standard output and error, and the streams that these were at its start."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        # Ignore a stream that is None or closed, or a pipe without a reader.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()  # type: ignore[union-attr]


def reopen_outputs() -> None:
    """Replace sys.stdout and sys.stderr by streams for the present descriptors 1 and 2."""
    sys.stdout, sys.stderr = (
        # Line by line: the output appears at once, and is not lost if a signal ends the process.
        open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for as long as the process lives
        for number in (1, 2)
    )


def serve_request(channel: int, outputs: list[int]) -> None:
    """Serve in a copy of a template, which has received the channel and the outputs."""
    if outputs:
        for number, fd in enumerate(outputs, 1):
            os.dup2(fd, number)
            os.close(fd)
        reopen_outputs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(channel)


def main(channel: int, path: list[str], preload: tuple[str, ...]) -> None:
    """Serve in a fresh interpreter; ``interpreter.py`` executes this function."""
    sys.path[:] = path
    for stream in (sys.stdout, sys.stderr):
        # The streams of a process whose descriptors are closed are None.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    for name in preload:
        importlib.import_module(name)
    serve(channel)
