"""Run a command, or a Python function, in Linux namespaces of its own."""

import os as _os
import sys as _sys
from typing import TYPE_CHECKING as _TYPE_CHECKING

from minidocker import linux
from minidocker._call import CompletedCall, Isolated, call, isolated
from minidocker._changes import Changes, changes
from minidocker._container import AttachedContainer, Container, attach
from minidocker._doctor import doctor
from minidocker._errors import (
    CallError,
    CallExited,
    CallFailed,
    CallKilled,
    CallLimitExceeded,
    CallResultError,
    CallTimeout,
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
    from minidocker._executor import BrokenContainer, ContainerExecutor
    from minidocker._view import View

__all__ = [
    "AttachedContainer",
    "BrokenContainer",
    "CallError",
    "CallExited",
    "CallFailed",
    "CallKilled",
    "CallLimitExceeded",
    "CallResultError",
    "CallTimeout",
    "Changes",
    "CommandNotFound",
    "CompletedCall",
    "CompletedProcess",
    "Container",
    "ContainerExecutor",
    "Error",
    "Isolated",
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
    "SpawnError",
    "Spec",
    "SpecError",
    "UnsupportedPlatformError",
    "Usage",
    "View",
    "attach",
    "call",
    "changes",
    "doctor",
    "explain",
    "isolated",
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
    if name in ("BrokenContainer", "ContainerExecutor"):
        from minidocker import _executor  # noqa: PLC0415 - see above

        value = globals()[name] = getattr(_executor, name)
        return value
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
