"""``%%minidocker --python``: a cell as Python, in a copy of the notebook's process in a container.

The copy has no way to the notebook's front end: its output comes back through pipes and is shown as
it comes, and what it displays comes back as JSON.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import builtins
import contextlib
import contextvars
import getpass
import inspect
import json
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from IPython.core.display_functions import display
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError as IPythonUsageError

from minidocker._errors import Error
from minidocker._functions.call import isolated
from minidocker._jupyter.cell import keywords, sinks
from minidocker._jupyter.magics import brief
from minidocker._jupyter.pump import outputs, pump

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

    from IPython.core.interactiveshell import InteractiveShell

    from minidocker._jupyter.pump import Output
    from minidocker.cli.parser import Parsed

_OF_SCRIPTS = ("shell", "container", "explain", "no_raise_error")
_SHOWN = "_minidocker_shown"
_CHUNK = 1 << 16


def run_python(shell: InteractiveShell, parsed: Parsed, cell: str) -> None:
    """Run a cell as Python in a container; bring back the variables that ``--return`` names.

    Raises:
        BaseException: what the cell raised.
        minidocker.CallError: it ended in another way.
        minidocker.Error: it could not be started.
        IPython.core.error.UsageError: an option that is about scripts.
    """
    settings = parsed.settings
    _check(parsed)
    code = _compile(shell, cell)
    names = [name for group in settings.get("return", ()) for name in group]
    chosen = keywords(parsed)
    cwd, env = chosen.pop("cwd", None), chosen.pop("env", None)
    stdout, stderr = sinks(shell, settings)
    try:
        with (
            outputs(stdout.write, stderr.write) as texts,
            contextlib.closing(_Displays(shell, texts)) as displays,
            _pumping([*texts, displays]),
        ):

            def inside() -> dict[str, Any]:
                _settle(shell, texts, displays, cwd, env)
                return _execute(shell, code, names)

            values = isolated(timeout=settings.get("timeout"), **chosen)(inside)()
    except BaseException as error:
        _show(error)
        raise
    finally:
        stdout.finish()
        stderr.finish()
    shell.user_ns.update(values)


def _check(parsed: Parsed) -> None:
    for name in _OF_SCRIPTS:
        if name in parsed.settings:
            option = f"--{name.replace('_', '-')}"
            raise IPythonUsageError(f"{option} is about scripts; leave it out, or --python")
    if parsed.operands:
        word = parsed.operands[0]
        raise IPythonUsageError(f"{word!r}: Python takes no arguments: it has the variables")


def _show(error: BaseException) -> None:
    """Have IPython show what the copy would have shown, and not the way back from there."""
    lines = getattr(error, _SHOWN, None)
    if lines is not None:
        delattr(error, _SHOWN)
        brief(error, *lines)
    elif isinstance(error, Error):
        brief(error)


# --- here --------------------------------------------------------------------------------------


def _compile(shell: InteractiveShell, cell: str) -> list[CodeType]:
    """The statements of a cell, and its last expression by itself where it is to be shown."""
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


@contextlib.contextmanager
def _pumping(sources: list[Any]) -> Iterator[None]:
    """Hand on what is written, in a thread, for as long as the block lasts."""
    reader, writer = os.pipe()
    # The output belongs to the cell that runs, which is kept in the context.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(pump, sources, reader), daemon=True)
    thread.start()
    try:
        yield
    finally:
        for source in sources:
            source.close_writer()
        os.close(writer)
        thread.join()
        os.close(reader)


class _Displays:
    """What the copy displays, one line of JSON each; it waits for each to be shown.

    So that text and pictures stay in their order, whichever way they take.
    """

    def __init__(self, shell: InteractiveShell, texts: list[Output]) -> None:
        self._shell = shell
        self._texts = texts
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.reader = self._ours.fileno()
        self._pending = b""

    def receive(self) -> bool:
        """Show what is there; False once there is nothing now, or never again."""
        try:
            data = self._ours.recv(_CHUNK)
        except (BlockingIOError, ConnectionResetError):
            return False
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            for text in self._texts:
                while text.receive():
                    pass
            self._shell.display_pub.publish(**json.loads(line))
            with contextlib.suppress(OSError):
                # It may have ended meanwhile.
                self._ours.send(b"\n")
        return bool(data)

    def settle(self) -> None:
        """In the copy: keep its own end only."""
        self._ours.close()

    def send(self, message: dict[str, Any]) -> None:
        """In the copy: have something shown."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._theirs.sendall(json.dumps(message, default=_encode).encode() + b"\n")
        self._theirs.recv(1)

    def close_writer(self) -> None:
        """Close this process's copy of the copy's end."""
        self._theirs.close()

    def close(self) -> None:
        """Give both ends back."""
        self._theirs.close()
        self._ours.close()


def _encode(value: object) -> str:
    # What notebooks keep pictures as.
    return base64.b64encode(value).decode() if isinstance(value, bytes) else repr(value)


# --- in the copy -------------------------------------------------------------------------------


class _Publisher(DisplayPublisher):
    """Sends what is displayed to the notebook."""

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


def _settle(
    shell: InteractiveShell,
    texts: list[Output],
    displays: _Displays,
    cwd: str | None,
    env: dict[str, str] | None,
) -> None:
    """Let go of the notebook's front end, which cannot be reached from here."""
    for number, text in enumerate(texts, 1):
        os.dup2(text.writer, number)
    sys.stdout, sys.stderr = (
        open(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - until the process ends
        for number in (1, 2)
    )
    displays.settle()
    publisher = _Publisher(shell=shell)  # type: ignore[no-untyped-call]
    publisher.displays = displays
    shell.display_pub = publisher
    builtins.input = getpass.getpass = _nobody_answers
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)


def _nobody_answers(*_args: object, **_kwargs: object) -> NoReturn:
    raise EOFError("nobody types into a cell that runs in a container")


def _execute(shell: InteractiveShell, codes: list[CodeType], names: list[str]) -> dict[str, Any]:
    """Run the cell; the variables of these names."""
    namespace = shell.user_ns
    try:
        for code in codes:
            value = eval(code, namespace)
            if inspect.iscoroutine(value) and code.co_flags & inspect.CO_COROUTINE:
                value = asyncio.run(value)
            if value is not None:
                display(value)  # type: ignore[no-untyped-call]
        # Where plots that are still open are shown.
        shell.events.trigger("post_execute")
    except SystemExit:
        raise
    except BaseException as error:
        # From the cell's own line on.
        after = error.__traceback__ and error.__traceback__.tb_next
        _keep(error, shell.InteractiveTB.structured_traceback(type(error), error, after))
        raise
    for name in names:
        if name not in namespace:
            missing = NameError(f"--return {name}: the cell has made no such variable", name=name)
            _keep(missing, [f"NameError: {missing}"])
            raise missing
    return {name: namespace[name] for name in names}


def _keep(error: BaseException, lines: list[str]) -> None:
    """Send along how IPython would show an exception here."""
    # Not every exception takes attributes.
    with contextlib.suppress(AttributeError):
        setattr(error, _SHOWN, lines)
