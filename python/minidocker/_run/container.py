"""A container that lives: namespaces held by an idle init, which commands enter."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Self, Unpack

from minidocker._errors import SpecError
from minidocker._inspect.changes import Changes, changes
from minidocker._run.joinable import PATIENCE, Joinable, is_stopped, send_signal
from minidocker._spec import accounts, confine
from minidocker._spec.spec import Spec

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from types import TracebackType

    from minidocker._run.process import Popen
    from minidocker._spec.spec import SpecOptions

__all__ = ["Container"]


class Container(Joinable):
    """A container that lives until it is stopped; commands enter it.

    ::

        with minidocker.Container(hostname="db") as box:
            box.run(["ip", "addr"], check=True)

    An idle init, which reaps orphans, holds the namespaces. Leaving the ``with`` block ends every
    process inside.

    Args:
        spec: the container; a field of `Spec` given as a keyword overrides that one field. ``init``
            is always the tiny one, and ``user`` is who commands are inside unless they say else.

    Raises:
        SpecError: wrong on any machine; nothing was created.
        SpawnError: from `start`: the kernel refused a step; nothing is left.
    """

    def __init__(self, *, spec: Spec | None = None, **options: Unpack[SpecOptions]) -> None:
        self._process: _core.Process | None = None
        self._returncode: int | None = None
        self._commands: list[Popen[Any]] = []
        self.spec = Spec.of(spec, options)
        if self.spec.network is None or isinstance(self.spec.network, str):
            # Wrong options are refused here, before anything is started.
            _core.plan_lines(self.spec.core(), None)

    def start(self) -> Self:
        """Start the container, and return it.

        Raises:
            SpawnError: the kernel refused a step; nothing is left.
        """
        if self._is_alive():
            raise SpecError(f"{self!r} runs already: use it, or make another")
        self._process = None
        try:
            process = _core.spawn(_with_user_mapped(self.spec).core(), None, owner=self)
            self._open(process.pid)
        except BaseException:
            # Whatever came between, a signal handler's exception too: nobody will know of it.
            started = getattr(self, "_process", None)
            if started is not None:
                os.kill(started.pid, signal.SIGKILL)
                started.wait(block=True)
                self._process = None
            raise
        self._returncode = None
        return self

    @property
    def status(self) -> str:
        """``"created"``, ``"running"``, ``"paused"`` or ``"exited"``, as docker has it."""
        if self._process is None:
            return "created"
        if not self._is_alive():
            return "exited"
        return "paused" if is_stopped(self._pid) else "running"

    def changes(self) -> Changes:
        """What the container has added, changed and deleted so far, as ``docker diff`` has it.

        Raises:
            SpecError: nothing is kept, since ``overlay`` is not a directory.
        """
        layer = self.spec.overlay
        if isinstance(layer, bool):
            reason = "its writes are kept nowhere: give the container a directory as overlay"
            raise SpecError(reason, option="overlay", value=layer)
        return changes(layer, rootfs=self.spec.rootfs)

    def _entering(self, options: dict[str, Any]) -> dict[str, Any]:
        if self.spec.user is not None:
            options.setdefault("user", self.spec.user)
        for name in confine.OPTIONS:
            options.setdefault(name, getattr(self.spec, name))
        options.setdefault("die_with_parent", self.spec.die_with_parent)
        return super()._entering(options)

    def _entered(self, process: Popen[Any]) -> None:
        self._commands = [old for old in self._commands if old.poll() is None]
        self._commands.append(process)

    def _is_alive(self) -> bool:
        if self._process is None or self._returncode is not None:
            return False
        return not self._reap(self._process, block=False)

    def _reap(self, process: _core.Process, *, block: bool) -> bool:
        """Whether it has ended, and has been reaped."""
        exited = process.wait(block)
        if exited is None:
            return False
        # Where somebody else reaped it, the status is lost.
        self._returncode = os.waitstatus_to_exitcode(exited[1] or 0)
        os.close(self._pidfd)
        return True

    def stop(self, timeout: float = 10) -> None:
        """Ask every process inside to end (SIGTERM), and kill what is left when the time is up.

        Args:
            timeout: seconds to wait.
        """
        if not self._is_alive():
            return
        deadline = time.monotonic() + timeout
        if self.status == "paused":
            self.unpause()
        for process in self.processes():
            if process.pid != self._pid:
                send_signal(process.pid, signal.SIGTERM)
        while any(process.pid != self._pid for process in self.processes()):
            for command in self._commands:
                command.poll()
            if time.monotonic() >= deadline:
                break
            time.sleep(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """End every process inside, at once."""
        if self._process is None or not self._is_alive():
            return
        if self.spec.namespaces.pid:
            # The kernel ends every process of a PID namespace with its PID 1, and PID 1 can only
            # be reaped when all of them have been: those that entered are children of this process.
            os.kill(self._pid, signal.SIGKILL)
            self._reap_commands()
        else:
            self._kill_all()
            self._reap_commands()
        self._reap(self._process, block=True)

    def _reap_commands(self) -> None:
        for command in self._commands:
            command.wait()
        self._commands.clear()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the container has ended.

        Raises:
            TimeoutError: it still runs when the time, in seconds, is up.
        """
        if not self._is_alive():
            return
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
            raise TimeoutError(f"{self!r} still runs after {timeout} seconds")
        self._is_alive()

    def __enter__(self) -> Self:
        return self if self._is_alive() else self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None and self._returncode is None:
            warnings.warn(f"{self!r} is still running", ResourceWarning, source=self, stacklevel=2)
            self.kill()

    def __repr__(self) -> str:
        name = f" {self.spec.hostname!r}" if self.spec.hostname else ""
        if self._process is None:
            return f"<Container{name} created>"
        state = "running" if self._returncode is None else "exited"
        return f"<Container{name} {state} pid {self._pid}>"


def _with_user_mapped(spec: Spec) -> Spec:
    """For a plain caller without maps: the one row of each is who the commands are, as in `run`.

    The idle init that holds the container is nobody in particular, so that nothing else says so.
    """
    shared = not (spec.network is None or isinstance(spec.network, str))
    if spec.user is None or os.geteuid() == 0 or shared or not spec.namespaces.user:
        return spec
    uid, gid = accounts.ids(spec.user, rootfs=spec.rootfs)
    maps: dict[str, Any] = {}
    if spec.uid_map is None and uid is not None:
        maps["uid_map"] = [(uid, os.geteuid(), 1)]
    if spec.gid_map is None and gid is not None:
        maps["gid_map"] = [(gid, os.getegid(), 1)]
    return Spec.of(spec, maps)
