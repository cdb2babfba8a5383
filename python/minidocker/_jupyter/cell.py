"""``%%minidocker``: a cell as a shell script in a container, with live output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as IPythonUsageError

from minidocker._errors import Error
from minidocker._fd import pidfd_open
from minidocker._functions.sources import with_sources
from minidocker._jupyter.magics import brief
from minidocker._jupyter.pump import outputs, pump
from minidocker._run.launch import Launch
from minidocker._run.process import Popen, start
from minidocker._spec.spec import FIELDS, Spec
from minidocker.cli import request
from minidocker.cli.parser import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from minidocker._run.process import Start
    from minidocker.cli.parser import Parsed

# The kernel's limit for one argument without its NUL (MAX_ARG_STRLEN, execve(2)).
_LONGEST = 32 * 4096 - 1


def keywords(parsed: Parsed) -> dict[str, Any]:
    """Return the keywords of `minidocker.Popen` for the options.

    Raises:
        IPython.core.error.UsageError: two options contradict each other.
    """
    try:
        return request.keywords(parsed)
    except UsageError as error:
        raise IPythonUsageError(str(error)) from None


def container(shell: InteractiveShell, name: str) -> Any:
    """Return the container that a variable of the notebook holds.

    Raises:
        IPython.core.error.UsageError: there is no such variable, or it holds no container.
    """
    if name not in shell.user_ns:
        raise IPythonUsageError(f"--container: there is no variable {name}")
    value = shell.user_ns[name]
    if not hasattr(value, "popen"):
        kind = type(value).__name__
        raise IPythonUsageError(
            f"--container: {name} is of type {kind}; name a minidocker.Container"
        )
    return value


class Sink:
    """The destination of a stream's text: the cell's output, or a variable."""

    def __init__(self, stream: Any, shell: InteractiveShell, name: str | None) -> None:
        self._stream = stream
        self._shell = shell
        self._name = name
        self._parts: list[str] = []

    def write(self, text: str) -> None:
        """Show a piece of text, or keep it for the variable."""
        if self._name is not None:
            self._parts.append(text)
        else:
            self._stream.write(text)
            self._stream.flush()

    def finish(self) -> None:
        """Set the variable, if there is one."""
        if self._name is not None:
            self._shell.user_ns[self._name] = "".join(self._parts)


def sinks(shell: InteractiveShell, settings: dict[str, Any]) -> tuple[Sink, Sink]:
    """Return the destinations of standard output and standard error."""
    return (
        Sink(sys.stdout, shell, settings.get("out")),
        Sink(sys.stderr, shell, settings.get("err")),
    )


def run_script(shell: InteractiveShell, parsed: Parsed, cell: str) -> None:
    """Run a cell as a shell script; its operands are ``$1`` and so on.

    Raises:
        subprocess.CalledProcessError: the exit status is not 0.
        subprocess.TimeoutExpired: the time was up.
        minidocker.Error: the command could not be started.
        IPython.core.error.UsageError: two options contradict each other.
    """
    if "return" in parsed.settings:
        raise IPythonUsageError("--return needs --python; give both, or leave it out")
    program = parsed.settings.get("shell", "sh")
    if len(cell.encode()) > _LONGEST:
        raise IPythonUsageError(
            f"%%minidocker: the cell has {len(cell.encode())} bytes, but a program's argument has "
            f"at most {_LONGEST}; write it to a file and run that"
        )
    command = [program, "-c", cell, program, *parsed.operands]
    starts = _start
    if "container" in parsed.settings:
        starts = container(shell, parsed.settings["container"])._start
    run_command(shell, parsed, command, program, cell, starts=starts)


def _start(launch: Launch, command: Any, options: Mapping[str, Any]) -> Popen[Any]:
    """Start a command whose container has the files of the notebook's interpreter."""
    fields = {name: value for name, value in options.items() if name in FIELDS}
    others = {name: value for name, value in options.items() if name not in FIELDS}
    spec = with_sources(Spec.of(None, fields))
    return start(launch, command, {**others, "spec": spec})


def run_command(
    shell: InteractiveShell,
    parsed: Parsed,
    command: list[str],
    name: str,
    cell: Any,
    *,
    starts: Start = _start,
) -> None:
    """Run a command in a container, and show its output at once.

    Args:
        shell: the notebook.
        parsed: the options.
        command: the command.
        name: the name of the command in error messages.
        cell: the attribute ``cmd`` of exceptions.
        starts: the function that starts it, in a new or in a running container.

    Raises:
        subprocess.CalledProcessError: like `run_script`, which also lists the other exceptions.
    """
    settings, chosen = parsed.settings, keywords(parsed)
    stdout, stderr = sinks(shell, settings)
    timeout = settings.get("timeout")
    try:
        with outputs(stdout.write, stderr.write) as (out, err):
            launch = Launch(trace=err.writer if settings.get("explain") else None)
            streams = {"stdin": subprocess.DEVNULL, "stdout": out.writer, "stderr": err.writer}
            try:
                process = starts(launch, command, {**chosen, **streams})
            except Error:
                # Show the explained steps up to the failed one.
                err.drain()
                raise
            out.close_writer()
            err.close_writer()
            returncode = _wait_and_show(process, out, err, timeout)
    except Error as error:
        brief(error)
        raise
    except subprocess.TimeoutExpired as expired:
        expired.cmd = cell
        brief(expired, f"TimeoutExpired: {name} was killed after {timeout:g} s (--timeout)")
        raise
    finally:
        stdout.finish()
        stderr.finish()
    if returncode != 0:
        _failed(returncode, name, cell, raises=not settings.get("no_raise_error"))


def _wait_and_show(process: Popen[Any], out: Any, err: Any, timeout: float | None) -> int:
    pidfd = pidfd_open(process.pid)
    try:
        if not pump((out, err), pidfd, timeout=timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(process.args, timeout)
    except BaseException:
        # An interrupt of the Jupyter kernel is a KeyboardInterrupt, and kills the whole container.
        process._end()
        raise
    finally:
        os.close(pidfd)
    return process.wait()


def _failed(returncode: int, name: str, cell: Any, *, raises: bool) -> None:
    message = f"{name}: {ending(returncode)}"
    if not raises:
        print(message, file=sys.stderr)
        return
    error = subprocess.CalledProcessError(returncode, cell)
    brief(error, f"CalledProcessError: {message}")
    raise error


def ending(returncode: int) -> str:
    """Return a phrase for the way a command ended."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"  # a real-time signal
