"""`Launch`: the launch parameters that are not public options of `Popen`."""

from __future__ import annotations

import sys

from minidocker._errors import SpawnError
from minidocker._record import record
from minidocker._run import timeouts
from minidocker._spec.unseen import explain_spawn_error

if sys.platform == "linux":
    from minidocker import _core

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from minidocker._spec.spec import Spec

__all__ = ["Launch"]


@record(frozen=True, kw_only=True)
class Launch:
    """Launch parameters; `Popen` uses the default ones, ``Launch()``.

    Args:
        enter: the pid of the container to enter; None: the command gets a new container.
        inside: the options of that container, to explain an error; None: they are unknown.
        timeout: seconds until the command must have been executed; None: no limit.
        trace: a descriptor to which each completed step is written.
        terminal: whether standard input becomes the command's controlling terminal.
        inject: for tests: the number of a call, and the error number with which it fails.

    Raises:
        SpecError: the timeout is not a number of seconds.
    """

    enter: int | None = None
    inside: Spec | None = None
    timeout: float | None = None
    trace: int | None = None
    terminal: bool = False
    inject: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeout", timeouts.seconds(self.timeout))

    def spawn(self, spec: Spec, command: _core.Command | None, owner: object) -> _core.Process:
        """Start a command; None: an idle init.

        ``owner._process`` is set before a signal handler can raise; None: no owner.

        Raises:
            SpecError: an option is wrong on any machine; nothing was created.
            SpawnError: the kernel refused a step; nothing is left.
            _core.DeadlineReached: the timeout expired before the command was executed.
        """
        if self.inside is not None and command is not None:
            _core.warn_of_entering(self.inside.core(), command)
        try:
            return _core.spawn(
                spec.core(),
                command,
                enter=self.enter,
                timeout=self.timeout,
                trace=self.trace,
                inject=self.inject,
                owner=owner,
            )
        except SpawnError as error:
            if self.inside is not None:
                explain_spawn_error(error, self.inside)
            raise
