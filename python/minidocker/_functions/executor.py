"""`ContainerExecutor`: a `concurrent.futures.Executor` whose tasks run in containers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
import weakref
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack

from minidocker._errors import CallError, CallResultError, CallTimeout, Error
from minidocker._functions import front_end, messages
from minidocker._functions.call import InitializerFailedError, check, perform, starter
from minidocker._functions.conversation import Interrupt
from minidocker._functions.kept import KeptContainer
from minidocker._functions.options import CallOptions
from minidocker._functions.outputs import Destination
from minidocker._functions.worker import Task
from minidocker._run.timeouts import seconds
from minidocker._spec.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from minidocker._spec.typed import SpecOptions

__all__ = ["BrokenContainer", "ContainerExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class BrokenContainer(Error, BrokenExecutor):
    """The container of a task ended before the task, or its initializer failed.

    ``__cause__`` is the reason: a `CallKilled`, a `CallExited`, a `CallLimitExceeded`, or the
    initializer's exception.
    """


class ContainerExecutor(Executor):
    """Run functions in containers, with the meaning of `concurrent.futures.ProcessPoolExecutor`.

    ::

        with minidocker.ContainerExecutor(spec=minidocker.Spec(hostname="lab")) as pool:
            print(list(pool.map(simulate, range(100))))

    By default every task has a container of its own, so no task sees traces of another, and with
    the method ``"fork"`` only the result is pickled; ``max_tasks_per_child`` changes both. A task
    whose container dies raises a `BrokenContainer`, and the pool stays usable. Only an initializer
    that fails breaks the whole pool.

    Args:
        max_workers: the maximum number of containers that run at the same time; by default the
            number of CPUs that this process may use.
        spec: the container; a field of `Spec` given as a keyword overrides that one field.
        method: ``"fork"`` or ``"spawn"``: see `isolated`.
        initializer: called in each container before its first task.
        initargs: the arguments of the initializer.
        max_tasks_per_child: how many tasks a container performs, one after another; None: no limit.
            Above 1, both methods pickle the functions.
        timeout: seconds for a task, including the start of its container; then the task raises a
            `CallTimeout`. None: no limit.
        result: ``"pickle"``, or ``"json"`` for untrusted code: see `isolated`.
        result_limit: the maximum size of a result, in bytes.
        preload: modules that the clean interpreter of ``"spawn"`` has imported.
        **options: the fields of `Spec`.

    Raises:
        SpecError: an option does not exist, or a value has the wrong type.
        ValueError: a number of workers or tasks is below 1.
        TypeError: the initializer is not callable.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        spec: Spec | None = None,
        method: Literal["fork", "spawn"] = "fork",
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = 1,
        timeout: float | None = None,
        result: Literal["pickle", "json"] = "pickle",
        result_limit: int | None = None,
        preload: Sequence[str] = (),
        **options: Unpack[SpecOptions],
    ) -> None:
        where = Spec.of(spec, options)
        self._options = CallOptions(
            method=method,
            timeout=timeout,
            result=result,
            result_limit=result_limit,
            preload=preload,
        )
        self._start = starter(where, self._options)
        if max_workers is None:
            max_workers = len(os.sched_getaffinity(0))
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._initialize = None if initializer is None else (initializer, tuple(initargs))
        self._tasks = max_tasks_per_child
        self._broken: BaseException | None = None
        # A fork has none of its threads.
        self._owner = os.getpid()
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="ContainerExecutor")
        self._workers: set[KeptContainer] = set()
        self._futures: set[Future[Any]] = set()
        self._interrupt = Interrupt()
        self._has_ended = False
        _executors.add(self)
        front_end.after_interrupt(_end_all_tasks)
        weakref.finalize(self, _end_later, self._threads, self._workers)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a container; return its `concurrent.futures.Future`.

        A running future cannot be cancelled. A KeyboardInterrupt during its ``result()`` or
        ``exception()`` ends all tasks of the pool; the pool stays usable.

        Raises:
            RuntimeError: the executor has been shut down, or belongs to the process that this one
                was forked from.
            BrokenContainer: the initializer failed.
        """
        self._check()
        interrupt, where = self._interrupt, Destination.here()
        future: Future[T] = _Future(self)
        run = functools.partial(self._run, fn, args, kwargs, where, interrupt)
        interrupt.begin()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        future.add_done_callback(lambda _: interrupt.end())
        try:
            self._threads.submit(_settle, future, run)
        except BaseException:
            # A Ctrl-C during the start of a thread leaves the task queued, or even running. A
            # running task cannot be cancelled, and ends as all others of the pool do.
            future.cancel()
            raise
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **others: Any,
    ) -> Iterator[T]:
        """Return an iterator over the function's values, in the order of the items.

        Args:
            fn: the function; it takes one argument of each iterable.
            *iterables: the items.
            timeout: seconds from now; after them the iterator raises TimeoutError instead of
                waiting for a result.
            chunksize: the number of items that form one task and share a container.
            **others: further arguments of `concurrent.futures.Executor.map` in this version of
                Python.

        Raises:
            ValueError: the chunk size is below 1.
            SpecError: the timeout is not a number of seconds.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        timeout = seconds(timeout)
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **others)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        work = functools.partial(_run_chunk, fn)
        return _flat(super().map(work, chunks, timeout=timeout, **others))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further tasks.

        Args:
            wait: whether to wait until every task has ended.
            cancel_futures: whether to cancel the tasks that have not begun.
        """
        self._threads.shutdown(wait=False)
        if cancel_futures:
            for future in self._futures.copy():
                future.cancel()
        if not wait:
            _end_later(self._threads, self._workers)
            return
        try:
            # Not for the threads: a Ctrl-C in Thread.join() would let Python take a running thread
            # for one that has ended (3.11 and 3.12).
            futures_wait(self._futures.copy())
        except KeyboardInterrupt:
            self._end_tasks()
            futures_wait(self._futures.copy())
            raise
        finally:
            self._threads.shutdown(wait=True)
            _close(self._workers)
            self._interrupt.close()
            self._has_ended = True

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Another exception waits for the tasks, as in concurrent.futures.
        interrupted = isinstance(value, KeyboardInterrupt)
        if interrupted:
            self._end_tasks()
        self.shutdown(wait=True, cancel_futures=interrupted)

    def _end_tasks(self) -> None:
        """End every task that was submitted so far, after a Ctrl-C; the pool stays usable.

        The futures of these tasks get a `BrokenContainer`.
        """
        if not self._has_ended:
            interrupt, self._interrupt = self._interrupt, Interrupt()
            interrupt.set()

    def _check(self) -> None:
        if self._owner != os.getpid():
            reason = "the executor belongs to the process that this one was forked from"
            raise RuntimeError(f"{reason}: make another one here")
        if self._broken is not None:
            reason = "the initializer of a container failed, so the pool is no longer usable"
            raise BrokenContainer(reason) from self._broken

    # --- in the pool's threads -----------------------------------------------------------------

    def _run(
        self,
        function: Callable[..., T],
        args: Any,
        kwargs: Any,
        shown: Destination | None,
        interrupt: Interrupt,
    ) -> T:
        self._check()
        try:
            if interrupt.is_set():
                raise CallError("the caller was interrupted before the task began")
            task = Task(function, args, kwargs, self._options.result == "json")
            if self._tasks == 1:
                value: T = self._run_alone(task, shown, interrupt)
            else:
                check(function)
                value = self._run_with_others(task, shown, interrupt)
        except InitializerFailedError as failed:
            self._broken = failed.__cause__ or failed
            reason = f"the initializer of a container failed: {self._broken!r}"
            raise BrokenContainer(reason) from self._broken
        except (CallTimeout, CallResultError, BrokenContainer):
            raise
        except CallError as error:
            if _is_the_functions_own(error):
                raise
            raise BrokenContainer(f"the container of the task ended: {error}") from error
        return value

    def _run_alone(self, task: Task, shown: Destination | None, interrupt: Interrupt) -> Any:
        return perform(
            task._replace(initialize=self._initialize),
            self._start,
            self._options,
            usage=False,
            shown=shown,
            interrupt=interrupt,
        ).value

    def _run_with_others(self, task: Task, shown: Destination | None, interrupt: Interrupt) -> Any:
        worker: KeptContainer | None = getattr(self._local, "worker", None)
        if worker is not None and not worker.is_idle():
            # It ended between two tasks, or an earlier function sends what no task asked for.
            self._workers.discard(worker)
            worker.close()
            worker = None
        if worker is None:
            worker = self._local.worker = KeptContainer(
                self._start, self._options, self._initialize, shown, interrupt
            )
            self._workers.add(worker)
        try:
            value = worker.run(task, shown, interrupt)
        finally:
            if worker.is_dead or worker.tasks == self._tasks:
                del self._local.worker
                self._workers.discard(worker)
                worker.close()
        return value


class _Future(Future[T]):
    """A future that ends all tasks of its executor if a Ctrl-C interrupts a wait for it."""

    def __init__(self, executor: ContainerExecutor) -> None:
        super().__init__()
        self._executor = weakref.ref(executor)

    def result(self, timeout: float | None = None) -> T:
        with self._interruptible():
            return super().result(seconds(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        with self._interruptible():
            return super().exception(seconds(timeout))

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            executor = self._executor()
            # The function may have raised the exception itself.
            if executor is not None and not self.done():
                executor._end_tasks()
            raise


def _settle(future: Future[T], run: Callable[[], T]) -> None:
    """Run a task, unless its future was cancelled; give the future the value or the exception."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = run()
    except BaseException as error:  # noqa: BLE001 - the future raises it
        future.set_exception(error)
        # The exception's traceback holds this frame.
        del future
    else:
        future.set_result(value)


_executors: weakref.WeakSet[ContainerExecutor] = weakref.WeakSet()


def _end_all_tasks() -> None:
    for executor in list(_executors):
        executor._end_tasks()


def _end_at_exit() -> None:
    """End the tasks of a program that a Ctrl-C ends: the interpreter waits for their threads."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        _end_all_tasks()


# It runs before concurrent.futures waits for the threads.
threading._register_atexit(_end_at_exit)  # type: ignore[attr-defined]


def _close(workers: set[KeptContainer]) -> None:
    """Close the containers of threads that have ended."""
    while workers:
        workers.pop().close()


def _end_later(threads: ThreadPoolExecutor, workers: set[KeptContainer]) -> None:
    """Close the containers once the threads have ended."""
    threads.shutdown(wait=False)
    if not any(thread.is_alive() for thread in threads._threads):
        # For example at the end of the interpreter, which has joined the threads.
        _close(workers)
        return

    def wait() -> None:
        threads.shutdown(wait=True)
        _close(workers)

    threading.Thread(target=wait, name="ContainerExecutor-end", daemon=True).start()


def _is_the_functions_own(error: CallError) -> bool:
    """Return whether an exception comes from a call that the function itself made inside."""
    return isinstance(error.__cause__, messages.RemoteTraceback)


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _run_chunk(function: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    return [function(*arguments) for arguments in chunk]


def _flat(chunks: Iterator[list[T]]) -> Iterator[T]:
    try:
        for chunk in chunks:
            yield from chunk
    finally:
        # Closing the iterator cancels the chunks that have not begun.
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
