"""Start a command with the streams that ``-i`` and ``-t`` ask for, and see it through."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from minidocker.cli.supervise import Signals, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from minidocker.cli.terminal import Terminal


def launch(
    start: Callable[..., subprocess.Popen[bytes]],
    settings: dict[str, Any],
    *,
    new_pid_namespace: bool = False,
    is_pid_1: bool = False,
) -> int:
    """Start a command, wait for it, and return its return code (negative for a signal).

    Args:
        start: :class:`minidocker.Popen` or :meth:`minidocker.Container.popen` with everything but
            the streams already given.
        settings: of the command line: ``interactive``, ``tty``, ``timeout``.
        new_pid_namespace: see :class:`~minidocker.cli.supervise.Supervisor`.
        is_pid_1: the same.
    """
    terminal = terminal_for(settings)
    try:
        with Signals() as signals:
            # The command is in a session of its own, so signals of the caller's terminal reach it
            # once: from here.
            process = start(**streams_for(settings, terminal))
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
        return {"stdin": slave, "stdout": slave, "stderr": slave, "_terminal": True}
    return {"stdin": None if settings.get("interactive") else subprocess.DEVNULL}
