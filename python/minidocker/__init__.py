"""Run a command, or a Python function, in Linux namespaces of its own.

Each name is imported from its module when it is first asked for: pytest imports this package in
every run, for the sake of `minidocker.pytest_plugin`, and a command line is started often.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell as _InteractiveShell

    from minidocker import linux
    from minidocker._attach import AttachedContainer, attach
    from minidocker._call import CompletedCall, Isolated, call, isolated
    from minidocker._changes import Changes, changes
    from minidocker._confine import Seccomp
    from minidocker._container import Container
    from minidocker._doctor import doctor
    from minidocker._doctor.report import Report
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
    from minidocker._executor import BrokenContainer, ContainerExecutor
    from minidocker._mounts import Mount
    from minidocker._namespaces import NamespaceOptions, Namespaces, namespaces
    from minidocker._plan import Plan, PlannedCall, explain
    from minidocker._process import CompletedProcess, Popen, Usage, run
    from minidocker._spec import Spec
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
    "Seccomp",
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

_MODULES = {
    "_attach": "AttachedContainer attach",
    "_call": "CompletedCall Isolated call isolated",
    "_changes": "Changes changes",
    "_confine": "Seccomp",
    "_container": "Container",
    "_doctor": "doctor",
    "_doctor.report": "Report",
    "_errors": (
        "CallError CallExited CallFailed CallKilled CallLimitExceeded CallResultError "
        "CallTimeout CommandNotFound Error NotADirectory PathNotFound PermissionDenied "
        "SpawnError SpecError UnsupportedPlatformError"
    ),
    "_executor": "BrokenContainer ContainerExecutor",
    "_mounts": "Mount",
    "_namespaces": "NamespaceOptions Namespaces namespaces",
    "_plan": "Plan PlannedCall explain",
    "_process": "CompletedProcess Popen Usage run",
    "_spec": "Spec",
    "_view": "View",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

if not _TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            module = _importlib.import_module(f"minidocker.{_HOMES[name]}")
            value = globals()[name] = getattr(module, name)
            return value
        if name == "linux":
            return _importlib.import_module("minidocker.linux")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Register the magics: what ``%load_ext minidocker`` calls; see `minidocker.jupyter`."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Take the magics away again: what ``%unload_ext minidocker`` calls."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.unload_ipython_extension(ipython)
