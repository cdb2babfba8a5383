"""Start a command with the streams that ``-i`` and ``-t`` ask for, and see it through."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from minidocker._run.launch import Launch
from minidocker.cli.supervise import Signals, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.terminal import Terminal


def launch(
    start: Callable[[Launch, dict[str, Any]], subprocess.Popen[bytes]],
    settings: dict[str, Any],
    *,
    trace: int | None = None,
    new_pid_namespace: bool = False,
    is_pid_1: bool = False,
) -> int:
    """Start a command, wait for it, and return its return code (negative for a signal).

    Args:
        start: starts the command, given how, and the keywords of its streams.
        settings: of the command line: ``interactive``, ``tty``, ``timeout``.
        trace: a descriptor that each step is written to when it is done.
        new_pid_namespace: see :class:`~minidocker.cli.supervise.Supervisor`.
        is_pid_1: the same.
    """
    terminal = terminal_for(settings)
    try:
        with Signals() as signals:
            # The command is in a session of its own, so signals of the caller's terminal reach it
            # once: from here.
            how = Launch(trace=trace, terminal=terminal is not None)
            process = start(how, streams_for(settings, terminal))
            signals.started = True
            supervisor = Supervisor(
                process,
                signals,
                terminal=terminal,
                new_pid_namespace=new_pid_namespace,
                is_pid_1=is_pid_1,
                timeout=settings.get("timeout"),
            )
            return supervisor.wait()
    finally:
        if terminal is not None:
            terminal.close()


def terminal_for(settings: dict[str, Any]) -> Terminal | None:
    """Return a new terminal if ``-t`` was given."""
    if not settings.get("tty"):
        return None
    from minidocker.cli.terminal import Terminal

    return Terminal(interactive=bool(settings.get("interactive")))


def streams_for(settings: dict[str, Any], terminal: Terminal | None) -> dict[str, Any]:
    """Return the keywords of :class:`minidocker.Popen` that are about its streams."""
    if terminal is not None:
        slave = terminal.slave
        return {"stdin": slave, "stdout": slave, "stderr": slave}
    return {"stdin": None if settings.get("interactive") else subprocess.DEVNULL}
