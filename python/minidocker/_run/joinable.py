"""What can be done with a container that runs, whoever started it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, Unpack, overload

from minidocker._errors import SpecError
from minidocker._inspect import proc
from minidocker._inspect.namespaces import namespaces
from minidocker._run.launch import Launch
from minidocker._run.process import Popen, start
from minidocker._run.run import complete
from minidocker._spec import confine
from minidocker._spec.namespaces import NamespaceOptions
from minidocker._spec.options import SUBPROCESS_KEYWORDS

if sys.platform == "linux":
    pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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

__all__ = ["PATIENCE", "Joinable", "is_stopped", "send_signal"]

P = ParamSpec("P")
T = TypeVar("T")

_SHARED = NamespaceOptions.none()
_ENTERING = frozenset({*SUBPROCESS_KEYWORDS, *confine.OPTIONS, "die_with_parent"})
_RUN_KEYWORDS = ("input", "capture_output", "check")
# How often the processes of a container are looked for again, since they may fork meanwhile.
_ROUNDS = 100
PATIENCE = 0.01


class Joinable:
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
        launch = Launch(enter=self.pid, timeout=options.pop("timeout", None))
        own = {name: options.pop(name) for name in _RUN_KEYWORDS if name in options}
        return complete(launch, args, self._entering(options), **own)

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
        """Start a command in the container, with the meaning of `subprocess.Popen`."""
        return self._start(Launch(), args, options)

    def _start(self, launch: Launch, args: Any, options: Mapping[str, Any]) -> Popen[Any]:
        """Start a command in the container: what `minidocker._run.process.start` is outside."""
        launch = dataclasses.replace(launch, enter=self.pid)
        process = start(launch, args, self._entering(dict(options)))
        self._entered(process)
        return process

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
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

        return enter(self._start, function, args, kwargs)

    def _entered(self, process: Popen[Any]) -> None:
        """Take note of a command that was started inside."""

    def _entering(self, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name not in _ENTERING:
                reason = "it belongs to the container, which runs already: give it to Container()"
                raise SpecError(reason, option=name, value=value)
        return {**options, "namespaces": _SHARED}

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
            running = [process for process in self.processes() if not is_stopped(process.pid)]
            if not running:
                return
            for process in running:
                send_signal(process.pid, signal.SIGSTOP)
            time.sleep(PATIENCE)
        raise TimeoutError(f"{self!r}: processes inside go on as fast as they are stopped")

    def unpause(self) -> None:
        """Let every process inside go on (SIGCONT)."""
        for process in self.processes():
            send_signal(process.pid, signal.SIGCONT)

    def _kill_all(self) -> None:
        """SIGKILL for every process inside, until there is none."""
        mark = self._mark()
        if mark is None:
            send_signal(self.pid, signal.SIGKILL)
            return
        for _ in range(_ROUNDS):
            # They may fork meanwhile, so this goes on until none is left that runs.
            alive = [process.pid for process in _processes_of(*mark) if _is_running(process.pid)]
            if not alive:
                return
            for pid in alive:
                send_signal(pid, signal.SIGKILL)
            time.sleep(PATIENCE / 10)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} is a process of this machine: pass its pid and "
            "minidocker.attach() to it, or pass the Spec and start another"
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


def is_stopped(pid: int) -> bool:
    """Whether a process executes nothing until a SIGCONT.

    A process that waits for its vfork(2) child is in uninterruptible sleep. Where that child is
    stopped, the wait lasts, and the pending SIGSTOP takes effect before the next instruction.
    """
    fields = _status(pid)
    state = fields.get("State", "X")[:1]
    if state == "D":
        pending = int(fields.get("ShdPnd", "0"), 16)
        return bool(pending >> (signal.SIGSTOP - 1) & 1)
    return state in "TtZX"


def _is_running(pid: int) -> bool:
    return _status(pid).get("State", "X")[:1] not in "ZX"


def send_signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
