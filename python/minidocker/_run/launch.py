"""How a command is started, beyond what `Popen` lets its caller say."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from minidocker._spec.spec import Spec

__all__ = ["Launch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """One way to start a command; `Popen` uses the plain one, ``Launch()``.

    Args:
        enter: the pid of a container that the command enters.
        timeout: seconds until the command must have been executed.
        trace: a descriptor that each step is written to when it is done.
        terminal: whether standard input is to be the command's controlling terminal.
        inject: for tests: the call of that number fails with that error number.
    """

    enter: int | None = None
    timeout: float | None = None
    trace: int | None = None
    terminal: bool = False
    inject: tuple[int, int] | None = None

    def spawn(self, spec: Spec, command: _core.Command, owner: object) -> _core.Process:
        """Start a command, and make the process ``owner._process`` before anything can interrupt.

        Raises:
            SpecError: wrong on any machine; nothing was created.
            SpawnError: the kernel refused a step; nothing is left.
            _core.DeadlineReached: the time was up before the command was executed.
        """
        return _core.spawn(
            spec.core(),
            command,
            enter=self.enter,
            timeout=self.timeout,
            trace=self.trace,
            inject=self.inject,
            owner=owner,
        )
