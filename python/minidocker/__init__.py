"""Run a command, or a Python function, in Linux namespaces of its own.

Importing this package imports none of its modules; the first access to a name imports the module
that defines it. pytest imports the package in every run, because of `minidocker.pytest_plugin`, and
the command line has to start quickly.
"""

import importlib as _importlib

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell as _InteractiveShell

    from minidocker import aio, linux
    from minidocker._container.attach import AttachedContainer, attach
    from minidocker._container.container import Container
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
        NotReady,
        PathNotFound,
        PermissionDenied,
        SpawnError,
        SpecError,
        UnsupportedPlatformError,
    )
    from minidocker._functions.call import CompletedCall, Isolated, call, isolated
    from minidocker._functions.executor import BrokenContainer, ContainerExecutor
    from minidocker._inspect.changes import Changes, changes
    from minidocker._inspect.namespaces import Namespaces, namespaces
    from minidocker._inspect.view import View
    from minidocker._run.completed import CompletedProcess, Usage
    from minidocker._run.explain import Plan, PlannedCall, explain
    from minidocker._run.process import Popen
    from minidocker._run.run import run
    from minidocker._spec.confine import Seccomp
    from minidocker._spec.mounts import Mount
    from minidocker._spec.namespaces import NamespaceOptions
    from minidocker._spec.spec import Spec

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
    "NotReady",
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
    "aio",
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
    "_container.attach": "AttachedContainer attach",
    "_container.container": "Container",
    "_doctor": "doctor",
    "_doctor.report": "Report",
    "_errors": (
        "CallError CallExited CallFailed CallKilled CallLimitExceeded CallResultError "
        "CallTimeout CommandNotFound Error NotADirectory NotReady PathNotFound PermissionDenied "
        "SpawnError SpecError UnsupportedPlatformError"
    ),
    "_functions.call": "CompletedCall Isolated call isolated",
    "_functions.executor": "BrokenContainer ContainerExecutor",
    "_inspect.changes": "Changes changes",
    "_inspect.namespaces": "Namespaces namespaces",
    "_inspect.view": "View",
    "_run.completed": "CompletedProcess Usage",
    "_run.explain": "Plan PlannedCall explain",
    "_run.process": "Popen",
    "_run.run": "run",
    "_spec.confine": "Seccomp",
    "_spec.mounts": "Mount",
    "_spec.namespaces": "NamespaceOptions",
    "_spec.spec": "Spec",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            module = _importlib.import_module(f"minidocker.{_HOMES[name]}")
            value = globals()[name] = getattr(module, name)
            return value
        if name in ("aio", "linux"):
            return _importlib.import_module(f"minidocker.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Register the magics. ``%load_ext minidocker`` calls this; see `minidocker.jupyter`."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.load_ipython_extension(ipython)


def unload_ipython_extension(ipython: "_InteractiveShell") -> None:
    """Remove the magics. ``%unload_ext minidocker`` calls this."""
    from minidocker import jupyter  # noqa: PLC0415 - only a notebook needs it

    jupyter.unload_ipython_extension(ipython)
