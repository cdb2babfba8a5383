"""Commands that are started in ways of which the public API knows nothing."""

from typing import Any

from minidocker import CompletedProcess, Popen
from minidocker._run import process
from minidocker._run.launch import Launch
from minidocker._run.run import complete

__all__ = ["Launch", "run_by", "start_by"]

RUN = ("input", "capture_output", "check")


def run_by(launch: Launch, args: Any, **options: Any) -> CompletedProcess[Any]:
    """`minidocker.run` of a command, started by another launch than the plain one."""
    own = {name: options.pop(name) for name in RUN if name in options}
    return complete(launch, args, options, **own)


def start_by(launch: Launch, args: Any, **options: Any) -> Popen[Any]:
    """`minidocker.Popen` of a command, likewise."""
    return process.start(launch, args, options)
