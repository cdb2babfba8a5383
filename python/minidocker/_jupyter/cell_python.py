"""``%%minidocker --python``: a cell as Python, in a copy of the notebook's process in a container.

The copy cannot reach the notebook's front end. It sends its output through pipes, and displayed
objects as JSON.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import contextvars
import getpass
import inspect
import os
import pickle
import sys
import threading
from typing import TYPE_CHECKING, Any

from IPython.core.display_functions import display
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError as IPythonUsageError

from minidocker._errors import CallResultError, Error
from minidocker._fd import pipe
from minidocker._functions.call import perform, starter
from minidocker._functions.conversation import Interrupt
from minidocker._functions.front_end import refuse_input
from minidocker._functions.messages import dumps_result
from minidocker._functions.options import CallOptions
from minidocker._functions.outputs import Destination
from minidocker._functions.worker import Task
from minidocker._jupyter.cell import keywords, sinks
from minidocker._jupyter.displays import Displays
from minidocker._jupyter.magics import brief
from minidocker._jupyter.pump import outputs, pump
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from types import CodeType

    from IPython.core.interactiveshell import InteractiveShell

    from minidocker._jupyter.pump import Output
    from minidocker.cli.parser import Parsed

_SCRIPT_ONLY = ("shell", "container", "explain", "no_raise_error")
_SHOWN = "_minidocker_shown"


def run_python(shell: InteractiveShell, parsed: Parsed, cell: str) -> None:
    """Run a cell as Python in a container; bring back the variables that ``--return`` names.

    Raises:
        BaseException: the exception of the cell.
        minidocker.CallError: the copy ended in another way.
        minidocker.Error: the copy could not be started.
        IPython.core.error.UsageError: an option applies to scripts only.
    """
    settings = parsed.settings
    _check(parsed)
    code = _compile(shell, cell)
    names = [name for group in settings.get("return", ()) for name in group]
    chosen = keywords(parsed)
    cwd, env = chosen.pop("cwd", None), chosen.pop("env", None)
    stdout, stderr = sinks(shell, settings)
    try:
        options = CallOptions(timeout=settings.get("timeout"))
        start = starter(Spec.of(None, chosen), options)
        with (
            outputs(stdout.write, stderr.write) as texts,
            contextlib.closing(Displays(shell, texts)) as displays,
            _Pump([*texts, displays]) as interrupt,
        ):

            def inside() -> bytes:
                _detach(shell, texts, displays, cwd, env)
                return _execute(shell, code, names)

            task, shown = Task(inside, (), {}), Destination.here()
            done = perform(task, start, options, usage=False, shown=shown, interrupt=interrupt)
            values = pickle.loads(done.value)
    except BaseException as error:
        _show(error)
        raise
    finally:
        stdout.finish()
        stderr.finish()
    shell.user_ns.update(values)


def _check(parsed: Parsed) -> None:
    for name in _SCRIPT_ONLY:
        if name in parsed.settings:
            option = f"--{name.replace('_', '-')}"
            raise IPythonUsageError(
                f"{option} applies to scripts only; leave out {option} or --python"
            )
    if parsed.operands:
        word = parsed.operands[0]
        raise IPythonUsageError(
            f"{word!r}: --python takes no arguments; use the notebook's variables"
        )


def _show(error: BaseException) -> None:
    """Make IPython show the traceback of the copy instead of that of this process."""
    lines = getattr(error, _SHOWN, None)
    if lines is not None:
        delattr(error, _SHOWN)
        # The copy does not know the notes that the exception got here.
        known = "\n".join(lines)
        notes = [note for note in getattr(error, "__notes__", ()) if note not in known]
        brief(error, *lines, *notes)
    elif isinstance(error, Error):
        brief(error)


# --- in the notebook ---------------------------------------------------------------------------


def _compile(shell: InteractiveShell, cell: str) -> list[CodeType]:
    """Compile the statements of a cell; compile a last expression, to be shown, separately."""
    source: str = shell.transform_cell(cell)  # type: ignore[no-untyped-call]
    name = shell.compile.cache(source)
    flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(source, name, "exec", flags | ast.PyCF_ONLY_AST)
    codes = []
    last: ast.Expression | None = None
    final = tree.body[-1] if tree.body else None
    if isinstance(final, ast.Expr) and not cell.rstrip().endswith(";"):
        tree.body.pop()
        last = ast.Expression(final.value)
    codes.append(compile(tree, name, "exec", flags))
    if last is not None:
        codes.append(compile(last, name, "eval", flags))
    return codes


class _Pump:
    """Passes on the output of a call, in a thread, during a block.

    If that fails, the call is ended, and the block raises the reason.

    Args:
        sources: the outputs.
    """

    def __init__(self, sources: list[Any]) -> None:
        self._sources = sources
        self._interrupt = Interrupt()
        self._failure: Exception | None = None

    def __enter__(self) -> Interrupt:
        """Start the thread; return what ends the call."""
        self._interrupt.begin()
        self._reader, self._writer = pipe()
        # The context identifies the running cell, to which the output belongs.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()
        return self._interrupt

    def _run(self) -> None:
        try:
            pump(self._sources, self._reader)
        except Exception as error:  # noqa: BLE001 - the block raises it
            self._failure = error
            self._interrupt.set()

    def __exit__(self, _kind: object, error: BaseException | None, _frames: object) -> None:
        for source in self._sources:
            source.close_writer()
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)
        self._interrupt.close()
        if self._failure is not None and (error is None or isinstance(error, Exception)):
            raise self._failure from None


# --- in the copy -------------------------------------------------------------------------------


class _Publisher(DisplayPublisher):
    """Sends displayed objects to the notebook."""

    displays: Any = None

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *_source: object,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_others: object,
    ) -> None:
        message = {"data": data, "metadata": metadata or {}, "update": update}
        self.displays.send({**message, "transient": transient or {}})


def _detach(
    shell: InteractiveShell,
    texts: list[Output],
    displays: Displays,
    cwd: str | None,
    env: dict[str, str] | None,
) -> None:
    """Detach the copy from the notebook's front end, which it cannot reach."""
    for number, text in enumerate(texts, 1):
        os.dup2(text.writer, number)
    sys.stdout, sys.stderr = (
        open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - until the process ends
        for number in (1, 2)
    )
    displays.keep_copys_end()
    publisher = _Publisher(shell=shell)  # type: ignore[no-untyped-call]
    publisher.displays = displays
    shell.display_pub = publisher
    builtins.input = getpass.getpass = refuse_input
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)


def _execute(shell: InteractiveShell, codes: list[CodeType], names: list[str]) -> bytes:
    """Run the cell, and return the variables of these names, pickled together."""
    namespace = shell.user_ns
    try:
        for code in codes:
            value = eval(code, namespace)
            if inspect.iscoroutine(value) and code.co_flags & inspect.CO_COROUTINE:
                value = asyncio.run(value)
            if value is not None:
                display(value)  # type: ignore[no-untyped-call]
        # This event shows plots that are still open.
        shell.events.trigger("post_execute")
    except SystemExit:
        raise
    except BaseException as error:
        # Begin the traceback at the cell's own line.
        after = error.__traceback__ and error.__traceback__.tb_next
        _keep(error, shell.InteractiveTB.structured_traceback(type(error), error, after))
        raise
    for name in names:
        if name not in namespace:
            missing = NameError(
                f"--return {name}: there is no such variable after the cell", name=name
            )
            _keep(missing, [f"NameError: {missing}"])
            raise missing
    return _pickled({name: namespace[name] for name in names})


def _pickled(values: dict[str, Any]) -> bytes:
    """Pickle variables; name the one that cannot be pickled.

    Raises:
        CallResultError: a variable cannot be pickled.
    """
    try:
        return dumps_result(values)
    except Exception:
        for name, value in values.items():
            try:
                dumps_result(value)
            except Exception as why:  # noqa: BLE001 - a value's own methods may raise anything
                reason = (
                    f"--return {name}: the variable, of type {type(value).__qualname__}, cannot be "
                    f"pickled, so it stays in the container: {why}. Return a plain value instead"
                )
                refused = CallResultError(reason)
                _keep(refused, [f"CallResultError: {reason}"])
                raise refused from None
        raise


def _keep(error: BaseException, lines: list[str]) -> None:
    """Attach the lines by which IPython shows an exception, for the notebook."""
    # Not every exception takes attributes.
    with contextlib.suppress(AttributeError):
        setattr(error, _SHOWN, lines)
