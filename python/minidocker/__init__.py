"""Run a command, or a Python function, in Linux namespaces of its own."""

import os as _os
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

from minidocker import linux
from minidocker._changes import Changes, changes
from minidocker._confine import Seccomp
from minidocker._container import AttachedContainer, Container, attach
from minidocker._doctor import doctor
from minidocker._errors import (
    CommandNotFound,
    Error,
    NotADirectory,
    PathNotFound,
    PermissionDenied,
    SpawnError,
    SpecError,
    UnsupportedPlatformError,
)
from minidocker._mounts import Mount
from minidocker._namespaces import NamespaceOptions, Namespaces, namespaces
from minidocker._plan import Plan, PlannedCall, explain
from minidocker._process import CompletedProcess, Popen, Usage, run
from minidocker._spec import Spec

if _TYPE_CHECKING:
    from typing import Any as _Any

    from IPython.core.interactiveshell import InteractiveShell as _InteractiveShell

    from minidocker._doctor.report import Report
    from minidocker._view import View

__all__ = [
    "AttachedContainer",
    "Changes",
    "CommandNotFound",
    "CompletedProcess",
    "Container",
    "Error",
    "Mount",
    "NamespaceOptions",
    "Namespaces",
    "NotADirectory",
    "PathNotFound",
    "PermissionDenied",
    "Plan",
    "PlannedCall",
    "Popen",
    "Report",
    "Seccomp",
    "SpawnError",
    "Spec",
    "SpecError",
    "UnsupportedPlatformError",
    "Usage",
    "View",
    "attach",
    "changes",
    "doctor",
    "explain",
    "linux",
    "namespaces",
    "run",
]


def __getattr__(name: str) -> "_Any":
    # Imported when it is asked for first, since few programs do.
    if name == "View":
        from minidocker._view import View  # noqa: PLC0415 - see above

        globals()[name] = View
        return View
    if name == "Report":
        from minidocker._doctor.report import Report  # noqa: PLC0415 - see above

        globals()[name] = Report
        return Report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Register the magics: what ``%load_ext minidocker`` calls; see `minidocker.jupyter`."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Take the magics away again: what ``%unload_ext minidocker`` calls."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.unload_ipython_extension(ipython)


if _sys.platform == "linux":
    from minidocker import _core

    # A forked child shall not hold what its parent keeps: the watchdog would wait for it.
    _os.register_at_fork(
        before=_core.before_fork,
        after_in_parent=_core.after_fork_in_parent,
        after_in_child=_core.after_fork_in_child,
    )
