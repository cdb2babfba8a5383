"""Start commands with launch options that the public API does not have."""

from typing import Any

from minidocker import CompletedProcess, Popen
from minidocker._run import process
from minidocker._run.launch import Launch
from minidocker._run.run import complete

__all__ = ["IGNORED", "Launch", "run_by", "start_by"]

RUN = ("input", "capture_output", "check")

#: Calls whose failure most launches ignore: a file system or a user namespace may not allow them.
IGNORED = ("fchownat", "fchmodat", "fsetxattr", "utimensat")


def run_by(launch: Launch, args: Any, **options: Any) -> CompletedProcess[Any]:
    """Run a command as `minidocker.run` does, with this launch."""
    own = {name: options.pop(name) for name in RUN if name in options}
    return complete(launch, args, options, **own)


def start_by(launch: Launch, args: Any, **options: Any) -> Popen[Any]:
    """Start a command as `minidocker.Popen` does, with this launch."""
    return process.start(launch, args, options)
