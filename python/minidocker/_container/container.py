"""`Container`: namespaces that an idle init keeps alive, and that commands enter."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Self, Unpack

from minidocker._container.joinable import PATIENCE, Joinable, running, send_signal
from minidocker._errors import SpecError
from minidocker._fd import above_stdio, close
from minidocker._inspect import proc
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

_CAP_SYS_PTRACE = 19
_WAIT_SLICE = 0.1
"""Seconds between two looks at the commands during a wait."""


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
        # Held while the descriptor is closed or copied: another thread may see the end too.
        self._descriptor_lock = threading.Lock()
        self._kill_lock = threading.RLock()
        self.spec = Spec.of(spec, options)
        if not (self.spec.namespaces.user or _may_inspect_init()):
            reason = (
                "a plain user cannot enter a Container that shares the user namespace, because the "
                "kernel hides its init: give it a new user namespace, or use run()"
            )
            raise SpecError(reason, option="namespaces", value=self.spec.namespaces)
        if isinstance(self.spec.user, int):
            accounts.single("user", self.spec.user)
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
                started.send_signal(signal.SIGKILL)
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
        return self._status()

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

    def _inside(self) -> Spec:
        return self.spec

    def _is_trusted(self) -> bool:
        return self.spec.profile != "untrusted"

    def _entered(self, process: Popen[Any]) -> None:
        self._commands = [old for old in self._commands if old.poll() is None]
        self._commands.append(process)

    def _is_alive(self) -> bool:
        if self._process is None or self._returncode is not None:
            return False
        self._poll_commands()
        return not self._reap(self._process, block=False)

    def _reap(self, process: _core.Process, *, block: bool) -> bool:
        """Reap the init if it has ended; return whether it has."""
        exited = process.wait(block)
        if exited is None:
            return False
        with self._descriptor_lock:
            if self._returncode is None:
                # The status is lost if another wait of this process reaped the init.
                self._returncode = os.waitstatus_to_exitcode(exited[1] or 0)
                close(self._pidfd)
        return True

    def stop(self, timeout: float = 10) -> None:
        """Send SIGTERM to every process inside, and after the timeout SIGKILL to the others.

        A container that has ended, or was not started, is left alone.

        Args:
            timeout: seconds to wait.

        Raises:
            SpecError: the timeout is not a number of seconds.
        """
        deadline = timeouts.deadline_after(timeouts.seconds(timeout))
        if not self._is_alive():
            return
        if self.status == "paused":
            self.unpause()
        for process in self.processes():
            if process.pid != self._pid:
                send_signal(process.pid, signal.SIGTERM)
        while any(pid != self._pid for pid in running(self.processes())):
            self._poll_commands()
            if deadline is not None and time.monotonic() >= deadline:
                break
            time.sleep(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """Send SIGKILL to every process inside, and reap them; do nothing if it has ended.

        In a fork of the process that started it, send the signals only.

        Raises:
            ProcessLookupError: this process is in a PID namespace that does not show the container.
        """
        if self._process is None:
            return
        # One thread at a time. A fork may have inherited the lock in its locked state.
        with self._kill_lock if self._process.is_ours else contextlib.nullcontext():
            if self._is_alive():
                self._check_visible()
                self._kill(self._process)

    def _kill(self, process: _core.Process) -> None:
        found: set[int] = set()
        if not self.spec.namespaces.pid:
            # The kernel kills every process of a PID namespace with its PID 1, but not these.
            # The init may end meanwhile.
            with contextlib.suppress(ProcessLookupError):
                found = self._kill_all()
            for command in self._commands:
                command._kill_all()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        if not process.is_ours:
            return
        # PID 1 can be reaped only after every process of its namespace, and the commands that
        # entered are children of this process.
        commands, self._commands = self._commands, []
        for command in commands:
            command.wait()
        self._reap(process, block=True)
        for pid in found:
            # An orphan is a child of this process if this process is PID 1 or a subreaper. A leader
            # of a session may be a command, whose status belongs to its Popen.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                if os.getsid(pid) != pid:
                    os.waitpid(pid, os.WNOHANG)

    def _poll_commands(self) -> None:
        """Reap the commands that have ended: the init cannot end before they are reaped."""
        for command in self._commands:
            command.poll()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the container has ended.

        Args:
            timeout: seconds to wait; None: no limit.

        Raises:
            TimeoutError: the container still runs after the timeout.
            SpecError: the timeout is no number of seconds.
        """
        deadline = timeouts.deadline_after(timeouts.seconds(timeout))
        if not self._is_alive():
            return
        with self._descriptor_lock:
            if self._returncode is not None:
                return
            pidfd = above_stdio(os.dup(self._pidfd))
        try:
            while not timeouts.is_ready(pidfd, timeouts.earlier(deadline, _WAIT_SLICE)):
                self._poll_commands()
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"{self!r} still runs after {timeout} seconds")
        finally:
            close(pidfd)
        self._is_alive()

    def __enter__(self) -> Self:
        return self if self._is_alive() else self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # In a fork the container belongs to the parent, which may still use it.
        if self._process is not None and self._process.is_ours:
            self.kill()

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.is_ours and self._returncode is None:
            warnings.warn(f"{self!r} is still running", ResourceWarning, source=self, stacklevel=2)
            self.kill()

    def __repr__(self) -> str:
        name = f" {self.spec.hostname!r}" if self.spec.hostname else ""
        if self._process is None:
            return f"<Container{name} created>"
        state = "running" if self._returncode is None else "exited"
        return f"<Container{name} {state} pid {self._pid}>"


def _may_inspect_init() -> bool:
    """Return whether this process may read the namespaces of an init in its own user namespace.

    The init is not dumpable, so ptrace(2), "access mode checking", demands CAP_SYS_PTRACE.
    """
    return bool(int(proc.status(os.getpid())["CapEff"], 16) >> _CAP_SYS_PTRACE & 1)


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
