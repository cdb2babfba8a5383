"""Containers in Jupyter and IPython: ``%load_ext minidocker``.

``%%minidocker [OPTIONS] [ARG ...]``
    Runs the cell as a shell script in a new container. The options are those of
    ``minidocker run`` and some for notebooks only: see ``%%minidocker --help``. The output of the
    script appears at once. An exit status other than 0 raises `subprocess.CalledProcessError`.
    Interrupting the kernel kills the container.

``%%minidocker --python [--return NAME[,NAME ...]]``
    Runs the cell as Python, in a copy of the notebook's process in a new container. The copy has
    the notebook's variables. Its changes are lost, except for the variables named by ``--return``.

``%minidocker WORD ...``
    Runs ``doctor``, ``explain``, ``inspect``, ``ps``, ``run`` or ``exec`` as on the command line,
    or ``view``. The result is the value of the line.

Only this extension needs IPython: install ``minidocker[jupyter]``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_NAME = "minidocker"


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Register ``%minidocker`` and ``%%minidocker``."""
    for kind, magic in (("line", _magic_line), ("cell", _magic_cell)):
        ipython.magics_manager.register_function(
            _bound(ipython, magic), magic_kind=kind, magic_name=_NAME
        )


def _bound(ipython: InteractiveShell, magic: Callable[..., Any]) -> Callable[..., Any]:
    """Return a magic of this shell, with the docstring that ``%minidocker?`` shows."""

    # Not a functools.partial: IPython would show the docstring of that class.
    @functools.wraps(magic)
    def bound(*text: str) -> Any:
        return magic(ipython, *text)

    # Otherwise IPython would show the signature with the shell.
    del bound.__wrapped__
    return bound


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Remove ``%minidocker`` and ``%%minidocker``."""
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop(_NAME, None)


def _magic_cell(ipython: InteractiveShell, line: str, cell: str) -> None:
    """Run the cell in a new container: ``%%minidocker [OPTIONS] [ARG ...]``.

    The cell is a shell script, whose output appears at once, and ``ARG ...`` are its arguments.
    With ``--python`` it is Python, in a copy of the notebook's process, and ``--return NAME``
    brings a variable back. The options are those of ``minidocker run``: see
    ``%%minidocker --help``, with a cell below it.
    """
    from minidocker._jupyter import magics  # noqa: PLC0415 - imported when a magic is first used

    parsed = magics.read(magics.CELL, magics.words(line))
    if parsed is None:
        return
    if parsed.settings.get("python"):
        from minidocker._jupyter.cell_python import run_python  # noqa: PLC0415 - likewise

        run_python(ipython, parsed, cell)
    else:
        from minidocker._jupyter.cell import run_script  # noqa: PLC0415 - likewise

        run_script(ipython, parsed, cell)


def _magic_line(ipython: InteractiveShell, line: str) -> Any:
    """Run a subcommand of minidocker, and return its result: ``%minidocker WORD ...``.

    ``%minidocker`` alone lists the subcommands, and ``%minidocker WORD --help`` shows the options
    of one.
    """
    from minidocker._jupyter import magics  # noqa: PLC0415 - likewise
    from minidocker._jupyter.line import command, perform  # noqa: PLC0415 - likewise

    name, *rest = magics.words(line) or ["--help"]
    if name == "--help":
        print(magics.overview(), end="")
        return None
    parsed = magics.read(command(name), rest)
    return None if parsed is None else perform(ipython, parsed)
