"""Start method "spawn": the function runs in an interpreter without this process's memory.

It comes from a template (see ``template.py``), one for each set of modules to be imported
before and each way to be scheduled, which is started at the first call and ends with this process.
Where the container shares another one's network, or is another one, a fresh interpreter is executed
inside instead.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._errors import CallError, CallTimeout
from minidocker._functions import descriptors, template, worker
from minidocker._functions.conversation import Ended
from minidocker._functions.fork import with_interpreter
from minidocker._run.launch import Launch
from minidocker._run.process import start
from minidocker._run.session import kill_session

if TYPE_CHECKING:
    from minidocker._run.process import Popen, Start
    from minidocker._spec.spec import Spec

__all__ = ["Spawned", "execute", "spawn"]

PATIENCE = 60.0
"""Seconds that a template may take to tell about a container that has ended."""


class _TemplateGoneError(Exception):
    """The template ended before it had taken a request."""


class Spawned:
    """A container that a template started: a `Running` (see ``conversation.py``)."""

    is_ours = False

    def __init__(
        self, channel: int, lifeline: socket.socket, pid: int, pidfd: int, spec: Spec
    ) -> None:
        self.channel = channel
        self.pid = pid
        self._lifeline = lifeline
        self._pidfd = pidfd
        self._spec = spec
        descriptors.note(pidfd)

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        if not self._spec.namespaces.pid:
            kill_session(self.pid, reaped=False)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, *, answered: bool = False) -> Ended:
        if answered:
            # The template reaps it. It may be busy with the next one.
            descriptors.close(self._lifeline.detach(), self._pidfd)
            return Ended(None, None)
        self._lifeline.settimeout(PATIENCE)
        try:
            told = self._lifeline.recv(template.LARGEST)
        except OSError as error:
            raise CallError(f"the template process does not answer: {error}") from error
        finally:
            descriptors.close(self._lifeline.detach(), self._pidfd)
        if told[:1] != template.ENDED:
            raise CallError("the template process was ended, and its containers with it")
        ended: Ended = pickle.loads(told[1:])
        return ended

    def close(self) -> None:
        """Give the channel back."""
        descriptors.close(self.channel)

    def abandon(self) -> None:
        """End it, and give everything back."""
        if self._lifeline.fileno() >= 0:
            self.kill()
            # Where the template has ended, so has the container.
            with contextlib.suppress(CallError):
                self.wait()
        self.close()


class _Client:
    """A template process of this process's."""

    def __init__(self, preload: tuple[str, ...]) -> None:
        self.here = worker.Context.here()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests = ours
        try:
            with theirs:
                self.pid = self._start(theirs.fileno(), preload)
        except BaseException:
            ours.close()
            raise

    def _start(self, descriptor: int, preload: tuple[str, ...]) -> int:
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from minidocker._functions.template import main; "
            f"main(3, {preload!r}, {self.here.argv!r}, {self.here.main!r})"
        )
        # Its own session: a Ctrl-C at the terminal is this process's.
        return os.posix_spawn(
            sys.executable,
            _interpreter("-c", code),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, descriptor, 3),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT],
        )

    def request(self, spec: Spec, fds: list[int], timeout: float | None) -> None:
        """Send a request.

        Raises:
            _TemplateGoneError: there is nobody to take it.
        """
        data = pickle.dumps(template.Request(spec, timeout))
        try:
            socket.send_fds(self._requests, [data], fds)
        except (BrokenPipeError, ConnectionResetError):
            raise _TemplateGoneError from None

    def close(self) -> None:
        """End it."""
        self._requests.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class _Kind(NamedTuple):
    """What a template process is there for.

    How a process is scheduled is inherited, and only its own parent could change it back: so a
    calling thread that is scheduled in another way gets another template.
    """

    preload: tuple[str, ...]
    nice: int
    policy: int
    processors: frozenset[int]

    @classmethod
    def of(cls, preload: tuple[str, ...]) -> _Kind:
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        processors = frozenset(os.sched_getaffinity(0))
        return cls(preload, nice, os.sched_getscheduler(0), processors)


_clients: dict[_Kind, _Client] = {}
_lock = threading.Lock()


def _client(kind: _Kind) -> _Client:
    with _lock:
        client = _clients.get(kind)
        if client is None:
            client = _clients[kind] = _Client(kind.preload)
        return client


def _gone(kind: _Kind, client: _Client) -> None:
    with _lock:
        if _clients.get(kind) is client:
            del _clients[kind]
            client.close()


def _end_all() -> None:
    with _lock:
        while _clients:
            _clients.popitem()[1].close()


def _forget_all() -> None:
    """In a forked child: the templates are its parent's."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    for client in _clients.values():
        client._requests.close()
    _clients.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)


def spawn(
    spec: Spec,
    *,
    preload: tuple[str, ...] = (),
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
) -> tuple[Spawned | Executed, bytes]:
    """Start a container with a clean interpreter that serves tasks.

    Args:
        spec: the container.
        preload: modules that it has imported.
        outputs: what its standard output and error are; None: what this process's are.
        timeout: seconds until the container must have been made.

    Returns:
        The container, and what it has to be sent first.

    Raises:
        SpecError: wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step; nothing is left.
        CallTimeout: the time was up before the container was made.
    """
    if not (spec.network is None or isinstance(spec.network, str)):
        own = dataclasses.replace(with_interpreter(spec), init=spec.namespaces.pid)
        return execute(
            lambda launch, args, options: start(launch, args, {**options, "spec": own}),
            preload=preload,
            outputs=outputs,
            timeout=timeout,
        )
    deadline = None if timeout is None else time.monotonic() + timeout
    here = worker.Context.here()
    kind = _Kind.of(preload)
    for last in (False, True):
        client = _client(kind)
        try:
            spawned = _request(client, spec, outputs, timeout, deadline)
        except _TemplateGoneError:
            _gone(kind, client)
            if last:
                said = "a template process cannot be started, or ends at once: its reason is above"
                raise CallError(said) from None
        else:
            first = b"" if here == client.here else worker.context(here)
            return spawned, first
    raise AssertionError("the second time returns or raises")


def _request(
    client: _Client,
    spec: Spec,
    outputs: tuple[int, int] | None,
    timeout: float | None,
    deadline: float | None,
) -> Spawned:
    channel, theirs = socket.socketpair()
    lifeline, template_line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptors.note(channel.fileno(), lifeline.fileno())
    try:
        with theirs, template_line:
            fds = [theirs.fileno(), template_line.fileno(), *(outputs or ())]
            client.request(spec, fds, timeout)
        pid, pidfd = _started(lifeline, timeout, deadline)
    except BaseException:
        # The template ends what it may have started when the lifeline closes.
        descriptors.close(channel.detach(), lifeline.detach())
        raise
    return Spawned(channel.detach(), lifeline, pid, pidfd, spec)


def _started(
    lifeline: socket.socket, timeout: float | None, deadline: float | None
) -> tuple[int, int]:
    poll = select.poll()
    poll.register(lifeline.fileno(), select.POLLIN)
    remaining = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
    if not poll.poll(remaining):
        said = f"the container had not been made after {timeout} seconds"
        raise CallTimeout(said, timeout=timeout)
    try:
        told, fds, _, _ = socket.recv_fds(lifeline, template.LARGEST, 1)
    except ConnectionResetError:
        told, fds = b"", []
    if told[:1] == template.STARTED:
        return int(told[1:]), fds[0]
    if told[:1] == template.FAILED:
        raise pickle.loads(told[1:])
    raise _TemplateGoneError


# --- without a template
# ----------------------------------------------------------------------------


class Executed:
    """A `Running` (see ``conversation.py``) whose command is a fresh interpreter."""

    is_ours = True

    def __init__(self, process: Popen[Any], channel: int) -> None:
        self.channel = channel
        self._process = process
        try:
            self._pidfd = os.pidfd_open(process.pid)
        except OSError:
            process._end()
            self.close()
            raise
        descriptors.note(self._pidfd)

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        self._process._end()

    def wait(self, *, answered: bool = False) -> Ended:  # noqa: ARG002 - a `Running`'s
        returncode = self._process.wait()
        descriptors.close(self._pidfd)
        return Ended(returncode, self._process.usage)

    def close(self) -> None:
        """Give the channel back."""
        descriptors.close(self.channel)

    def abandon(self) -> None:
        """End it, and give everything back."""
        self._process._end()
        descriptors.close(self._pidfd)
        self.close()


def execute(
    start: Start,
    *,
    preload: tuple[str, ...] = (),
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
) -> tuple[Executed, bytes]:
    """Execute a fresh interpreter that serves tasks.

    Args:
        start: starts the command, as `minidocker._run.process.start` does.
        preload: modules that it imports before.
        outputs: what its standard output and error are.
        timeout: seconds until it must have been executed.

    Raises:
        CallTimeout: the time was up before.
        SpawnError: the kernel refused a step, or there is no such interpreter inside.
    """
    ours, theirs = socket.socketpair()
    descriptors.note(ours.fileno())
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
            process = start(Launch(timeout=timeout), _interpreter("-c", code), options)
    except BaseException as error:
        descriptors.close(ours.detach())
        if isinstance(error, subprocess.TimeoutExpired):
            said = f"the interpreter had not been executed after {timeout} seconds"
            raise CallTimeout(said, timeout=timeout) from None
        raise
    return Executed(process, ours.detach()), worker.context(worker.Context.here())


def _interpreter(*args: str) -> list[str]:
    """The command line of this interpreter, with the flags that it was started with."""
    if not sys.executable:
        raise CallError("the interpreter does not know its own program: sys.executable is empty")
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, *args]
