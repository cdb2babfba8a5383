"""Start a command with the streams that ``-i`` and ``-t`` select, and wait for it."""

from __future__ import annotations

import os
import subprocess

from minidocker._run.launch import Launch
from minidocker.cli.relay import relays
from minidocker.cli.supervise import Signals, Supervisor

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from minidocker.cli.terminal import Terminal


class CommandStreams:
    """A command's standard streams, between :meth:`__enter__` and :meth:`__exit__`.

    Args:
        settings: the settings ``interactive`` and ``tty`` of the command line.
        relayed: whether output that goes to a pipe passes through a relay.

    Attributes:
        terminal: the command's terminal; None without ``-t``.
        relays: the pipes between a command that is PID 1 and the readers of its output.
        keywords: the keywords of :class:`minidocker.Popen` for the streams.
    """

    def __init__(self, settings: dict[str, Any], *, relayed: bool) -> None:
        interactive = bool(settings.get("interactive"))
        self.terminal: Terminal | None = None
        self.keywords: dict[str, Any]
        by_keyword = {}
        if settings.get("tty"):
            from minidocker.cli.terminal import Terminal

            self.terminal = Terminal(interactive=interactive)
            self.keywords = dict.fromkeys(("stdin", "stdout", "stderr"), self.terminal.slave)
        else:
            by_keyword = relays() if relayed else {}
            self.keywords = {"stdin": None if interactive else subprocess.DEVNULL}
            self.keywords |= {name: relay.writer for name, relay in by_keyword.items()}
        self.relays = [*{*by_keyword.values()}]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self.relays:
            relay.close()
        if self.terminal is not None:
            self.terminal.close()


def launch(
    start: Callable[[Launch, dict[str, Any]], subprocess.Popen[bytes]],
    settings: dict[str, Any],
    *,
    trace: int | None = None,
    new_pid_namespace: bool = False,
    is_pid_1: bool = False,
    relayed: bool = False,
) -> int:
    """Start a command, wait for it, and return its return code (negative for a signal).

    Args:
        start: a function that starts the command. Its arguments are the launch parameters and the
            keywords of the command's streams.
        settings: the settings ``interactive``, ``tty`` and ``timeout`` of the command line.
        trace: a descriptor to which the child writes each finished step.
        new_pid_namespace: see :class:`~minidocker.cli.supervise.Supervisor`.
        is_pid_1: see :class:`~minidocker.cli.supervise.Supervisor`.
        relayed: see :class:`CommandStreams`.
    """
    input_terminal = None
    if settings.get("interactive") and os.isatty(0):
        from minidocker.cli.terminal import InputTerminal

        input_terminal = InputTerminal(0)
        input_terminal.await_foreground()
    with CommandStreams(settings, relayed=relayed) as streams, Signals() as signals:
        # The command has a session of its own, so the caller's terminal does not signal it.
        # The supervisor forwards each signal, so the command receives it once.
        how = Launch(trace=trace, terminal=streams.terminal is not None)
        process = start(how, streams.keywords)
        signals.started = True
        for relay in streams.relays:
            relay.started()
        supervisor = Supervisor(
            process,
            signals,
            terminal=streams.terminal,
            input_terminal=input_terminal if streams.terminal is None else None,
            relays=streams.relays,
            new_pid_namespace=new_pid_namespace,
            is_pid_1=is_pid_1,
            timeout=settings.get("timeout"),
        )
        return supervisor.wait()
