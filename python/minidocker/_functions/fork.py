"""Start method "fork": the function runs in a copy of this process.

`_core.fork` makes the copy: see ``core/src/launch/fork.rs``. What the copy then changes about
itself is what `multiprocessing` changes in its forked processes, and what follows from being in a
container.

What is true of threads: the copy has only the thread that made it. The C library's locks (of malloc
and stdio) and Python's own are fit for use in it, whoever held them. Any other lock that another
thread held at that moment stays locked in the copy; that is what Python (from 3.12 on) warns of
when `os.fork` is called in a process with threads, and it is as true here. There is no warning,
since this is not `os.fork` and since the default would give one at every call in Jupyter.
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
import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from minidocker._errors import CallTimeout
from minidocker._functions.conversation import Ended
from minidocker._run.completed import Usage
from minidocker._run.session import kill_session
from minidocker._spec import accounts
from minidocker._spec.mounts import Mount

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker._spec.spec import Spec

__all__ = ["ForkedContainer", "with_interpreter"]


class ForkedContainer:
    """A `Running` (see ``conversation.py``) whose command is a copy of this process.

    Args:
        work: called in the copy with the descriptor of its end of the channel. When it returns, the
            copy ends with status 0. None: the constructor returns in the copy too, which ``copied``
            tells; the copy has to do then what `become` does.
        spec: the container.
        outputs: what its standard output and error are; None: what this process's are.
        timeout: seconds until the container must have been made.
        inject: for tests: the call of that number fails with that error number.

    Raises:
        SpecError: wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step; nothing is left.
        CallTimeout: the time was up before the container was made.
    """

    channel = -1
    copied = False
    is_ours = True
    _process: _core.Process | None = None
    _pidfd = -1
    _reaped = False

    def __init__(
        self,
        work: Callable[[int], None] | None,
        spec: Spec,
        *,
        outputs: tuple[int, int] | None = None,
        timeout: float | None = None,
        inject: tuple[int, int] | None = None,
    ) -> None:
        self._spec = spec = with_interpreter(spec)
        command = how(spec, outputs)
        sys.audit("os.fork")
        # What is in the buffers would be written twice.
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        self._generation = _generation
        self._started = time.monotonic()
        try:
            if not _core.fork(spec.core(), command, self, timeout=timeout, inject=inject):
                if work is None:
                    self.copied = True
                    return
                become(work, self.channel, outputs)
            assert self._process is not None
            self.pid = self._process.pid
            if self._pidfd < 0:
                raise _core.prepare_error(errno.EMFILE)
        except _core.DeadlineReached:
            said = f"the container had not been made after {timeout} seconds"
            raise CallTimeout(said, timeout=timeout) from None
        except BaseException:
            self.abandon()
            raise

    def ends(self) -> int:
        return self._pidfd

    def kill(self) -> None:
        assert self._process is not None
        if not self._spec.namespaces.pid:
            kill_session(self._process.pid, reaped=self._reaped)
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            elif not self._reaped:
                self._process.send_signal(signal.SIGKILL)

    def wait(self, *, answered: bool = False) -> Ended:  # noqa: ARG002 - a `Running`'s
        assert self._process is not None
        exited = self._process.wait(block=True)
        assert exited is not None
        self._reaped = True
        if not self._spec.namespaces.pid:
            # What the function left running is in no PID namespace that ends with init.
            kill_session(self._process.pid, reaped=True)
        pidfd, self._pidfd = self._pidfd, -1
        _core.release([pidfd])
        status, used = exited
        code = None if status is None else os.waitstatus_to_exitcode(status)
        if used is None or code == -signal.SIGKILL:
            # Of a container that had to be ended, init reports nothing.
            return Ended(code, None)
        user, system, peak = used
        wall = time.monotonic() - self._started
        return Ended(code, Usage(wall=wall, user=user, system=system, peak=peak))

    def close(self) -> None:
        """Give the channel back."""
        channel, self.channel = self.channel, -1
        _core.release([channel])

    def abandon(self) -> None:
        """End it, and give everything back, however far it came."""
        if self._process is not None and self._generation == _generation:
            if not self._reaped or self._pidfd >= 0:
                self.kill()
                self.wait()
            self.close()

    def __del__(self) -> None:
        # An exception may have come in between, a Ctrl-C for one. With the caller it ends anyway.
        if self._process is not None and not sys.is_finalizing():
            self.abandon()


# Of this process among those that it was forked from: their containers are not its own.
_generation = 0


def _next_generation() -> None:
    global _generation  # noqa: PLW0603 - what this process is
    _generation += 1


os.register_at_fork(after_in_child=_next_generation)


def with_interpreter(spec: Spec) -> Spec:
    """A container for a function: where the profile hides homes and /tmp, this Python is shown.

    Interpreters and virtual environments are often there, and nothing could be imported without
    them. They are mounted where they are, read-only.
    """
    if spec.profile != "untrusted" or spec.rootfs is not None or not spec.namespaces.mount:
        return spec
    made: Spec | None = spec.__dict__.get("_with_interpreter")
    if made is None:
        prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
        home = os.path.expanduser("~")
        shown = [
            Mount(prefix, prefix, read_only=True)
            # The shortest first: one may be in another.
            for prefix in sorted(prefixes)
            # A prefix such as / or /usr is there anyway, and the home itself stays hidden.
            if os.path.isdir(prefix)
            and os.path.commonpath((prefix, "/usr")) == "/"
            and os.path.commonpath((prefix, home)) != prefix
        ]
        made = dataclasses.replace(spec, mounts=[*shown, *spec.mounts])
        object.__setattr__(spec, "_with_interpreter", made)
    return made


def how(spec: Spec, outputs: tuple[int, int] | None = None) -> _core.Command:
    """What the copy is inside, as a command without anything to execute."""
    stdio = (-1, -1, -1) if outputs is None else (-1, *outputs)
    if spec.user is None:
        return _how(stdio, None, None)
    return _how(stdio, *accounts.ids(spec.user))


@functools.lru_cache
def _how(stdio: tuple[int, int, int], user: int | None, group: int | None) -> _core.Command:
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


# --- in the copy
# -----------------------------------------------------------------------------------


def become(work: Callable[[int], None], channel: int, outputs: tuple[int, int] | None) -> NoReturn:
    """Run ``work`` in the copy, and end it: nothing of the caller's may go on here."""
    code = 1
    try:
        code = _work(work, channel, outputs)
    except BaseException:  # noqa: BLE001 - the copy ends here, whatever it is
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        os._exit(code)


def _work(work: Callable[[int], None], channel: int, outputs: tuple[int, int] | None) -> int:
    if outputs is not None:
        # The descriptors are in place.
        reopen_outputs()
    # What this process's input was is the caller's to read.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    forget_the_callers()
    try:
        work(channel)
    except SystemExit as end:
        return _exit_status(end.code)
    finally:
        leave()
    return 0


def reopen_outputs() -> None:
    """Make Python write to what the standard output and error of the process are by now."""
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for as long as the process lives
        for number in (1, 2)
    )


def leave() -> None:
    """What an interpreter does before it ends. What has been done already is not done again."""
    if threading.active_count() > 1:
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # Its own exit function was the caller's, if the caller had imported it.
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util._exit_function()
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _exit_status(code: object) -> int:
    """The exit status that the interpreter makes of the argument of sys.exit()."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


# What modules keep of the caller's threads and processes, and what it is where there are none: the
# threads of its pools, its children, and the trackers and servers that it started, which the
# container cannot reach.
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


def forget_the_callers() -> None:
    """Let go of what belongs to the caller: exit functions, processes, the loop's wake-up."""
    atexit._clear()
    # Signals would wake up the caller's event loop.
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


def _flush(stream: Any) -> None:
    # None, closed, or gone: what cannot be flushed was nobody's to read.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        stream.flush()
