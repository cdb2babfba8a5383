"""Run a command, or a Python function, in Linux namespaces of its own."""

import os as _os
import sys as _sys

from minidocker import linux
from minidocker._confine import Seccomp
from minidocker._container import AttachedContainer, Container, attach
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
from minidocker._namespaces import NamespaceOptions, Namespaces, namespaces
from minidocker._plan import Plan, PlannedCall, explain
from minidocker._process import CompletedProcess, Popen, Usage, run
from minidocker._spec import Spec

__all__ = [
    "AttachedContainer",
    "CommandNotFound",
    "CompletedProcess",
    "Container",
    "Error",
    "NamespaceOptions",
    "Namespaces",
    "NotADirectory",
    "PathNotFound",
    "PermissionDenied",
    "Plan",
    "PlannedCall",
    "Popen",
    "Seccomp",
    "SpawnError",
    "Spec",
    "SpecError",
    "UnsupportedPlatformError",
    "Usage",
    "attach",
    "explain",
    "linux",
    "namespaces",
    "run",
]

if _sys.platform == "linux":
    from minidocker import _core

    # A forked child shall not hold what its parent keeps: the watchdog would wait for it.
    _os.register_at_fork(after_in_child=_core.forget_parent)
