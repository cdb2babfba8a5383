"""A copy of a Jupyter kernel, which cannot reach the notebook's front end.

The kernel's sockets belong to threads that the copy lacks. A message through them waits for a
connection to the kernel, which a container without a network cannot make.
"""

from __future__ import annotations

import builtins
import contextlib
import getpass
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["after_interrupt", "leave", "refuse_input"]


def leave(*before: Any) -> None:
    """Detach a copy from the front end, if this process was a kernel.

    Objects that it displays appear as text, and other messages are dropped.

    Args:
        *before: the kernel's standard output and error. Other objects, such as the handlers of
            `logging`, may still write to them.
    """
    kernelapp: Any = sys.modules.get("ipykernel.kernelapp")
    if kernelapp is None or not kernelapp.IPKernelApp.initialized():
        return
    app = kernelapp.IPKernelApp.instance()
    app.iopub_thread.schedule = app.iopub_thread.send_multipart = _drop
    for stream, now in zip(before, (sys.stdout, sys.stderr), strict=False):
        if stream is not now:
            # A stream written in C takes no attributes, and needs no connection.
            with contextlib.suppress(AttributeError):
                stream.write, stream.flush = now.write, now.flush
    if app.shell is not None:
        from IPython.core.displaypub import DisplayPublisher  # noqa: PLC0415 - in a kernel only

        app.shell.display_pub = DisplayPublisher(shell=app.shell)  # type: ignore[no-untyped-call]
    builtins.input = getpass.getpass = refuse_input


def after_interrupt(act: Callable[[], None]) -> None:
    """Have IPython, if it runs, call a function after each cell that a Ctrl-C interrupts.

    Args:
        act: the function; a second registration does nothing.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None:
        return
    if act in _acts:
        return
    _acts.append(act)

    def ended(result: Any) -> None:
        if isinstance(result.error_in_exec, KeyboardInterrupt):
            act()

    shell.events.register("post_run_cell", ended)


_acts: list[Callable[[], None]] = []


def _drop(*_args: object, **_kwargs: object) -> None:
    """Do not send a message."""


def refuse_input(*_args: object, **_kwargs: object) -> NoReturn:
    """Report an end of file, as reading from an empty standard input does."""
    raise EOFError("a cell in a container has no input")
