"""The plan of `run`: the ordered list of its system calls, without making one."""

from __future__ import annotations

import html
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from minidocker._run.launch import Launch
from minidocker._run.process import Popen, construct

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from minidocker._inspect.html import PrettyPrinter
    from minidocker._run.keywords import Args, ExplainOptions

__all__ = ["Plan", "PlannedCall", "explain"]


class PlannedCall(NamedTuple):
    """One system call of a plan."""

    #: The calling process: ``"caller"``, ``"child"``, ``"joiner"``, ``"init"`` or ``"command"``.
    actor: str
    #: The short name of its step, as in a `SpawnError`.
    step: str
    #: The call with its real arguments, as strace(1) would show it.
    call: str
    #: The reason in a few words; None if the call needs none.
    note: str | None

    def __str__(self) -> str:
        line = f"{self.actor:<7} {self.call}"
        return line if self.note is None else f"{line}    # {self.note}"


class Plan:
    """An ordered list of system calls: a sequence of `PlannedCall`.

    ``str()`` has one line for each; in Jupyter it is a table.
    """

    def __init__(self, args: Any, calls: list[PlannedCall]) -> None:
        self.args = args
        self._calls = tuple(calls)

    def __iter__(self) -> Iterator[PlannedCall]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: int) -> PlannedCall:
        return self._calls[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return self._calls == other._calls

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Plan of {len(self)} calls for {self.args!r}>"

    def __str__(self) -> str:
        return "\n".join(map(str, self._calls))

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text("..." if cycle else str(self))

    def _repr_html_(self) -> str:
        # Notebooks align tables to the right and keep code on one line, which is long here.
        left = ' style="text-align:left"'
        wrapped = ' style="white-space:pre-wrap;overflow-wrap:anywhere"'
        rows = []
        for number, call in enumerate(self._calls, 1):
            code = f"<code{wrapped}>{html.escape(call.call)}</code>"
            cells = [str(number), call.actor, call.step, code, html.escape(call.note or "")]
            rows.append("<tr>" + "".join(f"<td{left}>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(
            f"<th{left}>{name}</th>" for name in ("", "who", "step", "system call", "why")
        )
        return (
            f'<table class="minidocker-plan"{left}>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )


class _Planning(Popen[Any]):
    """A `Popen` that computes its plan instead of starting a container."""

    calls: list[PlannedCall]

    def _start(self, command: _core.Command, executable: Any, cwd: Any) -> None:  # noqa: ARG002 - the signature of `Popen`
        lines = _core.plan_lines(self._spec.core(), command, enter=self._launch.enter)
        self.calls = [PlannedCall(*line) for line in lines]

    def close(self) -> None:
        """Close the pipes, which subprocess makes before it starts a process."""
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()


def explain(args: Args, **options: Unpack[ExplainOptions]) -> Plan:
    """Return the ordered list of system calls that `run` would make, without making one.

    The plan is the list that `run` executes. Descriptors that do not exist yet are shown by name.

    Args:
        args: the command.
        **options: the keywords of `Popen` and the fields of `Spec`.

    Raises:
        SpecError: `run` would raise it too.
    """
    return plan(Launch(), args, options)


def plan(launch: Launch, args: Any, options: Mapping[str, Any]) -> Plan:
    """Return the plan that `minidocker._run.process.start` would execute for a command.

    Args:
        launch: the launch parameters.
        args: the command.
        options: the keywords of `Popen`.

    Raises:
        SpecError: `run` would raise it too.
    """
    process = _Planning.__new__(_Planning)
    process._launch = launch
    construct(process, args, options)
    process.close()
    return Plan(args, process.calls)
