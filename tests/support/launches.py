"""Start commands with launch options that the public API does not have."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import minidocker
from minidocker import CompletedProcess, Popen, SpawnError
from minidocker._run import process
from minidocker._run.launch import Launch
from minidocker._run.run import complete

__all__ = ["IGNORED", "Launch", "failures", "run_by", "start_by"]

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


def failures(
    args: Any,
    choose: Callable[[list[Any]], Iterable[int]],
    reset: Callable[[], object] = lambda: None,
    **options: Any,
) -> Iterator[tuple[Any, SpawnError | None]]:
    """Make each chosen call of a launch fail; yield it with the error.

    If the launch goes on, the error is `None`, and `reset` removes what it has left. The plan
    follows the mounts of this machine: if another test changes them, begin again.
    """

    def planned() -> list[Any]:
        plan = minidocker.explain(args, **options)
        return [call for call in plan if call.actor != "caller"]

    while True:
        calls = planned()
        for index in choose(calls):
            error = None
            try:
                run_by(Launch(inject=(index, 5)), args, **options)
            except SpawnError as caught:
                error = caught
            else:
                reset()
            if planned() != calls:
                break
            yield calls[index], error
        else:
            return
