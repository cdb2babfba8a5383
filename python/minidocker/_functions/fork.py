"""Start a function in a copy of this process.

`_core.fork` makes the copy: see ``core/src/launch/fork.rs``. The copy then resets what
`multiprocessing` resets in its forked processes, and what does not work in a container.

The copy has only the thread that made it. The locks of the C library (malloc, stdio) and of Python
itself are usable in the copy, even if another thread held them. Any other lock that another thread
held stays locked forever. For that reason Python 3.12 and later warn if a process with threads
calls `os.fork`. The same danger exists here, but without a warning: Jupyter always has threads, and
would show it at every call.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import errno
import functools
import os
import signal
import sys
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from minidocker import _fd
from minidocker._functions import front_end, worker
from minidocker._functions.function_container import (
    Ended,
    FunctionContainer,
    start_timeout,
)
from minidocker._functions.green_threads import forget_green_threads
from minidocker._functions.sources import with_sources
from minidocker._run.completed import Usage
from minidocker._run.session import kill_session
from minidocker._spec import accounts

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._functions.worker import Task
    from minidocker._spec.spec import Spec

__all__ = ["Copy", "ForkedContainer", "fork", "run_in_copy", "start"]


def start(
    spec: Spec,
    task: Task | None,
    *,
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
) -> ForkedContainer:
    """Start a container whose process is a copy of this one; see `function_container.Starter`."""
    work = worker.serve if task is None else functools.partial(worker.run, task)
    return run_in_copy(work, spec, outputs=outputs, timeout=timeout)


def run_in_copy(
    work: Callable[[int], None],
    spec: Spec,
    *,
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
    inject: tuple[int, int] | None = None,
    warns: bool = True,
) -> ForkedContainer:
    """Fork into a container; call ``work`` there with the copy's end of the channel.

    The copy ends when ``work`` returns. See `fork` for the other arguments and the exceptions.
    """
    forked = fork(spec, outputs=outputs, timeout=timeout, inject=inject, warns=warns)
    if isinstance(forked, Copy):
        _become(work, forked.channel, outputs)
    return forked


def fork(
    spec: Spec,
    *,
    outputs: tuple[int, int] | None = None,
    timeout: float | None = None,
    inject: tuple[int, int] | None = None,
    warns: bool = True,
) -> ForkedContainer | Copy:
    """Fork into a container, and return in both processes, like the system call.

    The copy must call `forget_callers_state`, and must never return into frames that belong to the
    caller's work.

    Args:
        spec: the container.
        outputs: descriptors for its standard output and error; None: it shares this process's.
        timeout: seconds until the container must have started; None: no limit.
        inject: for tests: the number of a call, and the error number with which it fails.
        warns: whether to give the warnings about the container.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step; nothing is left.
        CallTimeout: the timeout expired before the container had started.
    """
    spec = with_sources(spec)
    if warns:
        _core.warn_of_mounts(spec.core())
        _core.warn_of_variables(spec.core())
    command = copy_command(spec, outputs)
    sys.audit("os.fork")
    # Otherwise both processes would write the content of the buffers.
    worker.flush_outputs()
    container = ForkedContainer(spec)
    try:
        if not _core.fork(spec.core(), command, container, timeout=timeout, inject=inject):
            return Copy(container.channel)
        container.check()
    except _core.DeadlineReached:
        raise start_timeout(timeout) from None
    except BaseException:
        container.abandon()
        raise
    return container


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """What `fork` returns in the copy.

    Attributes:
        channel: the copy's end of the channel.
    """

    channel: int


class ForkedContainer(FunctionContainer):
    """A container whose process is a copy of this one. `fork` makes it."""

    is_ours = True
    spec: Spec
    # `_core.fork` sets these two, and the channel, before a signal handler can raise.
    _process: _core.Process | None = None
    _pidfd = -1
    _reaped = False

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._generation = _generation
        self._started = time.monotonic()

    def check(self) -> None:
        """Check that the container is complete.

        Raises:
            OSError: no descriptor was left for its pidfd.
        """
        if self._pidfd < 0:
            raise _core.prepare_error(errno.EMFILE)

    @property
    def pid(self) -> int:
        """The pid of its first process."""
        assert self._process is not None
        return self._process.pid

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        assert self._process is not None
        if not self.spec.namespaces.pid:
            kill_session(self._process.pid, reaped=self._reaped, new=self.spec.namespaces)
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif not self._reaped:
                self._process.send_signal(signal.SIGKILL)

    def wait(self, *, answered: bool = False) -> Ended:  # noqa: ARG002 - this process reaps it anyway
        assert self._process is not None
        exited = self._process.wait(block=True)
        assert exited is not None
        self._reaped = True
        if not self.spec.namespaces.pid:
            # Without a PID namespace, the kernel does not end the processes that the function left.
            kill_session(self._process.pid, reaped=True)
        pidfd, self._pidfd = self._pidfd, -1
        _core.release([pidfd])
        _, status, used = exited
        code = None if status is None else os.waitstatus_to_exitcode(status)
        if used is None or code == -signal.SIGKILL:
            # The init of a killed container reports no usage.
            return Ended(code, None)
        user, system, peak = used
        wall = time.monotonic() - self._started
        return Ended(code, Usage(wall=wall, user=user, system=system, peak=peak))

    def abandon(self) -> None:
        if self._process is not None and self._generation == _generation:
            if not self._reaped or self._pidfd >= 0:
                self.kill()
                self.wait()
            self.close()

    def __del__(self) -> None:
        # An exception such as a KeyboardInterrupt may come before the caller has a reference.
        if self._process is not None and not sys.is_finalizing():
            self.abandon()


# The number of forks between this process and the first one. A container belongs to the process
# with the same generation; pids cannot identify that process, because PID namespaces reuse them.
_generation = 0


def _next_generation() -> None:
    global _generation  # noqa: PLW0603 - a fact about this process
    _generation += 1


# A second import of this module has containers of its own, and counts the forks again.
os.register_at_fork(after_in_child=_next_generation)


def copy_command(spec: Spec, outputs: tuple[int, int] | None = None) -> _core.Command:
    """Describe the copy: a command with nothing to execute."""
    stdio = (-1, -1, -1) if outputs is None else (-1, *outputs)
    if spec.user is None:
        return _copy_command(stdio, None, None)
    return _copy_command(stdio, *accounts.ids(spec.user))


@functools.lru_cache
def _copy_command(
    stdio: tuple[int, int, int], user: int | None, group: int | None
) -> _core.Command:
    return _core.Command(
        candidates=[],
        argv=[],
        envp=[],
        cwd=None,
        stdio=stdio,
        pass_fds=[],
        close_fds=False,
        restore_signals=False,
        umask=None,
        new_session=True,
        process_group=None,
        terminal=False,
        user=user,
        group=group,
        groups=None,
    )


# --- in the copy -------------------------------------------------------------------------------


def _become(work: Callable[[int], None], channel: int, outputs: tuple[int, int] | None) -> NoReturn:
    """Run ``work``, and end the process, so that no code of the caller continues in the copy."""
    code = 1
    try:
        code = _work(work, channel, outputs)
    except BaseException:  # noqa: BLE001 - the copy must end here
        traceback.print_exc()
    finally:
        worker.flush_outputs()
        os._exit(code)


def _work(work: Callable[[int], None], channel: int, outputs: tuple[int, int] | None) -> int:
    before = sys.stdout, sys.stderr
    if outputs is not None:
        worker.reopen_outputs()
    front_end.leave(*before)
    empty_input()
    forget_callers_state()
    try:
        work(channel)
    except SystemExit as end:
        return _exit_status(end.code)
    finally:
        worker.run_exit_functions()
    return 0


def _exit_status(code: object) -> int:
    """Return the interpreter's exit status for the argument of sys.exit()."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def empty_input() -> None:
    """Replace the standard input by an empty one, because the caller reads from it."""
    empty = _fd.empty_input()
    os.dup2(empty, 0)
    _fd.close(empty)


# The variables in which modules record the caller's threads and processes, and their value in a
# process without any: the threads of its pools, its children, and its trackers and servers, which
# the container cannot reach.
_CALLERS = (
    ("concurrent.futures.thread", "_threads_queues", weakref.WeakKeyDictionary),
    ("concurrent.futures.process", "_threads_wakeups", weakref.WeakKeyDictionary),
    ("multiprocessing.process", "_children", set),
    ("multiprocessing.resource_tracker", "_resource_tracker._fd", lambda: None),
    ("multiprocessing.resource_tracker", "_resource_tracker._pid", lambda: None),
    ("multiprocessing.forkserver", "_forkserver._forkserver_address", lambda: None),
    ("multiprocessing.forkserver", "_forkserver._forkserver_alive_fd", lambda: None),
    ("multiprocessing.forkserver", "_forkserver._forkserver_pid", lambda: None),
)


def forget_callers_state() -> None:
    """Drop the caller's exit functions, its processes and threads, and its wake-up descriptor."""
    atexit._clear()
    worker.inherit_threads()
    forget_green_threads()
    # Otherwise a signal in the copy would wake the caller's event loop.
    signal.set_wakeup_fd(-1)
    for module, path, fresh in _CALLERS:
        owner: Any = sys.modules.get(module)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        if owner is not None and hasattr(owner, name):
            setattr(owner, name, fresh())
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()
