"""Containers in Jupyter and IPython: ``%load_ext minidocker``.

``%%minidocker [OPTIONS] [ARG ...]``
    Runs the cell as a shell script in a new container. The options are those of
    ``minidocker run``, and a few of a notebook's own: see ``%%minidocker --help``. What the script
    writes is shown as it comes; an exit status other than 0 is a `subprocess.CalledProcessError`;
    interrupting the kernel ends the container.

``%%minidocker --python [--return NAME[,NAME ...]]``
    Runs the cell as Python, in a copy of the notebook's process in a new container. It has the
    notebook's variables; what it does to them is done in the copy, but for those brought back.

``%minidocker WORD ...``
    ``doctor``, ``explain``, ``inspect``, ``ps``, ``run``, ``exec`` as on the command line, and
    ``view``. What they find is their value, and is shown as such.

IPython is needed only here, and only where it has loaded the extension: ``minidocker[jupyter]``.
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
    """Take them away again."""
    for kind in ("line", "cell"):
        ipython.magics_manager.magics[kind].pop(_NAME, None)


def _magic_cell(ipython: InteractiveShell, line: str, cell: str) -> None:
    from minidocker._jupyter import magics  # noqa: PLC0415 - imported when the magic is used first

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
