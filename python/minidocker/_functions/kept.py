"""A container that performs one task after another, for one thread of an executor."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from minidocker._errors import CallResultError, CallTimeout
from minidocker._functions import conversation
from minidocker._functions.call import decode
from minidocker._functions.conversation import Conversation
from minidocker._functions.function_container import death_error
from minidocker._functions.outputs import Shown
from minidocker._functions.worker import Task, check_not_loading_main

if TYPE_CHECKING:
    from minidocker._functions.conversation import Interrupt
    from minidocker._functions.function_container import FunctionContainer, Starter
    from minidocker._functions.options import CallOptions
    from minidocker._functions.outputs import Destination

__all__ = ["KeptContainer"]


class KeptContainer:
    """A container that performs one task after another, for one thread.

    Args:
        start: starts the container.
        options: the options of its calls.
        initialize: an initializer and its arguments, or None.
        shown: where the output of the first task appears; None: it shares the caller's descriptors.
        interrupt: ends the first task.

    Raises:
        InitializerFailedError: the initializer failed.
    """

    def __init__(
        self,
        start: Starter,
        options: CallOptions,
        initialize: tuple[Any, tuple[Any, ...]] | None,
        shown: Destination | None,
        interrupt: Interrupt,
    ) -> None:
        self.tasks = 0
        self.is_dead = False
        self._options = options
        self._owner = os.getpid()
        check_not_loading_main()
        self._streams = None if shown is None else Shown(shown)
        outputs = None if self._streams is None else self._streams.inside
        as_json = options.result == "json"
        self._container: FunctionContainer | None = None
        try:
            self._container = start(None, outputs=outputs, timeout=options.timeout)
            self._conversation = Conversation(
                self._container, as_json=as_json, streams=self._streams, limit=options.limit
            )
            if initialize is not None:
                self._ask(Task(_nothing, (), {}, as_json, initialize), interrupt)
        except BaseException:
            self.is_dead = True
            self.close()
            raise

    def is_idle(self) -> bool:
        """Return whether the container can perform another task."""
        return not self.is_dead and self._conversation.is_idle()

    def run(self, task: Task, shown: Destination | None, interrupt: Interrupt) -> Any:
        self.tasks += 1
        if self._streams is not None and shown is not None:
            self._streams.destination = shown
        return self._ask(task, interrupt)

    def _ask(self, task: Task, interrupt: Interrupt) -> Any:
        assert self._container is not None
        request = task.message()
        try:
            self._conversation.limit_time(self._options.timeout)
            self._conversation.watch(interrupt)
            answer = self._conversation.ask(request)
        except BaseException:
            self._container.abandon()
            self.is_dead = True
            raise
        if answer is None:
            self.is_dead = True
            raise death_error(self._container.wait())
        return decode(task, answer, self._conversation, self._options)

    def close(self) -> None:
        """Let the container end, and reap it."""
        if self._owner != os.getpid():
            # In a forked process, the container belongs to the parent.
            return
        container, self._container = self._container, None
        if container is not None:
            if self.is_idle():
                self._conversation.hang_up()
                # No longer than a task may take.
                timeout = self._options.timeout
                grace = conversation.GRACE
                self._conversation.limit_time(grace if timeout is None else min(grace, timeout))
                # Nothing that it still sends matters.
                with contextlib.suppress(CallTimeout, CallResultError):
                    self._conversation.finish()
            container.abandon()
        if self._streams is not None:
            self._streams.close()


def _nothing() -> None:
    """Do nothing: the task of a container that is only initialized."""
