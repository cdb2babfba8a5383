"""`call` and `isolated`: run a Python function in a container of its own.

The function's own arguments are all that `call` takes beside ``spec``, so that no keyword of a
function is ever mistaken for one of minidocker's. How it is called (start method, timeout, captured
output) is said to `isolated`, which takes it before the function does.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from minidocker._errors import CallError, SpecError
from minidocker._functions import messages, spawn, worker
from minidocker._functions.conversation import Conversation, Streams, died
from minidocker._functions.fork import ForkedContainer, leave
from minidocker._functions.options import CALL_OPTIONS, CallOptions
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from minidocker._functions.conversation import Answer
    from minidocker._functions.options import IsolatedOptions
    from minidocker._run.completed import Usage
    from minidocker._run.process import Start

__all__ = ["CompletedCall", "Isolated", "call", "isolated"]

P = ParamSpec("P")
T = TypeVar("T")

_DEFAULT = CallOptions()


@dataclasses.dataclass(frozen=True, slots=True)
class CompletedCall(Generic[T]):
    """What `Isolated.run` returns.

    Attributes:
        value: what the function returned.
        stdout: what was written to its standard output, where that was captured; else None.
        stderr: likewise for standard error.
        usage: what it used up, or None where its container had to be ended.
    """

    value: T
    stdout: bytes | str | None
    stderr: bytes | str | None
    usage: Usage | None


@overload
def call(function: Callable[..., T], /, *args: Any, spec: Spec | None, **kwargs: Any) -> T: ...
@overload
def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def call(function: Callable[..., T], /, *args: Any, spec: Any = None, **kwargs: Any) -> T:
    """Call a function in a new container, and return its value.

    The function runs in a copy of this process: it sees every variable, and changes none of them.
    For a clean interpreter, a timeout or captured output see `isolated`.

    Type checkers compare the arguments with the function's, but not beside ``spec``, which Python's
    types cannot tell from them; ``isolated(spec=spec)(function)(...)`` is checked there too.

    Args:
        function: what is called.
        *args: its arguments.
        spec: the container; by default one with every namespace of `NamespaceOptions.all`.
        **kwargs: its keyword arguments.

    Raises:
        BaseException: whatever the function raised, with the remote traceback as its ``__cause__``.
        CallExited: it ended its interpreter.
        CallKilled: a signal ended it.
        CallLimitExceeded: a resource limit did.
        CallResultError: its value, or its exception, cannot be brought back.
        SpecError: wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step, which its ``step`` names; nothing is left.
    """
    return perform(function, args, kwargs, Spec.of(spec, {}), _DEFAULT, usage=False).value


class Isolated(Generic[P, T]):
    """A function that runs in a container of its own: what `isolated` makes of it.

    Calling it calls the function in a new container, as `call` does. ``__wrapped__`` is the
    function itself.
    """

    def __init__(self, function: Callable[P, T], spec: Spec, options: CallOptions) -> None:
        self.spec = spec
        self.options = options
        self.__wrapped__ = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        function = self.__wrapped__
        return perform(function, args, kwargs, self.spec, self.options, usage=False).value

    def run(self, *args: P.args, **kwargs: P.kwargs) -> CompletedCall[T]:
        """Call the function; its value with the captured output and what it used up.

        Raises:
            CallTimeout: the time was up.
            BaseException: as for `call`. A `CallError` has the output so far.
        """
        return perform(self.__wrapped__, args, kwargs, self.spec, self.options)

    @overload
    def __get__(self, instance: None, owner: type) -> Isolated[P, T]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Isolated[..., T]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Isolated[..., T]:
        """As a method: bound to its instance."""
        if instance is None:
            return self
        # Types, too, are functions here, which have no __get__.
        function: Callable[..., T] = self.__wrapped__
        bound = functools.partial(function, instance)
        return Isolated(bound, self.spec, self.options)

    def __reduce__(self) -> str | tuple[Any, ...]:
        name, module = getattr(self, "__qualname__", None), getattr(self, "__module__", None)
        if isinstance(name, str) and isinstance(module, str) and module != "__main__":
            found: Any = sys.modules.get(module)
            for part in name.split("."):
                found = getattr(found, part, None)
            if found is self:
                return name
        return type(self), (self.__wrapped__, self.spec, self.options)

    def __repr__(self) -> str:
        return f"<Isolated {self.__wrapped__!r}>"


class Decorator(Protocol):
    """What `isolated` returns where it has options: it keeps the function's types."""

    def __call__(self, function: Callable[P, T], /) -> Isolated[P, T]: ...


@overload
def isolated(function: Callable[P, T], /) -> Isolated[P, T]: ...
@overload
def isolated(*, spec: Spec | None = None, **options: Unpack[IsolatedOptions]) -> Decorator: ...
def isolated(
    function: Callable[..., Any] | None = None, /, *, spec: Spec | None = None, **options: Any
) -> Any:
    """Make a function run in a container of its own whenever it is called.

    ::

        @minidocker.isolated(hostname="lab", timeout=10)
        def experiment(seed): ...

        minidocker.isolated(method="spawn", preload=["numpy"])(solve)(matrix)

    Args:
        function: what is decorated, where there are no options.
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        **options: the fields of `Spec`, and:

            - ``method``: ``"fork"`` (the default): a copy of this process, which sees its memory;
              nothing is pickled but the result. ``"spawn"``: a clean interpreter; the function and
              its arguments are pickled, with cloudpickle where it is installed and needed.
            - ``timeout``: seconds until the whole container is ended.
            - ``result``: ``"pickle"`` (the default), or ``"json"``: for code that is not trusted;
              what comes back is not unpickled, and an exception comes back as a `CallFailed`.
            - ``result_limit``: the most bytes of a result, and of each captured stream.
            - ``preload``: modules that ``"spawn"`` has imported already, in a template process.
            - ``capture_output``: whether standard output and standard error are collected; see
              `Isolated.run`.
            - ``text``: whether they are decoded.

    Raises:
        SpecError: an option that does not exist, or a value of the wrong kind.
    """
    how = CallOptions(**{name: options.pop(name) for name in CALL_OPTIONS & options.keys()})
    where = Spec.of(spec, options, others=CALL_OPTIONS)

    def decorate(function: Callable[P, T]) -> Isolated[P, T]:
        return Isolated(function, where, how)

    return decorate if function is None else decorate(function)


def perform(
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    spec: Spec,
    options: CallOptions,
    *,
    usage: bool = True,
) -> CompletedCall[T]:
    """Call a function in a new container. ``usage``: whether what it used up is asked for."""
    _check(function)
    if options.method == "fork":
        return _by_fork(function, args, kwargs, spec, options)
    request = worker.task(
        function, tuple(args), dict(kwargs), as_json=options.result == "json", last=True
    )

    def start(
        outputs: tuple[int, int] | None, timeout: float | None
    ) -> tuple[spawn.Spawned | spawn.Executed, bytes]:
        running, first = spawn.spawn(
            spec, preload=tuple(options.preload), outputs=outputs, timeout=timeout
        )
        return running, first + request

    return converse(start, options, usage=usage)


def enter(
    start: Start,
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> T:
    """Call a function in a container that runs already: in a fresh interpreter.

    Never in a copy of this process: whoever is inside could trace the copy, and read there what
    this process has in its memory.

    Args:
        start: starts a command inside, as `minidocker._run.process.start` does.
        function: what is called.
        args: its arguments.
        kwargs: its keyword arguments.
    """
    _check(function)
    request = worker.task(function, tuple(args), dict(kwargs), last=True)

    def execute(
        outputs: tuple[int, int] | None, timeout: float | None
    ) -> tuple[spawn.Executed, bytes]:
        running, first = spawn.execute(start, outputs=outputs, timeout=timeout)
        return running, first + request

    value: T = converse(execute, _DEFAULT, usage=False).value
    return value


def _check(function: object) -> None:
    if not callable(function):
        reason = f"it is a {type(function).__name__}: give what can be called"
        raise SpecError(reason, option="function", value=function)
    worker.check_not_loading_main()


def _by_fork(
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    spec: Spec,
    options: CallOptions,
) -> CompletedCall[T]:
    def work(channel: int) -> None:
        reply = messages.answer(function, args, kwargs, as_json=options.result == "json")
        leave()
        worker.write(channel, reply)

    def start(
        outputs: tuple[int, int] | None, timeout: float | None
    ) -> tuple[ForkedContainer, bytes]:
        return ForkedContainer(work, spec, outputs=outputs, timeout=timeout), b""

    return converse(start, options)


def converse(
    start: Callable[[tuple[int, int] | None, float | None], tuple[Any, bytes]],
    options: CallOptions,
    *,
    usage: bool = True,
) -> CompletedCall[Any]:
    """Start a container, send it what it needs, and bring its answer back.

    Args:
        start: starts it, given the descriptors for its output and the seconds that there are.
        options: how the function is called.
        usage: whether what it used up is asked for.
    """
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    streams = Streams(options.limit) if options.capture_output else None
    try:
        running, request = start(None if streams is None else streams.inside, options.timeout)
        try:
            completely = usage or streams is not None
            answer = _converse(running, request, options, streams, deadline, completely=completely)
            ended = running.wait(answered=answer is not None and not completely)
            running.close()
        except BaseException:
            running.abandon()
            raise
    except CallError as error:
        error.stdout, error.stderr = _collected(streams, options)
        raise
    finally:
        if streams is not None:
            streams.close()
    stdout, stderr = _collected(streams, options)
    try:
        if answer is None:
            raise died(ended)
        as_json = options.result == "json"
        value = messages.bring_back(answer.kind, answer.payload, as_json=as_json)
    except CallError as error:
        # One that the function itself got from a call of its own has its own output.
        if error.stdout is None and error.stderr is None:
            error.stdout, error.stderr = stdout, stderr
        raise
    return CompletedCall(value, stdout, stderr, ended.usage)


def _converse(
    running: Any,
    request: bytes,
    options: CallOptions,
    streams: Streams | None,
    deadline: float | None,
    *,
    completely: bool,
) -> Answer | None:
    remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
    talk = Conversation(
        running, streams=streams, timeout=remaining, limit=options.limit, said=options.timeout
    )
    if request:
        talk.send(request)
    return talk.finish(completely=completely)


def _collected(
    streams: Streams | None, options: CallOptions
) -> tuple[bytes | str | None, bytes | str | None]:
    if streams is None:
        return None, None
    stdout, stderr = (bytes(collected) for collected in streams.collected)
    if options.text:
        return stdout.decode(errors="replace"), stderr.decode(errors="replace")
    return stdout, stderr


def hang_up(channel: int) -> None:
    """Say that no task will follow: whoever else has a copy of the descriptor."""
    with socket.socket(fileno=os.dup(channel)) as connection:
        connection.shutdown(socket.SHUT_WR)
