"""A container that lives: namespaces held by an idle init, which commands enter."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack

from minidocker._errors import SpecError
from minidocker._inspect import proc
from minidocker._inspect.changes import Changes, changes
from minidocker._inspect.namespaces import namespaces
from minidocker._run.process import CompletedProcess, Popen, run
from minidocker._spec import accounts, confine
from minidocker._spec.namespaces import NamespaceOptions
from minidocker._spec.options import SUBPROCESS_KEYWORDS, SpecOptions
from minidocker._spec.spec import Spec

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from minidocker._inspect.namespaces import Namespaces
    from minidocker._inspect.proc import Process
    from minidocker._inspect.view import View
    from minidocker._spec.namespaces import Kind

__all__ = ["Container"]

T = TypeVar("T")

_SHARED = NamespaceOptions.none()
_ENTERING = frozenset({*SUBPROCESS_KEYWORDS, *confine.OPTIONS, "die_with_parent"})
_PRIVATE = frozenset({"_trace", "_terminal", "_timeout", "_inject"})
# How often the processes of a container are looked for again, since they may fork meanwhile.
_ROUNDS = 100
_PATIENCE = 0.01


class _Namespaces:
    """The namespaces of a process on this machine, and what can be done with them."""

    _pidfd: int
    _pid: int

    def _open(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._pid = pid

    @property
    def pid(self) -> int:
        """The pid of the container's first process, as this process sees it.

        Raises:
            ProcessLookupError: it has not been started, or it has ended.
        """
        if not self._is_alive():
            raise ProcessLookupError(f"{self!r} does not run: start it")
        return self._pid

    def _is_alive(self) -> bool:
        raise NotImplementedError

    def run(self, args: Any, **options: Any) -> CompletedProcess:
        """Run a command in the container, as ``docker exec`` does, with the meaning of `run`.

        Args:
            args: the command.
            **options: the keywords of `subprocess.run`; ``cwd``, ``env``, ``user``, ``group`` speak
                of the inside. ``die_with_parent`` and what confines a process (``profile``,
                ``cap_add``, ``cap_drop``, ``no_new_privileges``, ``seccomp``, ``ulimits``) as in
                `Spec`: a `Container`'s own unless they are given, nothing for one that was
                attached to. What a profile does to files is the container's, not the command's.

        Raises:
            SpecError: an option that belongs to the container, which runs already.
            SpawnError: the kernel refused a step; `PermissionDenied` where the container belongs to
                somebody else.
        """
        timeouts = {"input", "capture_output", "timeout", "check"}
        own = {name: options.pop(name) for name in timeouts & options.keys()}
        return run(args, **own, **self._entering(options))

    def popen(self, args: Any, **options: Any) -> Popen:
        """Start a command in the container, with the meaning of `subprocess.Popen`."""
        process = Popen(args, **self._entering(options))
        self._entered(process)
        return process

    def call(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function in the container, and return its value.

        It runs in a fresh interpreter, started there with this process's environment and import
        path, so the interpreter and what is imported have to exist inside. The function and its
        arguments are pickled, with cloudpickle where it is installed and needed. It is never a copy
        of this process that enters, since whoever is inside could read its memory.

        What comes back is unpickled here, and processes inside that may trace the interpreter
        (ptrace(2)) can change it: do not call functions where code runs that is not trusted.

        Args:
            function: what is called.
            *args: its arguments.
            **kwargs: its keyword arguments.

        Raises:
            BaseException: whatever the function raised, with the remote traceback as its
                ``__cause__``.
            CallExited: it ended its interpreter.
            CallKilled: a signal ended it.
            CallLimitExceeded: a resource limit did.
            CallResultError: its value, or its exception, cannot be brought back.
            ProcessLookupError: the container does not run.
            SpawnError: the kernel refused a step; `CommandNotFound` where there is no such
                interpreter inside.
        """
        from minidocker._functions.call import enter  # noqa: PLC0415 - only who calls functions needs it

        return enter(self.popen, function, args, kwargs)

    def _entered(self, process: Popen) -> None:
        """Take note of a command that was started inside."""

    def _entering(self, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name not in _ENTERING and name not in _PRIVATE:
                reason = "it belongs to the container, which runs already: give it to Container()"
                raise SpecError(reason, option=name, value=value)
        return {**options, "namespaces": _SHARED, "_enter": self.pid}

    def namespaces(self) -> Namespaces:
        """The inode of each namespace that the container is in."""
        return namespaces(self.pid)

    def _own_kinds(self) -> list[Kind]:
        """The kinds of namespace that are not this process's."""
        theirs, ours = self.namespaces(), namespaces()
        shared = theirs.shared_with(ours)
        return [kind for kind in theirs if kind not in shared]

    def processes(self) -> list[Process]:
        """The processes inside: pid out here, pid inside, command.

        Those of the container's PID namespace, or, where that is shared, those that are in its
        other namespaces.
        """
        mark = self._mark()
        if mark is None:
            return [proc.Process(self.pid, self.pid, proc.command(self.pid))]
        return _processes_of(*mark)

    def _mark(self) -> tuple[Kind, int] | None:
        """The namespace that tells the container's processes from others; None: all are shared."""
        kinds = self._own_kinds()
        if not kinds:
            return None
        kind = next((kind for kind in ("pid", "user") if kind in kinds), kinds[0])
        return kind, self.namespaces()[kind]

    def view(self) -> View:
        """Return the host's view beside the container's: the live system, looked at once.

        In Jupyter it is a picture of both sides, and printed the same in plain text.

        Raises:
            ProcessLookupError: it does not run.
            PermissionError: it belongs to somebody else.
        """
        from minidocker._inspect.view import look  # noqa: PLC0415 - only who looks needs it

        return look(self.pid, self.processes())

    def _repr_html_(self) -> str:
        from minidocker._inspect.html import escape, table  # noqa: PLC0415 - only a notebook needs it

        title = repr(self)
        try:
            processes = self.processes()
            theirs = self.namespaces()
        except ProcessLookupError:
            # It does not run, or it has just ended.
            return f"<b>{escape(title)}</b>"
        shared = theirs.shared_with(namespaces())
        kinds = [
            ("own", ", ".join(kind for kind in theirs if kind not in shared)),
            ("shared", ", ".join(kind for kind in theirs if kind in shared)),
        ]
        return table(
            ("pid", "pid inside", "command"),
            [(process.pid, process.container_pid, process.command) for process in processes],
            title=title,
        ) + table((), [(f"{what} namespaces", names) for what, names in kinds if names])

    def pause(self) -> None:
        """Stop every process inside (SIGSTOP), until `unpause`.

        What enters afterwards, by `run` or `popen`, is not stopped.

        Raises:
            PermissionError: a process inside may not be signalled.
        """
        for _ in range(_ROUNDS):
            running = [process for process in self.processes() if not _is_stopped(process.pid)]
            if not running:
                return
            for process in running:
                _signal(process.pid, signal.SIGSTOP)
            time.sleep(_PATIENCE)
        raise TimeoutError(f"{self!r}: processes inside go on as fast as they are stopped")

    def unpause(self) -> None:
        """Let every process inside go on (SIGCONT)."""
        for process in self.processes():
            _signal(process.pid, signal.SIGCONT)

    def _kill_all(self) -> None:
        """SIGKILL for every process inside, until there is none."""
        mark = self._mark()
        if mark is None:
            _signal(self.pid, signal.SIGKILL)
            return
        for _ in range(_ROUNDS):
            # They may fork meanwhile, so this goes on until none is left that runs.
            alive = [process.pid for process in _processes_of(*mark) if _is_running(process.pid)]
            if not alive:
                return
            for pid in alive:
                _signal(pid, signal.SIGKILL)
            time.sleep(_PATIENCE / 10)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} is a process of this machine: pass its pid and "
            "minidocker.attach() to it, or pass the Spec and start another"
        )


class Container(_Namespaces):
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
        self._commands: list[Popen] = []
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
        return "paused" if _is_stopped(self._pid) else "running"

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

    def _entered(self, process: Popen) -> None:
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
        self._returncode = os.waitstatus_to_exitcode(exited[0] or 0)
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
                _signal(process.pid, signal.SIGTERM)
        while any(process.pid != self._pid for process in self.processes()):
            for command in self._commands:
                command.poll()
            if time.monotonic() >= deadline:
                break
            time.sleep(_PATIENCE)
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


def _processes_of(kind: Kind, inode: int) -> list[Process]:
    return proc.processes_in(inode) if kind == "pid" else list(_in_namespace(kind, inode))


def _in_namespace(kind: Kind, inode: int) -> Iterator[Process]:
    link = f"{proc.KINDS[kind]}:[{inode}]"
    for pid in proc.pids():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/{proc.KINDS[kind]}") == link:
                yield proc.Process(pid, pid, proc.command(pid))


def _state(pid: int) -> str:
    try:
        return proc.status(pid).get("State", "X")[:1]
    except ProcessLookupError:
        return "X"


def _is_stopped(pid: int) -> bool:
    return _state(pid) in "TtZX"


def _is_running(pid: int) -> bool:
    return _state(pid) not in "ZX"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
