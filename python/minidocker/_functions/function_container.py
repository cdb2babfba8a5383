"""The caller's view of a container that runs a function.

Each start method has a module with its kind of `FunctionContainer` and a function ``start`` that
makes one: ``fork.py``, ``spawn.py`` and ``interpreter.py``.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import signal
from typing import TYPE_CHECKING, ClassVar, Protocol

from minidocker._errors import CallError, CallExited, CallKilled, CallLimitExceeded, CallTimeout
from minidocker._functions import descriptors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from minidocker._functions.worker import Task
    from minidocker._run.completed import Usage
    from minidocker._spec.spec import Spec

__all__ = [
    "Ended",
    "FunctionContainer",
    "Starter",
    "death_error",
    "start_timeout",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How the process of a function ended.

    Attributes:
        returncode: its exit status, or the negative number of a signal; None if unknown.
        usage: the resources that it used; None if unknown.
    """

    returncode: int | None
    usage: Usage | None


class FunctionContainer(abc.ABC):
    """A container that runs a function.

    Its owner calls `wait` and `close`, or `abandon`.
    """

    is_ours: ClassVar[bool]
    """Whether this process is its parent. If not, a template reaps it."""

    channel: int = -1
    """A stream socket to the process that runs the function; see ``messages.py``."""

    spec: Spec | None = None
    """The options that it was started with; None: it is unknown."""

    opening: Sequence[bytes] = ()
    """The parts of the messages that the process must receive before any other."""

    @abc.abstractmethod
    def ends(self) -> int:
        """Return a descriptor that becomes readable when the container ends."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill every process of the container; the owner still calls `wait`."""

    @abc.abstractmethod
    def wait(self, *, answered: bool = False) -> Ended:
        """Wait for the end, reap, and close every descriptor except the channel.

        Args:
            answered: whether the function has answered, so the status of its process does not
                matter: for a container whose parent is a template, return at once.
        """

    @abc.abstractmethod
    def abandon(self) -> None:
        """Kill and reap the container, and close every descriptor; may be called again."""

    def close(self) -> None:
        """Close the channel."""
        channel, self.channel = self.channel, -1
        descriptors.release(channel)


class Starter(Protocol):
    """Starts one kind of container: a module's ``start`` with its first arguments bound."""

    def __call__(
        self,
        task: Task | None,
        *,
        outputs: tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> FunctionContainer:
        """Start a container.

        Args:
            task: the container's only task; None: it receives its tasks through the channel.
            outputs: descriptors for its standard output and error; None: it shares this process's.
            timeout: seconds until the container must have started; None: no limit.

        Raises:
            SpecError: an option is wrong on any machine; nothing was created.
            SpawnError: the kernel refused a step; nothing is left.
            CallTimeout: the timeout expired before the container had started.
        """


def start_timeout(timeout: float | None) -> CallTimeout:
    """Return the exception for a container that has not started in time."""
    reason = f"the container did not start within {timeout:g} seconds"
    return CallTimeout(reason, timeout=timeout)


_LIMITS = {
    signal.SIGXCPU: ("ulimits.cpu", "used up the CPU time of RLIMIT_CPU"),
    signal.SIGXFSZ: ("ulimits.fsize", "wrote a file beyond RLIMIT_FSIZE"),
}


def death_error(ended: Ended) -> CallError:
    """Return the exception for a function that ended without an answer."""
    code = ended.returncode
    if code is None:
        return CallError("the function's process ended, and how it ended is unknown")
    if code >= 0:
        return CallExited(f"the function ended its interpreter with exit status {code}", code=code)
    if -code in _LIMITS:
        limit, what = _LIMITS[signal.Signals(-code)]
        return CallLimitExceeded(f"the function {what}, see getrlimit(2)", limit=limit)
    name = str(-code)
    with contextlib.suppress(ValueError):
        name = f"{signal.Signals(-code).name} ({signal.strsignal(-code)})"
    hint = ""
    if -code == signal.SIGKILL:
        hint = (
            ": another process sent it, or the kernel did (out of memory, or the hard limit of "
            "RLIMIT_CPU)"
        )
    elif -code == signal.SIGSYS:
        hint = ": it made a system call that a seccomp filter forbids"
    return CallKilled(f"the function was killed by signal {name}{hint}", signal=-code)
