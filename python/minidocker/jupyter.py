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
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_NAME = "minidocker"


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Register ``%minidocker`` and ``%%minidocker``."""
    ipython.magics_manager.register_function(
        functools.partial(_magic_line, ipython), magic_kind="line", magic_name=_NAME
    )
    ipython.magics_manager.register_function(
        functools.partial(_magic_cell, ipython), magic_kind="cell", magic_name=_NAME
    )


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Remove ``%minidocker`` and ``%%minidocker``."""
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop(_NAME, None)


def _magic_cell(ipython: InteractiveShell, line: str, cell: str) -> None:
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
    from minidocker._jupyter import magics  # noqa: PLC0415 - likewise
    from minidocker._jupyter.line import command, perform  # noqa: PLC0415 - likewise

    name, *rest = magics.words(line) or ["--help"]
    if name == "--help":
        print(magics.overview(), end="")
        return None
    parsed = magics.read(command(name), rest)
    return None if parsed is None else perform(ipython, parsed)
