"""Run a command, or a Python function, in Linux namespaces of its own."""

from minidocker import linux
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

__all__ = [
    "CommandNotFound",
    "Error",
    "NamespaceOptions",
    "Namespaces",
    "NotADirectory",
    "PathNotFound",
    "PermissionDenied",
    "SpawnError",
    "SpecError",
    "UnsupportedPlatformError",
    "linux",
    "namespaces",
]
