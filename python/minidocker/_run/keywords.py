"""The types of the keywords of commands, and the overloads for text and bytes.

`subprocess` returns text if ``text``, ``universal_newlines``, ``encoding`` or ``errors`` is given.
Each function that starts a command has an overload for each of the four, one for none of them, and
one for a value that is known only at run time.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, TypedDict

from minidocker._spec.typed import CommandOptions, SpecOptions

if TYPE_CHECKING:
    from typing import Required

    from minidocker._spec.spec import Spec

StrOrBytesPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Args = StrOrBytesPath | Sequence[StrOrBytesPath]
"""A command: its arguments, or the line that ``shell=True`` runs."""
File = int | IO[Any] | None
"""A standard stream: a descriptor, a file, `subprocess.PIPE`, or the caller's own."""
Environment = Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath]


class ProcessOptions(TypedDict, total=False):
    """The keywords of `subprocess.Popen` that determine the state of the new process."""

    close_fds: bool
    shell: bool
    cwd: StrOrBytesPath | None
    env: Environment | None
    restore_signals: bool
    start_new_session: bool | None
    pass_fds: Collection[int]
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None


class StreamOptions(TypedDict, total=False):
    """The keywords of `subprocess.Popen` that may also be given by position."""

    bufsize: int
    executable: StrOrBytesPath | None
    stdin: File
    stdout: File
    stderr: File


class RunOptions(TypedDict, total=False):
    """The keywords of `run` that `Popen` does not have."""

    capture_output: bool
    timeout: float | None
    check: bool
    output_limit: int | None


# --- text or bytes -----------------------------------------------------------------------------


class AsBytes(TypedDict, total=False):
    text: Literal[False] | None
    universal_newlines: Literal[False] | None
    encoding: None
    errors: None


class ByText(TypedDict, total=False):
    text: Required[Literal[True]]
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None


class ByNewlines(TypedDict, total=False):
    text: bool | None
    universal_newlines: Required[Literal[True]]
    encoding: str | None
    errors: str | None


class ByEncoding(TypedDict, total=False):
    text: bool | None
    universal_newlines: bool | None
    encoding: Required[str]
    errors: str | None


class ByErrors(TypedDict, total=False):
    text: bool | None
    universal_newlines: bool | None
    encoding: str | None
    errors: Required[str]


class Either(TypedDict, total=False):
    text: bool | None
    universal_newlines: bool | None
    encoding: str | None
    errors: str | None


class BytesInput(TypedDict, total=False):
    input: bytes | bytearray | memoryview | None


class TextInput(TypedDict, total=False):
    input: str | None


class AnyInput(TypedDict, total=False):
    input: bytes | bytearray | memoryview | str | None


# --- a command in a new container --------------------------------------------------------------


class NewOptions(ProcessOptions, SpecOptions, total=False):
    spec: Spec | None


class StreamlessOptions(NewOptions, total=False):
    """The keywords of asyncio's functions, which have parameters for the streams."""

    executable: StrOrBytesPath | None


class PopenAsBytes(NewOptions, AsBytes): ...


class PopenByText(NewOptions, ByText): ...


class PopenByNewlines(NewOptions, ByNewlines): ...


class PopenByEncoding(NewOptions, ByEncoding): ...


class PopenByErrors(NewOptions, ByErrors): ...


class PopenEither(NewOptions, Either): ...


class ExplainOptions(PopenEither, StreamOptions): ...


class _Run(NewOptions, StreamOptions, RunOptions): ...


class RunAsBytes(_Run, AsBytes, BytesInput): ...


class RunByText(_Run, ByText, TextInput): ...


class RunByNewlines(_Run, ByNewlines, TextInput): ...


class RunByEncoding(_Run, ByEncoding, TextInput): ...


class RunByErrors(_Run, ByErrors, TextInput): ...


class RunEither(_Run, Either, AnyInput): ...


# --- a command in a running container ----------------------------------------------------------


class _Enter(ProcessOptions, StreamOptions, CommandOptions): ...


class EnterAsBytes(_Enter, AsBytes): ...


class EnterByText(_Enter, ByText): ...


class EnterByNewlines(_Enter, ByNewlines): ...


class EnterByEncoding(_Enter, ByEncoding): ...


class EnterByErrors(_Enter, ByErrors): ...


class EnterEither(_Enter, Either): ...


class EnterRunAsBytes(EnterAsBytes, RunOptions, BytesInput): ...


class EnterRunByText(EnterByText, RunOptions, TextInput): ...


class EnterRunByNewlines(EnterByNewlines, RunOptions, TextInput): ...


class EnterRunByEncoding(EnterByEncoding, RunOptions, TextInput): ...


class EnterRunByErrors(EnterByErrors, RunOptions, TextInput): ...


class EnterRunEither(EnterEither, RunOptions, AnyInput): ...
