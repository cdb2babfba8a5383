"""``%minidocker WORD ...``: the results of the command line's subcommands, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as IPythonUsageError

from minidocker._doctor import doctor
from minidocker._errors import Error
from minidocker._inspect import proc
from minidocker._inspect.html import escape, table
from minidocker._jupyter.cell import keywords, run_command
from minidocker._jupyter.magics import LINES, brief
from minidocker._run.explain import explain
from minidocker._words import nearest
from minidocker.cli.commands import inspect, ps
from minidocker.cli.parser import UsageError
from minidocker.cli.request import attached
from minidocker.cli.values import process_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from minidocker._container.attach import AttachedContainer
    from minidocker._doctor.report import Report
    from minidocker._inspect.view import View
    from minidocker._run.explain import Plan
    from minidocker.cli.parser import Command, Parsed


def command(name: str) -> Command:
    """Return the subcommand of that name.

    Raises:
        IPython.core.error.UsageError: there is none; the message names the nearest one.
    """
    if name in LINES:
        return LINES[name]
    near = nearest(name, LINES)
    remedy = f"did you mean {near}?" if near else "see %minidocker --help"
    raise IPythonUsageError(f"%minidocker: unknown command {name}; {remedy}")


def perform(shell: InteractiveShell, parsed: Parsed) -> Any:
    """Run the subcommand of a line, and return its result."""
    actions: dict[str, Callable[[InteractiveShell, Parsed], Any]] = {
        "doctor": _doctor,
        "exec": _exec,
        "explain": _explain,
        "inspect": _inspect,
        "ps": _ps,
        "run": _run,
        "view": _view,
    }
    try:
        return actions[parsed.command.name](shell, parsed)
    except UsageError as error:
        raise IPythonUsageError(str(error)) from None
    except Error as error:
        brief(error)
        raise


def _doctor(_shell: InteractiveShell, _parsed: Parsed) -> Report:
    return doctor()


def _explain(_shell: InteractiveShell, parsed: Parsed) -> Plan:
    return explain(parsed.operands, **keywords(parsed))


def _inspect(_shell: InteractiveShell, parsed: Parsed) -> dict[str, Any]:
    return inspect.of(parsed.operands[0])


def _run(shell: InteractiveShell, parsed: Parsed) -> None:
    run_command(shell, parsed, parsed.operands, parsed.operands[0], parsed.operands)


def _exec(shell: InteractiveShell, parsed: Parsed) -> None:
    operand, *words = parsed.operands
    with _attached("exec", operand) as container:
        run_command(shell, parsed, words, words[0], words, starts=container._start)


def _view(shell: InteractiveShell, parsed: Parsed) -> View:
    (operand,) = parsed.operands
    held: Any = shell.user_ns.get(operand)
    if hasattr(held, "view"):
        view: View = held.view()
        return view
    if not operand.isdigit():
        raise UsageError(f"view: {operand!r} is neither a PID nor a variable with a container")
    with _attached("view", operand) as container:
        return container.view()


def _attached(name: str, operand: str) -> AttachedContainer:
    try:
        pid = process_id(operand)
    except ValueError as error:
        raise UsageError(f"{name}: {operand!r} is not a PID: {error}") from error
    return attached(pid, name)


class Containers(list[proc.FoundContainer]):
    """A list of the visible containers, shown as ``minidocker ps`` shows it."""

    def __repr__(self) -> str:
        return ps.table(ps.rows(self), None).rstrip("\n")

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escape('No container is visible here.')}</p>"
        return table([name.lower() for name in ps.HEADER], ps.rows(self))


def _ps(_shell: InteractiveShell, parsed: Parsed) -> Any:
    found = Containers(proc.containers())
    if parsed.settings.get("quiet"):
        return [row.pid for row in found]
    return found
