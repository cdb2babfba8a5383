"""`Popen`: the meaning of `subprocess`, in a new container.

The differences from `subprocess`, and their reasons:

- ``preexec_fn`` is refused: the child shares the caller's memory until it executes the command, and
  no Python may run there.
- A container has a session of its own, so ``kill 0`` inside cannot reach a process outside.
  ``start_new_session=False`` is refused with a new PID namespace. A Ctrl-C therefore reaches Python
  only, which ends the container.
- A timeout, a Ctrl-C or another exception in `run` ends all of the container, pipes' holders too.
- The kernel drops signals that PID 1 does not handle. ``send_signal`` makes their effect on PID 1
  the same as on any other process.
- ``cwd``, ``env``, ``user``, ``group`` and ``extra_groups`` refer to the inside. With
  ``profile="untrusted"`` and without ``env``, the command inherits a few variables only.
"""

from __future__ import annotations

import contextlib
import errno
import math
import operator
import os
import signal
import subprocess
import sys
import threading
import time

from minidocker._errors import SpawnError, SpecError
from minidocker._run import arguments, limit_hit, timeouts
from minidocker._run.capture import Capture, bytes_limit, close_pipe
from minidocker._run.completed import Usage
from minidocker._run.ends import await_end
from minidocker._run.launch import Launch
from minidocker._run.session import kill_session
from minidocker._spec import accounts
from minidocker._spec.options import SUBPROCESS_KEYWORDS
from minidocker._spec.spec import Spec
from minidocker._unpatched import PlainPopen, has_green_threads

if sys.platform == "linux":
    from minidocker import _core

    # A forked child closes its parent's connection to the watchdog, which would otherwise wait for
    # the child's end as well.
    _core.register_at_fork()

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, AnyStr, NoReturn, Unpack, overload

    from minidocker._run.keywords import (
        Args,
        File,
        PopenAsBytes,
        PopenByEncoding,
        PopenByErrors,
        PopenByNewlines,
        PopenByText,
        PopenEither,
        StrOrBytesPath,
    )

    Start = Callable[[Launch, Any, Mapping[str, Any]], "Popen[Any]"]
    """A function such as `start`: starts a command in a new container or in a running one."""
else:
    AnyStr = "AnyStr"

__all__ = ["Popen", "construct", "start", "unstarted"]

_EXECUTE_CHILD = PlainPopen._execute_child.__code__  # type: ignore[attr-defined]
_GIVEN = operator.itemgetter(
    *(
        _EXECUTE_CHILD.co_varnames[1 : _EXECUTE_CHILD.co_argcount].index(name)
        for name in (
            "args", "executable", "shell", "cwd", "env", "close_fds", "pass_fds", "restore_signals",
            "umask", "start_new_session", "process_group", "uid", "gid", "gids",
            "p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite",
        )
    )
)  # fmt: skip
"""Selects these arguments of `subprocess.Popen._execute_child` by name: new versions of Python add
parameters to it."""

_INHERITED = (-1, -1, -1)
_NO_PIPES = (-1,) * 6


class Popen(PlainPopen[AnyStr]):
    """A `subprocess.Popen` whose process is a container.

    The keywords of `subprocess.Popen` keep their meaning, and every field of `Spec` is a keyword.

    Args:
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        start_new_session: by default a container has a session of its own; False is refused with a
            new PID namespace.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created.
        CommandNotFound: the command does not exist inside.
        SpawnError: the kernel refused a step, which its ``step`` names; nothing is left.

    Attributes:
        pid: the pid in the caller's PID namespace: the command's, or with ``init=True`` that of
            init.
        usage: the `Usage` of the command after it has been waited for; None until then.
        limit_hit: the option whose limit ended the command, after it has been waited for:
            ``"output_limit"``, ``"ulimits.cpu"`` or ``"ulimits.fsize"``; None if there is none.
    """

    _process: _core.Process | None = None
    # `unstarted` replaces it before the constructor runs.
    _launch = Launch()
    _capture: Capture | None = None

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Popen[str],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenByText],
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenByNewlines],
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenByEncoding],
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[str],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenByErrors],
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[bytes],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenAsBytes],
        ) -> None: ...
        @overload
        def __init__(
            self: Popen[Any],
            args: Args,
            bufsize: int = ...,
            executable: StrOrBytesPath | None = ...,
            stdin: File = ...,
            stdout: File = ...,
            stderr: File = ...,
            **options: Unpack[PopenEither],
        ) -> None: ...

    def __init__(
        self,
        args: Any,
        bufsize: int = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        preexec_fn: Callable[[], Any] | None = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: Any = None,
        env: Mapping[Any, Any] | None = None,
        universal_newlines: bool | None = None,
        startupinfo: Any = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool | None = None,
        pass_fds: Any = (),
        *,
        user: str | int | None = None,
        group: str | int | None = None,
        extra_groups: Any = None,
        encoding: str | None = None,
        errors: str | None = None,
        text: bool | None = None,
        umask: int = -1,
        pipesize: int = -1,
        process_group: int | None = None,
        spec: Spec | None = None,
        **options: Any,
    ) -> None:
        self.usage: Usage | None = None
        self._spec = Spec.of(spec, options, others=SUBPROCESS_KEYWORDS)
        entered = self._launch.enter
        if preexec_fn is not None:
            reason = "no Python may run between clone and exec: do it in the command instead"
            raise SpecError(reason, option="preexec_fn", value=preexec_fn)
        if user is None:
            user = self._spec.user
        # Skip the look-ups if there is nothing to look up: they would slow down every plain run.
        if not (user is None and group is None and extra_groups is None):
            where: dict[str, Any] = {"entered": entered, "rootfs": self._spec.rootfs}
            user, group = accounts.resolve(user, group, **where)
            extra_groups = accounts.named_groups(extra_groups, **where)
        if process_group is not None and process_group < 0:
            reason = "it is not a process group: give 0 for a new group, or the id of a group"
            raise SpecError(reason, option="process_group", value=process_group)
        try:
            super().__init__(
                args, bufsize, executable, stdin, stdout, stderr, None, close_fds, shell, cwd, env,
                universal_newlines, startupinfo, creationflags, restore_signals,
                start_new_session is not False, pass_fds, user=user, group=group,
                extra_groups=extra_groups, encoding=encoding, errors=errors, text=text,
                umask=umask, pipesize=pipesize, process_group=process_group,
            )  # fmt: skip
        except BaseException:
            # After an exception, for example a Ctrl-C after the launch, the caller has no object
            # with which to end the container.
            self._end_alone()
            raise

    def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> tuple[int, ...]:
        if stdin is None and stdout is None and stderr is None:
            return _NO_PIPES
        try:
            return super()._get_handles(stdin, stdout, stderr)
        except OSError as error:
            # The pipes are part of the launch, so their error has the launch's remedy.
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise _core.prepare_error(error.errno) from None
            raise

    # --- starting ------------------------------------------------------------------------------

    def _execute_child(self, *given: Any) -> None:
        (
            args, executable, shell, cwd, env, close_fds, pass_fds, restore_signals,
            umask, start_new_session, process_group, uid, gid, gids, *pipes,
        ) = _GIVEN(given)  # fmt: skip
        args, executable = arguments.words(args, executable, shell=shell)
        sys.audit("subprocess.Popen", executable, args, cwd, env)
        stdin, input_end, output_end, stdout, error_end, stderr = pipes
        stdio = arguments.stdio(stdin, stdout, stderr)
        if any(end >= 0 and end in stdio for end in (input_end, output_end, error_end)):
            # The caller's standard output is closed: for stderr=STDOUT subprocess gives the number
            # 1, which is by now this process's end of a pipe.
            raise _core.prepare_error(errno.EBADF)
        command = _core.Command(
            candidates=arguments.candidates(executable, env),
            argv=list(map(os.fsencode, args)),
            envp=None if env is None else arguments.environment(env),
            cwd=None if cwd is None else os.fsencode(cwd),
            stdio=stdio,
            pass_fds=() if pass_fds == () else arguments.descriptors(pass_fds),
            close_fds=bool(close_fds),
            restore_signals=bool(restore_signals),
            umask=arguments.number("umask", umask),
            new_session=start_new_session,
            process_group=arguments.number("process_group", process_group),
            terminal=self._launch.terminal,
            user=None if uid is None else accounts.single("user", uid),
            group=None if gid is None else accounts.single("group", gid),
            groups=None if gids is None else accounts.groups(gids),
        )
        self._start(command, executable, cwd)
        if stdio != _INHERITED:
            self._close_pipe_fds(*pipes)

    def _start(self, command: _core.Command, executable: Any, cwd: Any) -> None:
        self._started = time.monotonic()
        try:
            process = self._launch.spawn(self._spec, command, self)
        except _core.DeadlineReached:
            raise subprocess.TimeoutExpired(self.args, self._launch.timeout or 0.0) from None
        except SpawnError as error:
            if error.step == "exec":
                error.filename = os.fspath(executable)
                if error.errno in (errno.ENOENT, errno.EACCES) and executable == self.args:
                    error.hint = arguments.hint_for_string(self.args) or error.hint
            elif error.step == "chdir" and cwd is not None:
                error.filename = os.fspath(cwd)
            raise
        self.pid = process.pid
        self._child_created = True

    # --- waiting -------------------------------------------------------------------------------

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if self._process is None:
            return super()._try_wait(wait_flags)  # type: ignore[misc, no-any-return]
        exited = self._process.wait(block=not wait_flags & os.WNOHANG)
        if exited is None:
            return 0, 0
        seen, status, used = exited
        wall = time.monotonic() - self._started
        user, system, peak = used or (math.nan, math.nan, None)
        self.usage = Usage(wall=wall, user=user, system=system, peak=peak)
        if not seen:
            # SIGCHLD is ignored, or another wait(2) reaped the process: subprocess decides the
            # return code, unless it knows none.
            status = super()._try_wait(wait_flags)[1] or status  # type: ignore[misc]
        return self.pid, status or 0

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        if self.returncode is None:
            if not self._waitpid_lock.acquire(blocking=False):
                # Another thread is in wait(), and sets the return code.
                return None
            try:
                if not self._has_returncode():
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _has_returncode(self) -> bool:
        """Return whether another thread set the return code while this one took the lock."""
        return self.returncode is not None

    def communicate(
        self,
        input: Any = None,  # noqa: A002 - the name that subprocess gives it
        timeout: float | None = None,
        *,
        output_limit: int | None = None,
    ) -> tuple[Any, Any]:
        """Feed the command, collect its output and wait, as `subprocess.Popen.communicate` does.

        Args:
            input: the standard input, bytes or text.
            timeout: seconds until a TimeoutExpired; a second call goes on where the first stopped.
            output_limit: the most bytes to collect from both streams together. Beyond it, the whole
                container is ended, and at most that many bytes are returned.

        Raises:
            subprocess.TimeoutExpired: the timeout expired; it has the output so far.
            SpecError: the limit is not a positive integer, or no output is captured.
        """
        timeout = timeouts.seconds(timeout)
        if self._capture is None:
            if (output_limit := bytes_limit(output_limit)) is None:
                return super().communicate(input, timeout)
            self._capture = Capture(self, input, output_limit)
        else:
            self._capture.check_again(input, output_limit)
        capture, deadline = self._capture, timeouts.deadline_after(timeout)
        capture.exchange(deadline, timeout)
        if capture.exceeded:
            self._end()
            self.returncode = -signal.SIGKILL  # also if only descendants of the command were left
            return capture.results()
        try:
            self.wait(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise capture.expired(timeout) from None
        return capture.results()

    @property
    def limit_hit(self) -> str | None:
        if self.returncode is None:
            return None
        if self._capture is not None and self._capture.exceeded:
            return "output_limit"
        return limit_hit.of_death(self.returncode, self.usage, self._spec)

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(timeouts.seconds(timeout))

    def _remaining_time(self, endtime: float | None) -> float | None:
        """Return how long communicate() waits before it looks at the clock again."""
        milliseconds = timeouts.milliseconds_until(endtime)
        return None if milliseconds is None else milliseconds / 1000

    def _wait(self, timeout: float | None) -> int:
        if timeout is None:
            if has_green_threads() and self.poll() is None:
                await_end(self, math.inf)
        elif timeout > 0 and self.poll() is None:
            # subprocess polls, and may notice the end up to 50 milliseconds late.
            timeout = await_end(self, timeout)
        return super()._wait(timeout)  # type: ignore[misc, no-any-return]

    # --- signals -------------------------------------------------------------------------------

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command, as `subprocess.Popen.send_signal` does.

        The kernel drops signals that PID 1 does not handle (pid_namespaces(7)). If the default
        action of such a signal ends a process, and the command neither handles, ignores, blocks nor
        waits for it, the command is killed, and ``returncode`` is minus that signal.

        Args:
            sig: the number of the signal; signal(7). Nothing happens if the command has ended.

        Raises:
            PermissionError: the caller may not signal the command.
        """
        self.poll()
        if self.returncode is not None or self._process is None:
            return
        # The process may end after poll().
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(operator.index(sig))

    def _end(self) -> None:
        """End the whole container, close the pipes, and reap its first process."""
        if self._process is None:
            return
        self._kill_all()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                close_pipe(pipe)
        self.wait()

    def _end_alone(self) -> None:
        """Do the same if no other thread has this object.

        An exception from a signal handler may have left subprocess's lock for waiting locked.
        """
        self._waitpid_lock = threading.Lock()
        self._end()

    def _kill_all(self) -> None:
        """End the whole container."""
        if self._process is None:
            return
        # An exception may have prevented _start() from setting these two.
        self.pid = self._process.pid
        self._child_created = True
        # The kernel ends every process of a PID namespace with its PID 1.
        has_pid_1 = self._spec.namespaces.pid and self._launch.enter is None
        if self._process.leads_session and not has_pid_1:
            new = self._spec.namespaces if self._launch.enter is None else None
            kill_session(self.pid, reaped=self.returncode is not None, new=new)
        self.kill()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Popen cannot be pickled, because it is a child of this process: pass its pid and "
            "attach() to it, or pass the Spec and start another"
        )


def unstarted(launch: Launch) -> Popen[Any]:
    """Return a `Popen` that the caller passes to `construct`, with these launch parameters.

    The caller has the object before the launch, so it can end the container even if a Ctrl-C
    interrupts the constructor.
    """
    process: Popen[Any] = Popen.__new__(Popen)
    process._launch = launch
    return process


def construct(process: Popen[Any], args: Any, options: Mapping[str, Any]) -> None:
    """Call the constructor of an unstarted `Popen`, which starts the command."""
    process.__init__(args, **options)  # type: ignore[misc]


def start(launch: Launch, args: Any, options: Mapping[str, Any]) -> Popen[Any]:
    """Start a command, as the constructor of `Popen` does.

    Args:
        launch: the launch parameters.
        args: the command.
        options: the keywords of `Popen`.
    """
    process = unstarted(launch)
    construct(process, args, options)
    return process
