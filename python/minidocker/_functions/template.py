"""The template process: a clean interpreter that has imported what functions need, and waits.

It is started once for each set of modules, has no namespaces of its own, and forks a copy of itself
into a container for each function: that is how ``spawn.py`` starts one in the time of a fork.
Where one request follows another, the next container is made meanwhile, and waits as a spare. The
template never unpickles what the functions are, and reads none of what they send.

A request is one datagram: a pickled `Request`, and the descriptors channel, lifeline and, where
output is collected, standard output and error. On the lifeline the template tells what became of
it: `STARTED` (with a pidfd), or `FAILED`, and then `ENDED`. When the caller closes the lifeline,
the container is ended.
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
import time
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from minidocker._functions import descriptors, worker
from minidocker._functions.fork import ForkedContainer, reopen_outputs

if TYPE_CHECKING:
    from minidocker._spec.spec import Spec

LARGEST = 1 << 17
"""Bytes of a request or of what is told about it."""

STARTED = b"S"
FAILED = b"F"
ENDED = b"E"

SPARE_LIFE = 5.0
"""Seconds that a spare waits at most. It has the mounts of the moment when it was made."""


class Request(NamedTuple):
    """A container for one function."""

    spec: Spec
    timeout: float | None


class _Child(NamedTuple):
    container: ForkedContainer
    lifeline: socket.socket


class _Spare(NamedTuple):
    container: ForkedContainer
    feed: socket.socket
    """Where it is given the descriptors of a request."""
    spec: Spec
    made: float


class _Template:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, _Child] = {}
        self._lifelines: dict[int, _Child] = {}
        self._spare: _Spare | None = None
        self._last: tuple[Spec, float] | None = None
        self._wanted: Spec | None = None
        self._poll = select.poll()
        self._caller = os.pidfd_open(os.getppid())
        for fd in (requests.fileno(), self._caller):
            descriptors.note(fd)
            self._poll.register(fd, select.POLLIN)
        self._mounts = select.poll()
        self._mountinfo = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        descriptors.note(self._mountinfo)
        self._mounts.register(self._mountinfo, select.POLLPRI)

    def serve(self) -> None:
        """Until the caller has gone."""
        while True:
            # Who asks comes before who may ask.
            events = self._poll.poll(0 if self._wanted is not None else self._idle())
            for fd, _ in events:
                if fd == self._requests.fileno():
                    if not self._receive():
                        return
                elif fd == self._caller:
                    return
                elif fd in self._children:
                    self._reap(self._children[fd])
                elif fd in self._lifelines:
                    # The caller never writes there: it has closed it.
                    self._poll.unregister(fd)
                    self._lifelines[fd].container.kill()
                elif self._spare is not None and fd == self._spare.container.ends():
                    self._drop_spare()
            if not events:
                self._make_spare() if self._wanted is not None else self._drop_spare()

    def _receive(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._requests, LARGEST, 4)
        if not data:
            return False
        request: Request = pickle.loads(data)
        lifeline = socket.socket(fileno=fds.pop(1))
        try:
            container = self._take_spare(request.spec, fds)
            if container is None:
                container = self._fork(request, fds, lifeline)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised in the caller
            error.__traceback__ = None
            _tell(lifeline, FAILED + pickle.dumps(error))
            lifeline.close()
        else:
            self._started(container, lifeline)
            self._expect_another(request.spec)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _fork(self, request: Request, fds: list[int], lifeline: socket.socket) -> ForkedContainer:
        channel, *outputs = fds

        def work(unused: int) -> None:
            os.close(unused)
            lifeline.close()
            _serve(channel, outputs)

        container = ForkedContainer(work, request.spec, timeout=request.timeout)
        container.close()
        return container

    def _started(self, container: ForkedContainer, lifeline: socket.socket) -> None:
        child = _Child(container, lifeline)
        self._children[container.ends()] = self._lifelines[lifeline.fileno()] = child
        descriptors.note(lifeline.fileno())
        _tell(lifeline, STARTED + str(container.pid).encode(), container.ends())
        for fd in (container.ends(), lifeline.fileno()):
            self._poll.register(fd, select.POLLIN)

    def _reap(self, child: _Child) -> None:
        ends, line = child.container.ends(), child.lifeline.fileno()
        for fd in (ends, line):
            # The lifeline may be out already.
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)
        del self._children[ends], self._lifelines[line]
        ended = child.container.wait()
        _tell(child.lifeline, ENDED + pickle.dumps(ended))
        descriptors.close(child.lifeline.detach())

    # --- spares --------------------------------------------------------------------------------

    def _expect_another(self, spec: Spec) -> None:
        """Make a spare next, if this kind of container has been asked for just before, too."""
        now = time.monotonic()
        last, self._last = self._last, (spec, now)
        often = last is not None and last[0] == spec and now - last[1] < SPARE_LIFE
        self._wanted = spec if often and self._spare is None else None

    def _idle(self) -> float | None:
        """Milliseconds that the spare may wait on."""
        if self._spare is None:
            return None
        return max(0.0, self._spare.made + SPARE_LIFE - time.monotonic()) * 1000

    def _make_spare(self) -> None:
        spec, self._wanted = self._wanted, None
        assert spec is not None
        feed, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def work(unused: int) -> None:
            os.close(unused)
            feed.close()
            worker.warm_up()
            data, fds, _, _ = socket.recv_fds(inner, 1, 3)
            inner.close()
            if data:
                channel, *outputs = fds
                _serve(channel, outputs)

        self._mounts.poll(0)
        try:
            container = ForkedContainer(work, spec)
        except Exception:  # noqa: BLE001 - whoever asks next is told
            feed.close()
        else:
            container.close()
            descriptors.note(feed.fileno())
            self._poll.register(container.ends(), select.POLLIN)
            self._spare = _Spare(container, feed, spec, time.monotonic())
        finally:
            inner.close()

    def _take_spare(self, spec: Spec, fds: list[int]) -> ForkedContainer | None:
        spare = self._spare
        if spare is None:
            return None
        if spare.spec != spec or self._mounts.poll(0):
            self._drop_spare()
            return None
        try:
            socket.send_fds(spare.feed, [b"G"], fds)
        except (BrokenPipeError, ConnectionResetError):
            self._drop_spare()
            return None
        self._spare = None
        self._poll.unregister(spare.container.ends())
        descriptors.close(spare.feed.detach())
        return spare.container

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            self._poll.unregister(spare.container.ends())
            descriptors.close(spare.feed.detach())
            spare.container.kill()
            spare.container.wait()


def _serve(channel: int, outputs: list[int]) -> None:
    """Be the container of a request."""
    if outputs:
        for number, fd in enumerate(outputs, 1):
            os.dup2(fd, number)
            os.close(fd)
        reopen_outputs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    worker.serve(channel)


def _tell(lifeline: socket.socket, data: bytes, *fds: int) -> None:
    # The caller may have gone.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        socket.send_fds(lifeline, [data], fds)


def main(
    descriptor: int, preload: tuple[str, ...], argv: list[str], own_main: tuple[str, str] | None
) -> None:
    """Be a template: what its interpreter is started with."""
    # The environment and the directory are the caller's already.
    worker.be_like(argv, own_main)
    # Ctrl-C is the caller's, which ends what it started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    requests = socket.socket(fileno=descriptor)
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
        # What functions were pickled with, they are unpickled with.
        importlib.import_module("cloudpickle")
    # What is here stays: a collection in a copy would only copy its pages.
    gc.collect()
    gc.freeze()
    # Kept until the end: what it still has then goes with the process.
    template = _Template(requests)
    try:
        template.serve()
    except Exception:  # noqa: BLE001 - said where the caller's errors are said
        traceback.print_exc()
    os._exit(0)


def _refuse(requests: socket.socket, problem: Exception) -> None:
    """Answer every request with what went wrong while the template was made ready."""
    answer: Any = problem
    try:
        pickle.loads(pickle.dumps(answer))
    except Exception:  # noqa: BLE001 - an exception's own methods may raise anything
        answer = ImportError(f"{type(problem).__qualname__}: {problem}")
    while True:
        data, fds, _, _ = socket.recv_fds(requests, LARGEST, 4)
        if not data:
            return
        channel, line, *outputs = fds
        with socket.socket(fileno=line) as lifeline:
            _tell(lifeline, FAILED + pickle.dumps(answer))
        for fd in (channel, *outputs):
            os.close(fd)
