"""`run`: start a command and wait for its end."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any, Unpack, overload

from minidocker._errors import unknown_option
from minidocker._run.capture import bytes_limit, check_captures
from minidocker._run.completed import CompletedProcess, tell
from minidocker._run.launch import Launch
from minidocker._run.process import construct, unstarted
from minidocker._spec.options import SUBPROCESS_KEYWORDS, WINDOWS_KEYWORDS
from minidocker._spec.spec import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minidocker._run.keywords import (
        Args,
        RunAsBytes,
        RunByEncoding,
        RunByErrors,
        RunByNewlines,
        RunByText,
        RunEither,
    )
    from minidocker._spec.spec import Spec

__all__ = ["complete", "run"]

PIPE = subprocess.PIPE
_PLAIN = Launch()
_OWN_KEYWORDS = ("spec", "input", "capture_output", "timeout", "check", "output_limit")
_KEYWORDS = FIELDS.union(SUBPROCESS_KEYWORDS, _OWN_KEYWORDS, WINDOWS_KEYWORDS)


@overload
def run(args: Args, **options: Unpack[RunByText]) -> CompletedProcess[str]: ...
@overload
def run(args: Args, **options: Unpack[RunByNewlines]) -> CompletedProcess[str]: ...
@overload
def run(args: Args, **options: Unpack[RunByEncoding]) -> CompletedProcess[str]: ...
@overload
def run(args: Args, **options: Unpack[RunByErrors]) -> CompletedProcess[str]: ...
@overload
def run(args: Args, **options: Unpack[RunAsBytes]) -> CompletedProcess[bytes]: ...
@overload
def run(args: Args, **options: Unpack[RunEither]) -> CompletedProcess[Any]: ...
def run(
    args: Any,
    *,
    spec: Spec | None = None,
    input: Any = None,  # noqa: A002 - the name that subprocess gives it
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    output_limit: int | None = None,
    **options: Any,
) -> CompletedProcess[Any]:
    """Run a command in a new container, with the meaning of `subprocess.run`.

    Args:
        args: the command: a sequence of arguments, or with ``shell=True`` a string.
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        input: the standard input of the command, bytes or text.
        capture_output: whether to collect standard output and standard error.
        timeout: seconds until the whole container is ended; None: no limit.
        check: whether a return code other than 0 raises an exception.
        output_limit: the most bytes to capture of both streams together. Beyond it, the whole
            container is ended, and at most that many bytes are returned; the result's ``limit_hit``
            is ``"output_limit"``.
        **options: the keywords of `subprocess.Popen` and the fields of `Spec`.

    Raises:
        SpecError: an option is wrong on any machine; nothing was created.
        CommandNotFound: the command does not exist inside.
        SpawnError: the kernel refused a step, which its ``step`` names; nothing is left.
        subprocess.TimeoutExpired: the timeout expired; the exception has the output so far.
        subprocess.CalledProcessError: the return code is not 0, and ``check`` is true.

    These two exceptions have the attributes ``usage`` and ``limit_hit``, as the result has.
    """
    if spec is not None:
        options["spec"] = spec
    return complete(
        _PLAIN if timeout is None else Launch(timeout=timeout), args, options,
        input=input, capture_output=capture_output, check=check, output_limit=output_limit,
    )  # fmt: skip


def complete(
    launch: Launch,
    args: Any,
    options: Mapping[str, Any],
    *,
    input: Any = None,  # noqa: A002 - the name that subprocess gives it
    capture_output: bool = False,
    check: bool = False,
    output_limit: int | None = None,
) -> CompletedProcess[Any]:
    """Start a command, and wait for its end.

    Args:
        launch: the launch parameters; ``timeout`` includes the command's own time.
        args: the command.
        options: the keywords of `Popen`.
        input: as for `run`.
        capture_output: as for `run`.
        check: as for `run`.
        output_limit: as for `run`.

    Raises:
        OSError: as for `run`.
    """
    if not _KEYWORDS.issuperset(options):
        name, value = next(item for item in options.items() if item[0] not in _KEYWORDS)
        raise unknown_option(name, value, [*SUBPROCESS_KEYWORDS, *_OWN_KEYWORDS, *FIELDS])
    if input is not None:
        if options.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        options = {**options, "stdin": PIPE}
    if capture_output:
        if options.get("stdout") is not None or options.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        options = {**options, "stdout": PIPE, "stderr": PIPE}
    captured = [options.get(stream) == PIPE for stream in ("stdout", "stderr")]
    check_captures(bytes_limit(output_limit), *captured)
    timeout = launch.timeout
    started = time.monotonic()
    process = unstarted(launch)
    try:
        construct(process, args, options)
        # The command does not get the terminal's SIGINT: after a Ctrl-C, end it at once.
        process._sigint_wait_secs = 0.0  # type: ignore[attr-defined]
        remaining = None if timeout is None else timeout - (time.monotonic() - started)
        stdout, stderr = process.communicate(input, timeout=remaining, output_limit=output_limit)
    except subprocess.TimeoutExpired as expired:
        process._end_alone()
        assert timeout is not None
        late = subprocess.TimeoutExpired(
            process.args, timeout, output=expired.output, stderr=expired.stderr
        )
        raise tell(late, process.usage, "timeout") from None
    except BaseException:
        process._end_alone()
        raise
    assert process.usage is not None
    completed: CompletedProcess[Any] = CompletedProcess(
        process.args,
        process.returncode,
        stdout,
        stderr,
        usage=process.usage,
        limit_hit=process.limit_hit,
    )
    if check:
        completed.check_returncode()
    return completed
