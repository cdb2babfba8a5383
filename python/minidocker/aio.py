"""`run` and `create_subprocess_exec` for asyncio, with the meaning of `asyncio.subprocess`.

A container's end is told to the event loop by a pidfd: no thread, no handler of SIGCHLD.
Cancelling, a timeout or any other exception in `run` ends the whole container and reaps it.
"""

from __future__ import annotations

import asyncio
import asyncio.base_subprocess
import asyncio.subprocess
import contextlib
import io
import locale
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any, Unpack, overload

from minidocker._errors import SpecError
from minidocker._run.completed import CompletedProcess, Usage
from minidocker._run.process import Popen

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

__all__ = ["create_subprocess_exec", "create_subprocess_shell", "run"]

_LIMIT = 2**16
_CHUNK = 2**16
# How soon to look again when another thread is just reaping the process.
_AGAIN = 0.001
# What asyncio's streams, which carry bytes, have no use for.
_TEXT = ("text", "universal_newlines", "encoding", "errors")


class _Transport(asyncio.base_subprocess.BaseSubprocessTransport):
    """asyncio's transport, around a `Popen` of this package."""

    _loop: asyncio.AbstractEventLoop
    _proc: Popen[bytes]
    _pipes: dict[int, Any]
    _pidfd = -1

    def _start(
        self, args: Any, shell: Any, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **rest: Any
    ) -> None:
        self._proc = Popen(
            args, bufsize, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, **rest
        )
        try:
            self._pidfd = os.pidfd_open(self._proc.pid)
            self._loop.add_reader(self._pidfd, self._look)
        except BaseException:
            self._proc._end()
            self._close_pidfd()
            raise

    def _look(self) -> None:
        """The process has ended: reap it and tell the protocol."""
        returncode = self._proc.poll()
        if returncode is None:
            self._loop.call_later(_AGAIN, self._look)
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            self._close_pidfd()
        if returncode is not None:
            self._process_exited(returncode)

    def are_pipes_connected(self) -> bool:
        """Whether every pipe has its transport, which only then can be closed."""
        return all(pipe is not None for pipe in self._pipes.values())

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


async def create_subprocess_exec(
    program: StrOrBytesPath,
    *args: StrOrBytesPath,
    stdin: File = None,
    stdout: File = None,
    stderr: File = None,
    limit: int = _LIMIT,
    **options: Unpack[StreamlessOptions],
) -> asyncio.subprocess.Process:
    """Start a command in a new container, as `asyncio.create_subprocess_exec` does.

    Args:
        program: the command.
        *args: its arguments.
        stdin: as for `subprocess.Popen`; ``PIPE`` makes it an `asyncio.StreamWriter`.
        stdout: as for `subprocess.Popen`; ``PIPE`` makes it an `asyncio.StreamReader`.
        stderr: likewise.
        limit: how many bytes a reader buffers.
        **options: the keywords of `Popen`, ``spec`` and the fields of `Spec`.

    Raises:
        SpecError: wrong on any machine, ``text`` and its like included: asyncio's streams carry
            bytes.
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
) -> asyncio.subprocess.Process:
    """Run a line of shell in a new container, as `asyncio.create_subprocess_shell` does."""
    streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return await _create(cmd, True, limit, {**streams, **options})


async def _create(
    args: Any, shell: bool, limit: int, options: dict[str, Any]
) -> asyncio.subprocess.Process:
    for name in _TEXT:
        if options.get(name):
            reason = "the streams of asyncio carry bytes: decode them, or use minidocker.aio.run"
            raise SpecError(reason, option=name, value=options[name])
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
        # The pipes are still being connected; whichever are not yet would be afterwards.
        await _end(transport)
        raise
    return asyncio.subprocess.Process(transport, protocol, loop)


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
    text: bool | None = None,
    universal_newlines: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    shell: bool = False,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command in a new container, as `minidocker.run` does, without blocking the event loop.

    Cancelling the task that awaits it ends the whole container and reaps it.

    Raises:
        SpecError: wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step; nothing is left.
        subprocess.TimeoutExpired: the time was up; with the output so far.
        subprocess.CalledProcessError: with ``check``.
    """
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options["stdin"] = subprocess.PIPE
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options["stdout"] = options["stderr"] = subprocess.PIPE
    is_text = bool(text or universal_newlines or encoding or errors)
    if isinstance(input, str):
        input = input.encode(encoding or locale.getencoding(), errors or "strict")  # noqa: A001
    streams = {name: options.pop(name, None) for name in ("stdin", "stdout", "stderr")}
    started = time.monotonic()
    process = await _create(args, shell, _LIMIT, {**streams, "spec": spec, **options})
    transport: _Transport = process._transport  # type: ignore[attr-defined]
    popen = transport._proc
    collected: dict[str, bytearray] = {}
    try:
        async with asyncio.timeout(timeout):
            await _communicate(process, input, collected)
    except TimeoutError:
        await _end(transport)
        output = {name: bytes(found) for name, found in collected.items()}
        raise subprocess.TimeoutExpired(
            args, timeout or 0.0, output=output.get("stdout"), stderr=output.get("stderr")
        ) from None
    except BaseException:
        await _end(transport)
        raise

    def result(name: str) -> Any:
        if name not in collected:
            return None
        found = bytes(collected[name])
        return _decode(found, encoding, errors) if is_text else found

    usage = popen.usage or Usage(wall=time.monotonic() - started, user=0.0, system=0.0, peak=None)
    returncode = process.returncode if process.returncode is not None else 0
    completed: CompletedProcess[Any] = CompletedProcess(
        args, returncode, result("stdout"), result("stderr"), usage=usage
    )
    if check:
        completed.check_returncode()
    return completed


async def _communicate(
    process: asyncio.subprocess.Process, data: bytes | None, collected: dict[str, bytearray]
) -> None:
    async def feed() -> None:
        if process.stdin is None:
            return
        # A command that does not want its input to the end is no error, as in subprocess.
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

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(drain("stdout", process.stdout))
        tasks.create_task(drain("stderr", process.stderr))
        tasks.create_task(process.wait())


async def _end(transport: _Transport) -> None:
    """End the whole container and reap it, even if this task is cancelled once more.

    The pipes are the transport's to close: their descriptors are in the event loop.
    """
    popen = transport._proc

    def kill() -> None:
        popen._kill_all()
        popen.wait()

    ending = asyncio.get_running_loop().run_in_executor(None, kill)
    while not (ending.done() and transport.are_pipes_connected()):
        with contextlib.suppress(asyncio.CancelledError):
            await (asyncio.sleep(0) if ending.done() else asyncio.shield(ending))
    ending.result()
    transport.close()
    # The pipes close in the loop's next round, which may be its last.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _decode(output: bytes, encoding: str | None, errors: str | None) -> str:
    reader = io.TextIOWrapper(
        io.BytesIO(output), encoding=encoding or locale.getencoding(), errors=errors
    )
    return reader.read()
