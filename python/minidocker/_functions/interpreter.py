"""Start a function in a fresh interpreter, which is executed in the container.

`Container.call` uses it, and so does the start method "spawn" if the container shares another one's
network: processes in that container could trace a copy of this process or of a template while it
enters, and read its memory.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from minidocker._errors import CallError
from minidocker._fd import pidfd_open, socket_pair
from minidocker._functions import descriptors, worker
from minidocker._functions.function_container import Ended, FunctionContainer, start_timeout
from minidocker._run.launch import Launch

if TYPE_CHECKING:
    from minidocker._functions.worker import Task
    from minidocker._run.process import Popen, Start
    from minidocker._spec.spec import Spec

__all__ = ["InterpreterContainer", "command_line", "start"]


def start(
    execute: Start,
    task: Task | None,
    *,
    preload: tuple[str, ...] = (),
    trusted: bool = False,
    spec: Spec | None = None,
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
) -> InterpreterContainer:
    """Start a fresh interpreter in a container; see `function_container.Starter`.

    Args:
        execute: starts the command, as `minidocker._run.process.start` does.
        task: see `function_container.Starter`.
        preload: the modules that the interpreter imports first.
        trusted: whether the function gets the key of `multiprocessing`.
        spec: the options of the container; None: they are unknown.
        outputs: see `function_container.Starter`.
        timeout: seconds until the interpreter must have been executed; None: no limit.
    """
    opening = worker.Context.here(authkey=worker.authkey() if trusted else None).message()
    if task is not None:
        opening += task.message(last=True)
    ours, theirs = socket_pair()
    descriptors.hold(ours.fileno())
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from minidocker._functions.worker import main; "
        f"main({theirs.fileno()}, {sys.path!r}, {preload!r})"
    )
    try:
        with theirs:
            options = {
                "stdin": subprocess.DEVNULL,
                "stdout": outputs[0] if outputs else None,
                "stderr": outputs[1] if outputs else None,
                "pass_fds": [theirs.fileno()],
            }
            process = execute(Launch(timeout=timeout), command_line("-c", code), options)
    except BaseException as error:
        descriptors.release(ours.detach())
        if isinstance(error, subprocess.TimeoutExpired):
            raise start_timeout(timeout) from None
        raise
    return InterpreterContainer(process, ours.detach(), opening, spec)


class InterpreterContainer(FunctionContainer):
    """A container whose process is a fresh interpreter."""

    is_ours = True

    def __init__(
        self, process: Popen[Any], channel: int, opening: list[bytes], spec: Spec | None
    ) -> None:
        self.spec = spec
        self.channel = channel
        self.opening = opening
        self._process = process
        try:
            self._pidfd = pidfd_open(process.pid)
        except OSError:
            process._end()
            self.close()
            raise
        descriptors.hold(self._pidfd)

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        self._process._end()

    def wait(self, *, answered: bool = False) -> Ended:  # noqa: ARG002 - this process reaps it anyway
        returncode = self._process.wait()
        self._release()
        return Ended(returncode, self._process.usage)

    def abandon(self) -> None:
        self._process._end()
        self._release()
        self.close()

    def _release(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        descriptors.release(pidfd)


def command_line(*args: str) -> list[str]:
    """Return the command line of this interpreter, with the flags that it was started with."""
    if not sys.executable:
        raise CallError("cannot start another interpreter, because sys.executable is empty")
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, *args]
