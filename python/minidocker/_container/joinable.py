"""`Joinable`: the operations on a running container, independent of its starter."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, Unpack, overload

from minidocker._errors import SpecError, unknown_option
from minidocker._fd import pidfd_open
from minidocker._inspect import proc
from minidocker._inspect.namespaces import namespaces
from minidocker._record import replace
from minidocker._run.launch import Launch
from minidocker._run.process import Popen, start
from minidocker._run.run import complete
from minidocker._run.stopped import is_stopped
from minidocker._spec import confine
from minidocker._spec.namespaces import NamespaceOptions
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from minidocker._inspect.namespaces import Namespaces
    from minidocker._inspect.proc import Process
    from minidocker._inspect.view import View
    from minidocker._run.completed import CompletedProcess
    from minidocker._run.keywords import (
        Args,
        EnterAsBytes,
        EnterByEncoding,
        EnterByErrors,
        EnterByNewlines,
        EnterByText,
        EnterEither,
        EnterRunAsBytes,
        EnterRunByEncoding,
        EnterRunByErrors,
        EnterRunByNewlines,
        EnterRunByText,
        EnterRunEither,
    )
    from minidocker._spec.names import Kind
    from minidocker._spec.spec import Spec

__all__ = ["PATIENCE", "Joinable", "running", "send_signal"]

P = ParamSpec("P")
T = TypeVar("T")

_SHARED = NamespaceOptions.none()
_ENTERING = frozenset({*SUBPROCESS_KEYWORDS, *confine.OPTIONS, "die_with_parent"})
_RUN_KEYWORDS = ("input", "capture_output", "check", "output_limit")
# Attempts to signal all processes of a container: they may fork during each one.
_ROUNDS = 100
PATIENCE = 0.01
"""Seconds between two such attempts."""


class Joinable:
    """The namespaces of a running process, which commands can join."""

    _pidfd: int
    _pid: int

    def _open(self, pid: int) -> None:
        self._pidfd = pidfd_open(pid)
        self._pid = pid

    @property
    def pid(self) -> int:
        """The pid of the container's first process, in this process's PID namespace.

        Raises:
            ProcessLookupError: the container has not been started, it has ended, or this process
                is in a PID namespace that does not show it.
        """
        if not self._is_alive():
            raise ProcessLookupError(f"{self!r} is not running: start it")
        self._check_visible()
        return self._pid

    def _check_visible(self) -> None:
        """Refuse the use in a process that was forked into another PID namespace.

        A pid, and a signal through a pidfd, reach only the processes that the namespace shows.
        """
        if proc.pid_behind(self._pidfd) == 0:
            raise ProcessLookupError(
                f"{self!r} is outside this process's PID namespace: use it in the process that "
                "started it, or in a fork in the same PID namespace"
            )

    def _is_alive(self) -> bool:
        raise NotImplementedError

    @overload
    def run(self, args: Args, **options: Unpack[EnterRunByText]) -> CompletedProcess[str]: ...
    @overload
    def run(self, args: Args, **options: Unpack[EnterRunByNewlines]) -> CompletedProcess[str]: ...
    @overload
    def run(self, args: Args, **options: Unpack[EnterRunByEncoding]) -> CompletedProcess[str]: ...
    @overload
    def run(self, args: Args, **options: Unpack[EnterRunByErrors]) -> CompletedProcess[str]: ...
    @overload
    def run(self, args: Args, **options: Unpack[EnterRunAsBytes]) -> CompletedProcess[bytes]: ...
    @overload
    def run(self, args: Args, **options: Unpack[EnterRunEither]) -> CompletedProcess[Any]: ...
    def run(self, args: Any, **options: Any) -> CompletedProcess[Any]:
        """Run a command in the container, as ``docker exec`` does, with the meaning of `run`.

        Args:
            args: the command.
            **options: the keywords of `subprocess.run`, and ``output_limit``; ``cwd``, ``env``,
                ``user`` and ``group`` refer to the inside. Also ``die_with_parent``, and the fields
                of `Spec` that confine a process: ``profile``, ``cap_add``, ``cap_drop``,
                ``no_new_privileges``, ``seccomp`` and ``ulimits``. Their defaults are those of the
                `Container`; an attached container has none. A profile's rules for files apply to
                the container only.

        Raises:
            SpecError: an option belongs to the container, which is already running, or does not
                exist.
            ProcessLookupError: the container is not running.
            CommandNotFound: the command does not exist inside.
            SpawnError: the kernel refused a step; a `PermissionDenied` if the container belongs to
                another user.
            subprocess.TimeoutExpired: the timeout expired; the exception has the output so far.
            subprocess.CalledProcessError: the return code is not 0, and ``check`` is true.
        """
        timeout = options.pop("timeout", None)
        launch = Launch(enter=self.pid, inside=self._inside(), timeout=timeout)
        own = {name: options.pop(name) for name in _RUN_KEYWORDS if name in options}
        return complete(launch, args, self._entering(options, others=_RUN_KEYWORDS), **own)

    @overload
    def popen(self, args: Args, **options: Unpack[EnterByText]) -> Popen[str]: ...
    @overload
    def popen(self, args: Args, **options: Unpack[EnterByNewlines]) -> Popen[str]: ...
    @overload
    def popen(self, args: Args, **options: Unpack[EnterByEncoding]) -> Popen[str]: ...
    @overload
    def popen(self, args: Args, **options: Unpack[EnterByErrors]) -> Popen[str]: ...
    @overload
    def popen(self, args: Args, **options: Unpack[EnterAsBytes]) -> Popen[bytes]: ...
    @overload
    def popen(self, args: Args, **options: Unpack[EnterEither]) -> Popen[Any]: ...
    def popen(self, args: Any, **options: Any) -> Popen[Any]:
        """Start a command in the container, with the meaning of `subprocess.Popen`.

        Args:
            args: the command.
            **options: the keywords of `subprocess.Popen`, and the further ones of `run`.

        Raises:
            SpecError: an option belongs to the container, which is already running, or does not
                exist.
            ProcessLookupError: the container is not running.
            SpawnError: the kernel refused a step; nothing is left.
        """
        return self._start(Launch(), args, options)

    def _start(self, launch: Launch, args: Any, options: Mapping[str, Any]) -> Popen[Any]:
        """Start a command in the container; the counterpart of `minidocker._run.process.start`."""
        launch = replace(launch, enter=self.pid, inside=self._inside())
        process = start(launch, args, self._entering(dict(options)))
        self._entered(process)
        return process

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the container, and return its value.

        The function runs in a fresh interpreter inside, with the environment that a command would
        inherit and this process's import path, so the interpreter and the imported modules must
        exist inside. The function and its arguments are pickled, with cloudpickle if it is
        installed and needed. No copy of this process enters the container, because processes inside
        could read its memory.

        The answer is unpickled here, and a process inside that may trace the interpreter
        (ptrace(2)) can change it: do not call functions in a container that runs untrusted code.

        Args:
            function: the function.
            *args: its arguments.
            **kwargs: its keyword arguments.

        Raises:
            BaseException: the exception of the function, with the remote traceback as its
                ``__cause__``.
            CallExited: the function ended its interpreter.
            CallKilled: a signal ended it.
            CallLimitExceeded: a resource limit ended it.
            CallResultError: its value or its exception cannot be transferred.
            ProcessLookupError: the container is not running.
            SpawnError: the kernel refused a step; a `CommandNotFound` if the interpreter does not
                exist inside.
        """
        from minidocker._functions.call import enter  # noqa: PLC0415 - only this method needs it

        trusted, spec = self._is_trusted(), self._inside()
        return enter(self._start, function, args, kwargs, trusted=trusted, spec=spec)

    def _inside(self) -> Spec | None:
        """Return the options of the container; None: they are unknown."""
        return None

    def _is_trusted(self) -> bool:
        """Return whether functions inside may get secrets of this process."""
        return False

    def _entered(self, process: Popen[Any]) -> None:
        """Record a command that was started inside."""

    def _entering(self, options: dict[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
        for name, value in options.items():
            if name in _ENTERING:
                continue
            if name not in FIELDS and name != "spec":
                raise unknown_option(name, value, [*_ENTERING, *FIELDS, *others])
            reason = "it belongs to the container, which is already running: give it to Container()"
            raise SpecError(reason, option=name, value=value)
        return {**options, "namespaces": _SHARED}

    def namespaces(self) -> Namespaces:
        """Return the inode of each namespace of the container.

        See namespaces(7).

        Raises:
            ProcessLookupError: the container is not running.
            PermissionError: the container belongs to another user.
        """
        return namespaces(self.pid)

    def _status(self) -> str:
        """Return the state of a container that was started."""
        try:
            return "paused" if is_stopped(self.pid) else "running"
        except ProcessLookupError:
            # It may have ended during the look.
            if self._is_alive():
                raise
            return "exited"

    def _own_kinds(self) -> list[Kind]:
        """Return the kinds of namespace that the container does not share with this process."""
        theirs, ours = self.namespaces(), namespaces()
        shared = theirs.shared_with(ours)
        return [kind for kind in theirs if kind not in shared]

    def processes(self) -> list[Process]:
        """Return the processes inside: the pid outside, the pid inside and the command of each.

        These are the processes in the container's PID namespace, or, if it has none of its own, the
        processes in another of its namespaces.

        Raises:
            ProcessLookupError: the container is not running.
            PermissionError: the container belongs to another user.
        """
        mark = self._mark()
        if mark is None:
            return [proc.Process(self.pid, self.pid, proc.command(self.pid))]
        return _processes_of(*mark)

    def _mark(self) -> tuple[Kind, int] | None:
        """Return the namespace that identifies the container's processes; None: all are shared."""
        kinds = self._own_kinds()
        if not kinds:
            return None
        kind = next((kind for kind in ("pid", "user") if kind in kinds), kinds[0])
        return kind, self.namespaces()[kind]

    def view(self) -> View:
        """Return a snapshot that shows the host's view beside the container's.

        In Jupyter it is a picture of both sides; ``print`` shows the same as plain text.

        Raises:
            ProcessLookupError: the container is not running.
            PermissionError: the container belongs to another user.
        """
        from minidocker._inspect.view import look  # noqa: PLC0415 - only this method needs it

        return look(self.pid, self.processes())

    def _repr_html_(self) -> str:
        from minidocker._inspect.html import escape, table  # noqa: PLC0415 - only a notebook needs it

        title = repr(self)
        try:
            processes = self.processes()
            theirs = self.namespaces()
        except ProcessLookupError:
            # It is not running, or it has just ended.
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
        """Stop every process inside (SIGSTOP) until `unpause`.

        A command that enters later, through `run` or `popen`, is not stopped.

        Raises:
            ProcessLookupError: the container is not running.
            PermissionError: the caller may not signal a process inside.
            TimeoutError: the processes inside fork faster than they can be stopped.
        """
        for _ in range(_ROUNDS):
            running = [process for process in self.processes() if not is_stopped(process.pid)]
            if not running:
                return
            for process in running:
                send_signal(process.pid, signal.SIGSTOP)
            time.sleep(PATIENCE)
        raise TimeoutError(f"cannot pause {self!r}: processes inside fork faster than they stop")

    def unpause(self) -> None:
        """Resume every process inside (SIGCONT).

        Raises:
            ProcessLookupError: the container is not running.
            PermissionError: the caller may not signal a process inside.
        """
        for process in self.processes():
            send_signal(process.pid, signal.SIGCONT)

    def _kill_all(self) -> set[int]:
        """Send SIGKILL to every process inside until none runs; return the pids, zombies' too."""
        found: set[int] = set()
        mark = self._mark()
        if mark is None:
            send_signal(self.pid, signal.SIGKILL)
            return found
        for _ in range(_ROUNDS):
            # A process may have forked since the last round.
            processes = _processes_of(*mark)
            found.update(process.pid for process in processes)
            alive = running(processes)
            if not alive:
                break
            for pid in alive:
                send_signal(pid, signal.SIGKILL)
            time.sleep(PATIENCE / 10)
        return found

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled, because it is a running process: pass its pid and "
            "attach() to it, or pass the Spec and start another"
        )


def _processes_of(kind: Kind, inode: int) -> list[Process]:
    return proc.processes_in(inode) if kind == "pid" else list(_in_namespace(kind, inode))


def _in_namespace(kind: Kind, inode: int) -> Iterator[Process]:
    link = f"{proc.KINDS[kind]}:[{inode}]"
    for pid in proc.pids():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/{proc.KINDS[kind]}") == link:
                yield proc.Process(pid, pid, proc.command(pid))


def _status(pid: int) -> dict[str, str]:
    try:
        return proc.status(pid)
    except ProcessLookupError:
        return {"State": "X"}


def running(processes: Iterable[Process]) -> list[int]:
    """Return the pids of those that have not ended: the parent of the others may never reap."""
    pids = [process.pid for process in processes]
    return [pid for pid in pids if _status(pid).get("State", "X")[:1] not in "ZX"]


def send_signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
