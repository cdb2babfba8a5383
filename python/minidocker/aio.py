"""`run` and `create_subprocess_exec` for asyncio, with the meaning of `asyncio.subprocess`.

The event loop watches a pidfd for the end of a container, without a thread or a SIGCHLD handler.
A cancellation, a timeout or any other exception in `run` ends the whole container and reaps it.
"""

from __future__ import annotations

import asyncio
import asyncio.base_subprocess
import asyncio.subprocess
import contextlib
import locale
import subprocess
import time
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING, Any, Unpack, overload

from minidocker._errors import SpecError, unknown_option
from minidocker._fd import close, pidfd_open
from minidocker._run.capture import bytes_limit, check_captures, decoded
from minidocker._run.completed import CompletedProcess, Usage, tell
from minidocker._run.process import Popen
from minidocker._run.timeouts import seconds
from minidocker._spec.options import SUBPROCESS_KEYWORDS, WINDOWS_KEYWORDS
from minidocker._spec.spec import FIELDS

if TYPE_CHECKING:
    from minidocker._run.keywords import (
        Args,
        File,
        RunAsBytes,
        RunByEncoding,
        RunByErrors,
        RunByNewlines,
        RunByText,
        RunEither,
        StreamlessOptions,
        StrOrBytesPath,
    )
    from minidocker._spec.spec import Spec

__all__ = ["AsyncProcess", "create_subprocess_exec", "create_subprocess_shell", "run"]

_LIMIT = 2**16
_CHUNK = 2**16
# Seconds until the next poll while another thread reaps the process.
_AGAIN = 0.001
# asyncio's streams carry bytes, so these keywords are refused.
_TEXT = ("text", "universal_newlines", "encoding", "errors")
_KEYWORDS = FIELDS.union(SUBPROCESS_KEYWORDS, WINDOWS_KEYWORDS, ["spec"])


class _Transport(asyncio.base_subprocess.BaseSubprocessTransport):
    """asyncio's transport for a `Popen` of this package."""

    _loop: asyncio.AbstractEventLoop
    _proc: Popen[bytes]
    popen: Popen[bytes]
    _pipes: dict[int, Any]
    _pidfd = -1

    def _start(
        self, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **rest: Any
    ) -> None:
        # asyncio sets _proc to None when the process has ended and its pipes are closed.
        self._proc = self.popen = Popen(
            args, bufsize, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, **rest
        )
        try:
            self._pidfd = pidfd_open(self._proc.pid)
            self._loop.add_reader(self._pidfd, self._reap)
        except BaseException:
            self._proc._end()
            self._close_pidfd()
            raise

    def _reap(self) -> None:
        """Reap the process, which has ended, and notify the protocol."""
        returncode = self._proc.poll()
        if returncode is None:
            self._loop.call_later(_AGAIN, self._reap)
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            self._close_pidfd()
        if returncode is not None:
            self._process_exited(returncode)

    # A version of asyncio calls os.kill() instead of the methods of `Popen`.

    def send_signal(self, signal: int) -> None:
        self._check_proc()
        self.popen.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        self.send_signal(SIGKILL)

    def are_pipes_connected(self) -> bool:
        """Return whether every pipe has its transport; only then can this one be closed."""
        return all(pipe is not None for pipe in self._pipes.values())

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            close(self._pidfd)
            self._pidfd = -1


class AsyncProcess(asyncio.subprocess.Process):
    """An `asyncio.subprocess.Process` whose process is a container."""

    _transport: _Transport

    @property
    def usage(self) -> Usage | None:
        """The resources that the command used; None until it has ended."""
        return self._transport.popen.usage

    @property
    def limit_hit(self) -> str | None:
        """The resource limit that ended the command, as in `Popen`."""
        return self._transport.popen.limit_hit


async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    limit: int = _LIMIT,
    **options: Unpack[StreamlessOptions],
) -> AsyncProcess:
    """Start a command in a new container, as `asyncio.create_subprocess_exec` does.

    Args:
        program: the command.
        *args: its arguments.
        stdin: as for `subprocess.Popen`; ``PIPE`` makes it an `asyncio.StreamWriter`.
        stdout: as for `subprocess.Popen`; ``PIPE`` makes it an `asyncio.StreamReader`.
        stderr: as for ``stdout``.
        limit: the size of a reader's buffer, in bytes.
        **options: the keywords of `Popen`, ``spec`` and the fields of `Spec`.

    Returns:
        the running process.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created. ``text``, ``encoding``,
            ``errors`` and ``universal_newlines`` are refused, because asyncio's streams carry
            bytes, and so is a ``bufsize``, because they have buffers of their own.
        SpawnError: the kernel refused a step; nothing is left.
    """
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return await _create([program, *args], False, limit, {**streams, **options})


async def create_subprocess_shell(
    cmd: str | bytes,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    limit: int = _LIMIT,
    **options: Unpack[StreamlessOptions],
) -> AsyncProcess:
    """Start a shell command in a new container, as `asyncio.create_subprocess_shell` does.

    Args:
        cmd: the command line that ``/bin/sh -c`` runs.
        stdin: as for `create_subprocess_exec`.
        stdout: as for `create_subprocess_exec`.
        stderr: as for `create_subprocess_exec`.
        limit: the size of a reader's buffer, in bytes.
        **options: the keywords of `Popen`, ``spec`` and the fields of `Spec`.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step; nothing is left.
    """
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return await _create(cmd, True, limit, {**streams, **options})


async def _create(args: Any, shell: bool, limit: int, options: dict[str, Any]) -> AsyncProcess:
    _check(options, shell=shell)
    loop = asyncio.get_running_loop()
    protocol = asyncio.subprocess.SubprocessStreamProtocol(limit=limit, loop=loop)
    connected: asyncio.Future[None] = loop.create_future()
    transport = _Transport(
        loop,
        protocol,
        args,
        shell,
        options.pop("stdin"),
        options.pop("stdout"),
        options.pop("stderr"),
        0,
        waiter=connected,
        **options,
    )
    try:
        await connected
    except BaseException:
        # The event loop still connects the pipes, so _end() has to wait for it.
        await _end(transport)
        raise
    return AsyncProcess(transport, protocol, loop)


def _check(options: dict[str, Any], *, shell: bool) -> None:
    """Refuse the keywords that asyncio's transport cannot take, and remove those that it sets.

    Raises:
        SpecError: an option does not exist, or does not go together with asyncio.
    """
    for name, value in options.items():
        if name not in _KEYWORDS:
            raise unknown_option(name, value, _KEYWORDS)
        if name in _TEXT and value:
            reason = "asyncio's streams carry bytes: decode them, or use minidocker.aio.run"
            raise SpecError(reason, option=name, value=value)
    # 0 is asyncio's own value, and -1 the default of subprocess.
    if (size := options.pop("bufsize", 0)) not in (0, -1):
        reason = "asyncio's streams have buffers of their own: leave it out"
        raise SpecError(reason, option="bufsize", value=size)
    if (given := options.pop("shell", shell)) is not shell:
        other = "create_subprocess_exec" if shell else "create_subprocess_shell"
        raise SpecError(f"use minidocker.aio.{other}", option="shell", value=given)


@overload
async def run(args: Args, **options: Unpack[RunByText]) -> CompletedProcess[str]: ...
@overload
async def run(args: Args, **options: Unpack[RunByNewlines]) -> CompletedProcess[str]: ...
@overload
async def run(args: Args, **options: Unpack[RunByEncoding]) -> CompletedProcess[str]: ...
@overload
async def run(args: Args, **options: Unpack[RunByErrors]) -> CompletedProcess[str]: ...
@overload
async def run(args: Args, **options: Unpack[RunAsBytes]) -> CompletedProcess[bytes]: ...
@overload
async def run(args: Args, **options: Unpack[RunEither]) -> CompletedProcess[Any]: ...
async def run(
    args: Any,
    *,
    spec: Spec | None = None,
    input: Any = None,  # noqa: A002 - the name that subprocess gives it
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    output_limit: int | None = None,
    text: bool | None = None,
    universal_newlines: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    shell: bool = False,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command in a new container, as `minidocker.run` does, without blocking the event loop.

    Cancelling the task that awaits it ends the whole container and reaps it.

    Args:
        args: the command: a sequence of arguments, or with ``shell=True`` a string.
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        input: the standard input of the command, bytes or text.
        capture_output: whether to collect standard output and standard error.
        timeout: seconds until the whole container is ended.
        check: whether a return code other than 0 raises an exception.
        output_limit: the most bytes to capture of both streams together, as for `minidocker.run`.
        text: whether the output is decoded, as for `subprocess.run`.
        universal_newlines: the older name of ``text``.
        encoding: the encoding of input and output.
        errors: how errors of encoding and decoding are handled.
        shell: whether ``/bin/sh -c`` runs ``args``.
        **options: the keywords of `subprocess.Popen` and the fields of `Spec`.

    Raises:
        SpecError: an option is wrong on any machine, or is one that asyncio cannot have, as for
            `create_subprocess_exec`; nothing was created.
        TypeError: the input is neither bytes nor text.
        SpawnError: the kernel refused a step; nothing is left.
        subprocess.TimeoutExpired: the timeout expired; the exception has the output so far.
        subprocess.CalledProcessError: the return code is not 0, and ``check`` is true.
    """
    timeout = seconds(timeout)
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = subprocess.PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = subprocess.PIPE
    timeout = seconds(timeout)
    output_limit = bytes_limit(output_limit)
    captured = [options.get(stream) == subprocess.PIPE for stream in ("stdout", "stderr")]
    check_captures(output_limit, *captured)
    is_text = bool(text or universal_newlines or encoding or errors)
    if isinstance(input, str):
        input = input.encode(encoding or locale.getencoding(), errors or "strict")  # noqa: A001
    elif input is not None:
        # asyncio would refuse it once the command runs.
        input = memoryview(input).cast("B")  # noqa: A001
    streams = {name: options.pop(name, None) for name in ("stdin", "stdout", "stderr")}
    started = time.monotonic()
    process = await _create(args, shell, _LIMIT, {**streams, "spec": spec, **options})
    transport = process._transport
    popen = transport.popen
    collected: dict[str, bytearray] = {}
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            exceeded = await _communicate(process, input, collected, output_limit)
        if exceeded:
            await _end(transport)
    except TimeoutError:
        await _end(transport)
        if not limit.expired():
            raise
        output = {name: bytes(found) for name, found in collected.items()}
        late = subprocess.TimeoutExpired(
            args, timeout or 0.0, output=output.get("stdout"), stderr=output.get("stderr")
        )
        raise tell(late, popen.usage, "timeout") from None
    except BaseException:
        await _end(transport)
        raise

    def result(name: str) -> Any:
        if name not in collected:
            return None
        found = bytes(collected[name])
        if not is_text:
            return found
        return decoded(found, encoding or locale.getencoding(), errors or "strict", cut=exceeded)

    usage = popen.usage or Usage(wall=time.monotonic() - started, user=0.0, system=0.0, peak=None)
    returncode = popen.returncode if process.returncode is None else process.returncode
    completed: CompletedProcess[Any] = CompletedProcess(
        args,
        -SIGKILL if exceeded else (returncode or 0),
        result("stdout"),
        result("stderr"),
        usage=usage,
        limit_hit="output_limit" if exceeded else popen.limit_hit,
    )
    if check:
        completed.check_returncode()
    return completed


async def _communicate(
    process: AsyncProcess,
    data: bytes | memoryview | None,
    collected: dict[str, bytearray],
    limit: int | None,
) -> bool:
    """Feed the command and collect its output; return whether that is more than the limit."""

    async def feed() -> None:
        if process.stdin is None:
            return
        # As in subprocess, it is not an error if the command does not read all of its input.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(data or b"")
            await process.stdin.drain()
        process.stdin.close()

    async def drain(name: str, reader: asyncio.StreamReader | None) -> None:
        if reader is None:
            return
        found = collected[name] = bytearray()
        while chunk := await reader.read(_CHUNK):
            found += chunk
            if limit is not None and (beyond := sum(map(len, collected.values())) - limit) > 0:
                del found[-beyond:]
                raise _Exceeded

    exceeded = False
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(feed())
            tasks.create_task(drain("stdout", process.stdout))
            tasks.create_task(drain("stderr", process.stderr))
            tasks.create_task(process.wait())
    except* _Exceeded:
        exceeded = True
    return exceeded


class _Exceeded(Exception):
    """The command wrote more than the limit."""


async def _end(transport: _Transport) -> None:
    """End the whole container and reap it, even if this task is cancelled once more.

    The transport closes the pipes, because the event loop watches their descriptors.
    """
    popen = transport.popen

    def kill() -> None:
        popen._kill_all()
        popen.wait()

    ending = asyncio.get_running_loop().run_in_executor(None, kill)
    while not (ending.done() and transport.are_pipes_connected()):
        with contextlib.suppress(asyncio.CancelledError):
            await (asyncio.sleep(0) if ending.done() else asyncio.shield(ending))
    ending.result()
    transport.close()
    # The transport closes the pipes in the next iteration of the loop, which may be its last.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
