"""Start a command with the streams that ``-i`` and ``-t`` select, and wait for it."""

from __future__ import annotations

import subprocess

from minidocker._run.launch import Launch
from minidocker.cli.supervise import Signals, Supervisor

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
        start: a function that starts the command. Its arguments are the launch parameters and the
            keywords of the command's streams.
        settings: the settings ``interactive``, ``tty`` and ``timeout`` of the command line.
        trace: a descriptor to which the child writes each finished step.
        new_pid_namespace: see :class:`~minidocker.cli.supervise.Supervisor`.
        is_pid_1: see :class:`~minidocker.cli.supervise.Supervisor`.
    """
    terminal = terminal_for(settings)
    try:
        with Signals() as signals:
            # The command has a session of its own, so the caller's terminal does not signal it.
            # The supervisor forwards each signal, so the command receives it once.
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
    """Return a new terminal, or None without ``-t``."""
    if not settings.get("tty"):
        return None
    from minidocker.cli.terminal import Terminal

    return Terminal(interactive=bool(settings.get("interactive")))


def streams_for(settings: dict[str, Any], terminal: Terminal | None) -> dict[str, Any]:
    """Return the keywords of :class:`minidocker.Popen` for the command's standard streams."""
    if terminal is not None:
        slave = terminal.slave
        return {"stdin": slave, "stdout": slave, "stderr": slave}
    return {"stdin": None if settings.get("interactive") else subprocess.DEVNULL}
