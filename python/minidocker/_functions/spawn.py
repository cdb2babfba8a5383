"""Start a function in a clean interpreter: a copy of a template process.

Each combination of modules to import first and of scheduling attributes has its own template (see
``template.py``), which starts at the first call and ends with this process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import select
import signal
import socket
import sys
import threading

# gevent's os.posix_spawn() lets the event loop reap every child of this process.
from posix import posix_spawn
from typing import TYPE_CHECKING, NamedTuple

from minidocker import _core
from minidocker._errors import CallError
from minidocker._fd import close, empty_input, receive, socket_pair
from minidocker._functions import descriptors, template, worker
from minidocker._functions.function_container import Ended, FunctionContainer, start_timeout
from minidocker._functions.interpreter import command_line
from minidocker._run.session import kill_session
from minidocker._run.timeouts import deadline_after, is_ready

if TYPE_CHECKING:
    from minidocker._functions.worker import Task
    from minidocker._spec.spec import Spec

__all__ = ["TemplateContainer", "start"]

PATIENCE = 60.0
"""Seconds in which a template must report how a container ended."""
DEATH = 5.0
"""Seconds in which a killed container ends."""


class _TemplateGoneError(Exception):
    """The template ended before it had taken a request."""


def start(
    spec: Spec,
    task: Task | None,
    *,
    preload: tuple[str, ...] = (),
    trusted: bool = True,
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
) -> TemplateContainer:
    """Start a container whose process is a copy of a template; see `function_container.Starter`.

    Args:
        spec: the container.
        task: see `function_container.Starter`.
        preload: the modules that the template has imported.
        trusted: whether the function gets the key of `multiprocessing`.
        outputs: see `function_container.Starter`.
        timeout: see `function_container.Starter`.

    Raises:
        CallError: no template process can be started.
    """
    _core.warn_of_mounts(spec.core())
    opening = [] if task is None else task.message(last=True)
    deadline = deadline_after(timeout)
    here = worker.Context.here(environ=spec.inherited_environment())
    kind = _Kind.of(preload, trusted=trusted, untrusted=spec.profile == "untrusted")
    for last in (False, True):
        client = _client(kind, here)
        try:
            container = _request(client, spec, outputs, timeout, deadline)
        except _TemplateGoneError:
            _discard(kind, client)
            if last:
                reason = "the template process ended at once: see its message on standard error"
                raise CallError(reason) from None
        else:
            # The copy has the state that the template started with.
            container.opening = opening if here == client.here else here.message() + opening
            return container
    raise AssertionError("the second time returns or raises")


def _request(
    client: _Client,
    spec: Spec,
    outputs: tuple[int, int] | None,
    timeout: float | None,
    deadline: float | None,
) -> TemplateContainer:
    channel, theirs = socket_pair()
    lifeline, template_line = socket_pair(socket.SOCK_SEQPACKET)
    descriptors.hold(channel.fileno(), lifeline.fileno())
    try:
        with theirs, template_line:
            fds = [theirs.fileno(), template_line.fileno(), *(outputs or ())]
            client.request(spec, fds, timeout, deadline)
        pid, pidfd = _await_start(lifeline, timeout, deadline)
    except BaseException:
        # If the template has started a container, it ends it when the lifeline closes.
        descriptors.release(channel.detach(), lifeline.detach())
        raise
    return TemplateContainer(channel.detach(), lifeline, pid, pidfd, spec)


def _await_start(
    lifeline: socket.socket, timeout: float | None, deadline: float | None
) -> tuple[int, int]:
    """Return the pid of the container, and a pidfd."""
    if not is_ready(lifeline.fileno(), deadline):
        raise start_timeout(timeout)
    try:
        report, fds = receive(lifeline, template.LARGEST, 1)
    except ConnectionResetError:
        report, fds = b"", []
    if report[:1] == template.STARTED:
        return int(report[1:]), fds[0]
    if report[:1] == template.FAILED:
        raise pickle.loads(report[1:])
    raise _TemplateGoneError


class TemplateContainer(FunctionContainer):
    """A container whose process is a copy of a template, which is its parent."""

    is_ours = False
    spec: Spec

    def __init__(
        self, channel: int, lifeline: socket.socket, pid: int, pidfd: int, spec: Spec
    ) -> None:
        self.channel = channel
        self._lifeline = lifeline
        self._pid = pid
        self._pidfd = pidfd
        self.spec = spec
        descriptors.hold(pidfd)

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        if not self.spec.namespaces.pid:
            kill_session(self._pid, reaped=False, new=self.spec.namespaces)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, *, answered: bool = False) -> Ended:
        if answered:
            # The template reaps it, but may be busy with another request.
            self._release()
            return Ended(None, None)
        self._lifeline.settimeout(PATIENCE)
        try:
            report = self._lifeline.recv(template.LARGEST)
        except OSError as error:
            raise CallError(f"the template process does not answer: {error}") from error
        finally:
            self._release()
        if report[:1] != template.ENDED:
            raise CallError("the template process ended, and its containers with it")
        ended: Ended = pickle.loads(report[1:])
        return ended

    def abandon(self) -> None:
        if self._lifeline.fileno() >= 0:
            self.kill()
            # The template reaps it, but may be busy, or stopped by a process of the container that
            # shares its PID namespace.
            is_ready(self._pidfd, deadline_after(DEATH))
            self._release()
        self.close()

    def _release(self) -> None:
        descriptors.release(self._lifeline.detach(), self._pidfd)


# --- the templates of this process -------------------------------------------------------------


class _Client:
    """A connection to a template process, which it starts."""

    def __init__(
        self, preload: tuple[str, ...], authkey: bytes | None, here: worker.Context
    ) -> None:
        self.here = here
        ours, theirs = socket_pair(socket.SOCK_SEQPACKET)
        self._requests = ours
        try:
            with theirs:
                self.pid = self._start(theirs.fileno(), preload)
            # Not on the command line, which other users can read.
            ours.send(pickle.dumps(authkey))
        except BaseException:
            ours.close()
            raise

    def _start(self, descriptor: int, preload: tuple[str, ...]) -> int:
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from minidocker._functions.template import main; "
            f"main(3, {preload!r}, {self.here.argv!r}, {self.here.main!r})"
        )
        empty = empty_input()
        try:
            # In a session of its own, so that a Ctrl-C at the terminal does not reach it.
            return posix_spawn(
                sys.executable,
                command_line("-c", code),
                self.here.environ or {},
                # The empty input first: its number may be 3.
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, empty, 0),
                    (os.POSIX_SPAWN_DUP2, descriptor, 3),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGCHLD, signal.SIGINT],
            )
        finally:
            close(empty)

    def request(
        self, spec: Spec, fds: list[int], timeout: float | None, deadline: float | None
    ) -> None:
        """Send a request.

        Raises:
            CallTimeout: the template takes no request before the deadline: it still imports the
                modules to preload, or it is stopped.
            _TemplateGoneError: the template has ended.
        """
        data = pickle.dumps(template.Request(spec, timeout))
        while is_ready(self._requests.fileno(), deadline, select.POLLOUT):
            try:
                socket.send_fds(self._requests, [data], fds, socket.MSG_DONTWAIT)
            except BlockingIOError:
                # Another thread was faster.
                continue
            except (BrokenPipeError, ConnectionResetError):
                raise _TemplateGoneError from None
            return
        raise start_timeout(timeout)

    def forget(self) -> None:
        """Close a forked process's copy of the connection, which belongs to the parent."""
        self._requests.close()

    def close(self) -> None:
        """End the template."""
        self._requests.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class _Kind(NamedTuple):
    """The properties of a template process that a call depends on.

    A process inherits its scheduling attributes (sched(7)), and only a privileged process could
    restore all of them. A calling thread with other attributes therefore gets another template.
    """

    preload: tuple[str, ...]
    nice: int
    policy: int
    processors: frozenset[int]
    authkey: bytes | None
    """The key of `multiprocessing`; None in templates of untrusted functions."""
    untrusted: bool
    """Whether the containers have this profile: their memory is a copy of the template's, which
    then has only the environment that the profile passes."""

    @classmethod
    def of(
        cls, preload: tuple[str, ...], *, trusted: bool = True, untrusted: bool = False
    ) -> _Kind:
        """Return the kind for the calling thread."""
        nice = os.getpriority(os.PRIO_PROCESS, 0)
        processors = frozenset(os.sched_getaffinity(0))
        authkey = worker.authkey() if trusted else None
        return cls(preload, nice, os.sched_getscheduler(0), processors, authkey, untrusted)


_clients: dict[_Kind, _Client] = {}
_lock = threading.Lock()


def _client(kind: _Kind, here: worker.Context) -> _Client:
    with _lock:
        client = _clients.get(kind)
        if client is None:
            client = _clients[kind] = _Client(kind.preload, kind.authkey, here)
        return client


def _discard(kind: _Kind, client: _Client) -> None:
    with _lock:
        if _clients.get(kind) is client:
            del _clients[kind]
            client.close()


def _end_all() -> None:
    with _lock:
        while _clients:
            _clients.popitem()[1].close()


def _forget_all() -> None:
    """Forget the templates in a forked child, because they belong to its parent."""
    global _lock  # noqa: PLW0603 - another thread may have held it
    _lock = threading.Lock()
    for client in _clients.values():
        client.forget()
    _clients.clear()


# A second import of this module has templates of its own, and registers functions of its own.
atexit.register(_end_all)
os.register_at_fork(after_in_child=_forget_all)
