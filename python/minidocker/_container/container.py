"""`Container`: namespaces that an idle init keeps alive, and that commands enter."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, Self, Unpack

from minidocker._container.joinable import PATIENCE, Joinable, is_stopped, send_signal
from minidocker._errors import SpecError
from minidocker._inspect.changes import Changes, changes
from minidocker._run import timeouts
from minidocker._run.launch import Launch
from minidocker._spec import accounts, confine
from minidocker._spec.spec import Spec

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from minidocker._run.process import Popen
    from minidocker._spec.typed import SpecOptions

__all__ = ["Container"]


class Container(Joinable):
    """A container that runs until it is stopped, and that commands enter.

    ::

        with minidocker.Container(hostname="db") as box:
            box.run(["ip", "addr"], check=True)

    An idle init keeps the namespaces alive and reaps orphans. The ``with`` block starts the
    container, and its end kills every process inside.

    Args:
        spec: the container; a field of `Spec` given as a keyword overrides that one field. ``init``
            has no effect, because PID 1 is always the idle init. ``user`` is the default user of
            the commands.
        **options: the fields of `Spec`.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created.
    """

    def __init__(self, *, spec: Spec | None = None, **options: Unpack[SpecOptions]) -> None:
        self._process: _core.Process | None = None
        self._returncode: int | None = None
        self._commands: list[Popen[Any]] = []
        self.spec = Spec.of(spec, options)
        if self.spec.network is None or isinstance(self.spec.network, str):
            # Refuse wrong options here and not in start().
            _core.plan_lines(self.spec.core(), None)

    def start(self) -> Self:
        """Start the container, and return it.

        Raises:
            SpecError: it is already running.
            SpawnError: the kernel refused a step; nothing is left.
        """
        if self._is_alive():
            raise SpecError(f"{self!r} is already running: use it, or make another")
        self._process = None
        try:
            process = Launch().spawn(_with_user_mapped(self.spec), None, owner=self)
            self._open(process.pid)
        except BaseException:
            # A signal handler, too, may raise after the launch. The caller gets no container then,
            # so end it here.
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
        """The state: ``"created"``, ``"running"``, ``"paused"`` or ``"exited"``, as in docker."""
        if self._process is None:
            return "created"
        if not self._is_alive():
            return "exited"
        return "paused" if is_stopped(self._pid) else "running"

    def changes(self) -> Changes:
        """Return the files that the container has added, changed and deleted, as ``docker diff``.

        Raises:
            SpecError: ``overlay`` is not a directory, so no writes are kept.
        """
        layer = self.spec.overlay
        if isinstance(layer, bool):
            reason = "no directory keeps the writes: give the container a directory as overlay"
            raise SpecError(reason, option="overlay", value=layer)
        return changes(layer, rootfs=self.spec.rootfs)

    def _entering(self, options: dict[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
        if self.spec.user is not None:
            options.setdefault("user", self.spec.user)
        for name in confine.OPTIONS:
            options.setdefault(name, getattr(self.spec, name))
        options.setdefault("die_with_parent", self.spec.die_with_parent)
        return super()._entering(options, others)

    def _is_trusted(self) -> bool:
        return self.spec.profile != "untrusted"

    def _entered(self, process: Popen[Any]) -> None:
        self._commands = [old for old in self._commands if old.poll() is None]
        self._commands.append(process)

    def _is_alive(self) -> bool:
        if self._process is None or self._returncode is not None:
            return False
        return not self._reap(self._process, block=False)

    def _reap(self, process: _core.Process, *, block: bool) -> bool:
        """Reap the init if it has ended; return whether it has."""
        exited = process.wait(block)
        if exited is None:
            return False
        # The status is lost if another wait of this process reaped the init.
        self._returncode = os.waitstatus_to_exitcode(exited[1] or 0)
        os.close(self._pidfd)
        return True

    def stop(self, timeout: float = 10) -> None:
        """Send SIGTERM to every process inside, and after the timeout SIGKILL to the others.

        A container that has ended, or was not started, is left alone.

        Args:
            timeout: seconds to wait.

        Raises:
            SpecError: the timeout is not a number of seconds.
        """
        if not self._is_alive():
            return
        deadline = timeouts.deadline_after(timeouts.seconds(timeout))
        if self.status == "paused":
            self.unpause()
        for process in self.processes():
            if process.pid != self._pid:
                send_signal(process.pid, signal.SIGTERM)
        while any(process.pid != self._pid for process in self.processes()):
            for command in self._commands:
                command.poll()
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL to every process inside, and reap them; do nothing if it has ended."""
        if self._process is None or not self._is_alive():
            return
        if self.spec.namespaces.pid:
            # The kernel kills every process of a PID namespace with its PID 1. PID 1 can be reaped
            # only after all of them, and the commands that entered are children of this process.
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

        Args:
            timeout: seconds to wait; None: no limit.

        Raises:
            TimeoutError: the container still runs after the timeout.
        """
        if not self._is_alive():
            return
        deadline = timeouts.deadline_after(timeouts.seconds(timeout))
        if not timeouts.is_ready(self._pidfd, deadline):
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
    """Map the user of the commands for a plain caller without maps, as `run` does.

    `run` takes the user for the one row of the map from the command, but the idle init has no user
    of its own.
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
