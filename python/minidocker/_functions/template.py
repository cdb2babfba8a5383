"""The template process: a clean interpreter that has imported the modules that functions need.

For each request it forks a copy of itself into a container, so a clean interpreter costs only a
fork. ``spawn.py`` starts it and sends the requests. It has no namespaces of its own. It never
unpickles a function, and reads nothing that a function sends.

The first datagram is the caller's key of `multiprocessing`, pickled, or None. A request is one
datagram: a pickled `Request`, with the descriptors channel, lifeline and, if captured, standard
output and error. On the lifeline the template reports `STARTED`, with a pidfd, or `FAILED`, and
after the start `ENDED`. When the caller closes the lifeline, the template ends the container.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._fd import pidfd_open, receive
from minidocker._functions import descriptors, fork, worker
from minidocker._functions.ready import ReadyContainerSlot
from minidocker._unpatched import Poll

if TYPE_CHECKING:
    from minidocker._functions.fork import ForkedContainer
    from minidocker._spec.spec import Spec

LARGEST = 1 << 17
"""The maximum size of a request or a report, in bytes."""

STARTED = b"S"
FAILED = b"F"
ENDED = b"E"


class Request(NamedTuple):
    """A container for one function."""

    spec: Spec
    timeout: float | None


class _Child(NamedTuple):
    container: ForkedContainer
    lifeline: socket.socket


class _Template:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}
        self._lifelines: dict[int, _Child] = {}
        self._poll = Poll()
        self._slot = ReadyContainerSlot(self._poll)
        self._caller = pidfd_open(os.getppid())
        for fd in (requests.fileno(), self._caller):
            descriptors.hold(fd)
            self._poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Serve requests until the caller ends."""
        while True:
            events = self._poll.poll(self._slot.idle())
            for fd, _ in events:
                if fd == self._requests.fileno():
                    if not self._receive():
                        return
                elif fd == self._caller:
                    return
                elif fd in self._children:
                    self._reap(self._children[fd])
                elif fd in self._lifelines:
                    # The caller never writes to a lifeline, so it has closed this one.
                    self._poll.unregister(fd)
                    self._lifelines[fd].container.kill()
                elif self._slot.owns(fd):
                    self._slot.drop()
            if not events:
                # Requests come first: make a ready container only if there are none.
                self._slot.act()

    def _receive(self) -> bool:
        """Handle a request; return False at the end of the connection."""
        data, fds = receive(self._requests, LARGEST, 4)
        if not data:
            return False
        request: Request = pickle.loads(data)
        lifeline = socket.socket(fileno=fds.pop(1))
        try:
            container = self._slot.take(request.spec, fds)
            if container is None:
                container = self._fork(request, fds, lifeline)
        except Exception as error:  # noqa: BLE001 - the caller raises it
            error.__traceback__ = None
            _report(lifeline, FAILED + pickle.dumps(error))
            lifeline.close()
        else:
            self._started(container, lifeline)
            self._slot.expect_another(request.spec)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: Request, fds: list[int], lifeline: socket.socket) -> ForkedContainer:
        channel, *outputs = fds

        def work(unused: int) -> None:
            os.close(unused)
            lifeline.close()
            worker.serve_request(channel, outputs)

        container = fork.run_in_copy(work, request.spec, timeout=request.timeout, warns=False)
        container.close()
        return container

    def _started(self, container: ForkedContainer, lifeline: socket.socket) -> None:
        child = _Child(container, lifeline)
        self._children[container.ends()] = self._lifelines[lifeline.fileno()] = child
        descriptors.hold(lifeline.fileno())
        _report(lifeline, STARTED + str(container.pid).encode(), container.ends())
        for fd in (container.ends(), lifeline.fileno()):
            self._poll.register(fd, select.POLLIN)

    def _reap(self, child: _Child) -> None:
        ends, line = child.container.ends(), child.lifeline.fileno()
        for fd in (ends, line):
            # serve() has unregistered a lifeline that the caller closed.
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)
        del self._children[ends], self._lifelines[line]
        ended = child.container.wait()
        _report(child.lifeline, ENDED + pickle.dumps(ended))
        descriptors.release(child.lifeline.detach())


def _report(lifeline: socket.socket, data: bytes, *fds: int) -> None:
    # The caller may have ended.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(lifeline, [data], fds)


def main(
    descriptor: int, preload: tuple[str, ...], argv: list[str], own_main: tuple[str, str] | None
) -> None:
    """Run the template process; `spawn.start` executes this function."""
    # The caller gave the directory, and the environment or a part of it, by execve(2).
    worker.adopt(argv, own_main)
    # The caller handles Ctrl-C, and ends its containers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    requests = socket.socket(fileno=descriptor)
    first = requests.recv(LARGEST)
    if not first:
        return
    if (key := pickle.loads(first)) is not None:
        worker.adopt_authkey(key)
    problem: Exception | None = None
    for name in preload:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - an import may raise anything
            error.add_note(f"preload={preload!r}: {name!r} could not be imported")
            problem = error
            break
    if problem is not None:
        _refuse(requests, problem)
        return
    with contextlib.suppress(ImportError):
        # A function pickled with cloudpickle needs it for unpickling.
        importlib.import_module("cloudpickle")
    # A collection in a copy would write to the pages of these objects, and so copy them.
    gc.collect()
    gc.freeze()
    # A local variable, so that os._exit() comes before its end: the kernel frees its resources.
    template = _Template(requests)
    try:
        template.serve()
    except Exception:  # noqa: BLE001 - printed on the caller's standard error
        traceback.print_exc()
    os._exit(0)


def _refuse(requests: socket.socket, problem: Exception) -> None:
    """Answer every request with the exception that preloading raised."""
    answer: Any = problem
    try:
        pickle.loads(pickle.dumps(answer))
    except Exception:  # noqa: BLE001 - an exception's own methods may raise anything
        answer = ImportError(f"{type(problem).__qualname__}: {problem}")
    while True:
        data, fds = receive(requests, LARGEST, 4)
        if not data:
            return
        channel, line, *outputs = fds
        with socket.socket(fileno=line) as lifeline:
            _report(lifeline, FAILED + pickle.dumps(answer))
        for fd in (channel, *outputs):
            os.close(fd)
