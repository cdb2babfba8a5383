"""`call` and `isolated`: run a Python function in a container of its own.

Every call takes the same way, independent of its start method: `perform` starts a container with
the `Starter` that `starter` selects, sends the task and receives the answer (``conversation.py``),
and decodes the answer (``messages.py``). Inside, ``worker.py`` calls the function.

`call` takes only ``spec`` besides the function's arguments, so a keyword of the function cannot
collide with an option. `isolated` takes the other options, separately from the arguments.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import time
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    overload,
)

from minidocker._errors import CallError, SpecError
from minidocker._functions import fork, interpreter, messages, spawn, worker
from minidocker._functions.conversation import Conversation
from minidocker._functions.function_container import death_error
from minidocker._functions.options import CALL_OPTIONS, CallOptions
from minidocker._functions.outputs import Captured, Destination, Shown
from minidocker._functions.sources import with_sources
from minidocker._functions.worker import Task
from minidocker._run.process import start as execute
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from minidocker._functions.conversation import Interrupt
    from minidocker._functions.function_container import Starter
    from minidocker._functions.messages import Message
    from minidocker._functions.options import IsolatedOptions
    from minidocker._run.completed import Usage
    from minidocker._run.launch import Launch
    from minidocker._run.process import Popen, Start

__all__ = ["CompletedCall", "Isolated", "call", "isolated"]

P = ParamSpec("P")
Rest = ParamSpec("Rest")
Instance = TypeVar("Instance")
T = TypeVar("T")

_DEFAULT = CallOptions()


@dataclasses.dataclass(frozen=True, slots=True)
class CompletedCall(Generic[T]):
    """The result of `Isolated.run`.

    Attributes:
        value: the return value of the function.
        stdout: its standard output, as bytes or with ``text`` as str; None if it was not captured.
        stderr: its standard error, likewise.
        usage: the resources that it used; None if its container had to be killed.
    """

    value: T
    stdout: bytes | str | None
    stderr: bytes | str | None
    usage: Usage | None


@overload
def call(
    function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, spec: Spec | None, **kwargs: Any
) -> T: ...
@overload
def call(function: Callable[..., T], /, *args: Any, spec: Spec | None, **kwargs: Any) -> T: ...
@overload
def call(
    function: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
) -> T: ...
@overload
def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
def call(function: Callable[..., T], /, *args: Any, spec: Any = None, **kwargs: Any) -> T:
    """Call a function in a new container, and return its value.

    The function runs in a copy of this process (fork(2)): it sees every variable of the caller, and
    its changes do not reach the caller. For a clean interpreter, a timeout or captured output see
    `isolated`. `asyncio.run` runs an async function, and its value is returned.

    Type checkers check the arguments against the function's parameters only if ``spec`` is not
    given, because Python's types cannot separate the two. ``isolated(spec=spec)(function)(...)`` is
    always checked.

    Args:
        function: the function.
        *args: its arguments.
        spec: the container; by default one with every namespace of `NamespaceOptions.all`.
        **kwargs: its keyword arguments.

    Raises:
        BaseException: the function's exception, with the remote traceback as its ``__cause__``.
        CallExited: the function ended its interpreter.
        CallKilled: a signal ended it.
        CallLimitExceeded: a resource limit ended it.
        CallResultError: its value or its exception cannot be transferred.
        SpecError: an option is wrong on any machine; nothing was created.
        SpawnError: the kernel refused a step, which its ``step`` names; nothing is left.
    """
    where = Spec.of(spec, {})
    value: T = _call(function, args, kwargs, where, _DEFAULT, usage=False).value
    return value


class Isolated(Generic[P, T]):
    """A function that runs in a container of its own; `isolated` makes it.

    Calling it calls the function in a new container, as `call` does. An async function, too, is
    called without ``await``: this blocks, and is no coroutine function. ``__wrapped__`` is the
    function itself.
    """

    def __init__(self, function: Callable[P, T], spec: Spec, options: CallOptions) -> None:
        self.spec = spec
        self.options = options
        self.__wrapped__ = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        done = _call(self.__wrapped__, args, kwargs, self.spec, self.options, usage=False)
        value: T = done.value
        return value

    def run(self, *args: P.args, **kwargs: P.kwargs) -> CompletedCall[T]:
        """Call the function; return its value, the captured output and the resources used.

        Raises:
            CallTimeout: the timeout expired.
            CallFailed: the function raised an exception, and the option ``result`` is ``"json"``.
            BaseException: as for `call`. A `CallError` has the output so far.
        """
        return _call(self.__wrapped__, args, kwargs, self.spec, self.options)

    @overload
    def __get__(self, instance: None, owner: type) -> Isolated[P, T]: ...
    @overload
    def __get__(
        self: Isolated[Concatenate[Instance, Rest], T],
        instance: Instance,
        owner: type | None = None,
    ) -> Isolated[Rest, T]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Isolated[..., T]:
        """Bind a method to its instance."""
        if instance is None:
            return self
        # Not every callable has a __get__: types have none.
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
    """The result of `isolated` with options; it keeps the function's types."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> Isolated[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Isolated[P, T]: ...
    def __call__(self, function: Callable[P, Any], /) -> Isolated[P, Any]: ...


@overload
def isolated(function: Callable[P, Coroutine[Any, Any, T]], /) -> Isolated[P, T]: ...
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
        function: the function, if there are no options.
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        **options: the fields of `Spec`, and:

            - ``method``: ``"fork"`` (the default): the function runs in a copy of this process and
              sees its memory, `os.environ` included; only the result is pickled. ``"spawn"``: it
              runs in a clean interpreter; the function and its arguments are pickled too, with
              cloudpickle if it is installed and needed. With ``profile="untrusted"`` only this
              method keeps the other variables of the environment from the function.
            - ``timeout``: seconds until the whole container is killed.
            - ``result``: ``"pickle"`` (the default), or ``"json"`` for untrusted code: the caller
              unpickles nothing, and raises the function's exception as a `CallFailed`.
            - ``result_limit``: the maximum size of a result, and of each captured stream, in bytes.
            - ``preload``: modules that the clean interpreter of ``"spawn"`` has imported.
            - ``capture_output``: collect standard output and standard error; see `Isolated.run`.
            - ``text``: decode the captured output as UTF-8.

    Returns:
        an `Isolated`, or without a function a decorator that makes one.

    Raises:
        SpecError: an option does not exist, or a value has the wrong type.
    """
    given = {name: options.pop(name) for name in CALL_OPTIONS & options.keys()}
    call_options = CallOptions(**given)
    where = Spec.of(spec, options, others=CALL_OPTIONS)

    def decorate(function: Callable[P, T]) -> Isolated[P, T]:
        refuse_generator(function)
        return Isolated(function, where, call_options)

    return decorate if function is None else decorate(function)


# --- performing a call -------------------------------------------------------------------------


def _call(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    spec: Spec,
    options: CallOptions,
    *,
    usage: bool = True,
) -> CompletedCall[Any]:
    task = Task(function, tuple(args), dict(kwargs), options.result == "json")
    return perform(task, starter(spec, options), options, usage=usage, shown=Destination.here())


def enter(
    execute: Start,
    function: Callable[..., T],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    trusted: bool,
    spec: Spec | None = None,
) -> T:
    """Call a function in a running container.

    Args:
        execute: starts a command inside, as `minidocker._run.process.start` does.
        function: the function.
        args: its arguments.
        kwargs: its keyword arguments.
        trusted: whether the container may get the key of `multiprocessing`.
        spec: the options of the container; None: they are unknown.
    """
    task = Task(function, tuple(args), dict(kwargs))
    start = functools.partial(interpreter.start, execute, trusted=trusted, spec=spec)
    value: T = perform(task, start, _DEFAULT, usage=False, shown=Destination.here()).value
    return value


def starter(spec: Spec, options: CallOptions) -> Starter:
    """Return the function that starts a container with the start method of the options."""
    spec = with_sources(spec)
    if options.method == "fork":
        return functools.partial(fork.start, spec)
    preload = tuple(options.preload)
    # With the key of multiprocessing, code controls the caller's managers.
    trusted = options.result == "pickle" and spec.profile != "untrusted"
    if spec.network is None or isinstance(spec.network, str):
        return functools.partial(spawn.start, spec, preload=preload, trusted=trusted)
    own = with_sources(dataclasses.replace(spec, init=spec.namespaces.pid))

    def in_own(launch: Launch, args: Any, options: Mapping[str, Any]) -> Popen[Any]:
        return execute(launch, args, {**options, "spec": own})

    return functools.partial(interpreter.start, in_own, preload=preload, trusted=trusted, spec=own)


def perform(
    task: Task,
    start: Starter,
    options: CallOptions,
    *,
    usage: bool = True,
    shown: Destination | None = None,
    interrupt: Interrupt | None = None,
) -> CompletedCall[Any]:
    """Start a container for a task, and return its value or raise its exception.

    Args:
        task: the task.
        start: starts the container.
        options: the options of the call.
        usage: whether to wait for the report of the resources used, which takes a moment longer.
        shown: where output that is not captured appears; None: the function shares the
            descriptors of the caller.
        interrupt: ends the call.
    """
    check(task.function)
    started = time.monotonic()
    captured = Captured(options.limit) if options.capture_output else None
    streams = captured or (Shown(shown) if shown is not None else None)
    completely = usage or captured is not None
    try:
        outputs = None if streams is None else streams.inside
        container = start(task, outputs=outputs, timeout=options.timeout)
        try:
            conversation = Conversation(
                container,
                as_json=task.as_json,
                streams=streams,
                interrupt=interrupt,
                timeout=options.timeout,
                since=started,
                limit=options.limit,
            )
            answer = conversation.finish(completely=completely)
            ended = container.wait(answered=answer is not None and not completely)
            container.close()
        except BaseException:
            container.abandon()
            raise
    except CallError as error:
        error.stdout, error.stderr = _collected(captured, options)
        raise
    finally:
        if streams is not None:
            streams.close()
    stdout, stderr = _collected(captured, options)
    try:
        if answer is None:
            raise death_error(ended)
        value = decode(task, answer, conversation, options)
    except CallError as error:
        # An error from a call that the function itself made has its own output.
        if error.stdout is None and error.stderr is None:
            error.stdout, error.stderr = stdout, stderr
        raise
    return CompletedCall(value, stdout, stderr, ended.usage)


class InitializerFailedError(Exception):
    """The initializer of a task raised an exception, which is the ``__cause__``."""


def decode(task: Task, answer: Message, conversation: Conversation, options: CallOptions) -> Any:
    """Return the value of an answer, or raise the function's exception.

    Raises:
        InitializerFailedError: the initializer failed, and the function was not called.
    """
    try:
        return messages.decode_answer(answer, as_json=task.as_json, limit=options.limit)
    except BaseException as error:
        conversation.explain(error)
        if task.initialize is None or conversation.is_initialized:
            raise
        raise InitializerFailedError from error


def check(function: object) -> None:
    """Refuse what cannot be called in a container, before one is started.

    Raises:
        SpecError: it is not callable, or it is a generator function.
        RuntimeError: a worker imports its caller's script.
    """
    if not callable(function):
        reason = f"it is of type {type(function).__name__}: give a function or another callable"
        raise SpecError(reason, option="function", value=function)
    refuse_generator(function)
    worker.check_not_loading_main()


def refuse_generator(function: Callable[..., Any]) -> None:
    """Refuse a generator function: its generator could not leave the container.

    Raises:
        SpecError: it is one.
    """
    # A function, a method or a `functools.partial`; or an object with such a __call__.
    for called in (function, getattr(type(function), "__call__", None)):  # noqa: B004 - the method
        for kind, is_one, remedy in (
            ("a generator function", inspect.isgeneratorfunction, "return a list"),
            ("an async generator function", inspect.isasyncgenfunction, "collect a list"),
        ):
            if is_one(called):
                reason = f"it is {kind}, and a generator cannot leave its container: {remedy}"
                raise SpecError(reason, option="function", value=function)


def _collected(
    captured: Captured | None, options: CallOptions
) -> tuple[bytes | str | None, bytes | str | None]:
    if captured is None:
        return None, None
    stdout, stderr = (bytes(collected) for collected in captured.collected)
    if options.text:
        return stdout.decode(errors="replace"), stderr.decode(errors="replace")
    return stdout, stderr
