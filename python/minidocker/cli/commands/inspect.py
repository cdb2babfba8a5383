"""``minidocker inspect``: a description of the container of a process, as JSON."""

from __future__ import annotations

import json

from minidocker._inspect import proc
from minidocker._inspect.uts import hostname_of
from minidocker.cli.errors import output
from minidocker.cli.parser import UsageError
from minidocker.cli.request import forbidden
from minidocker.cli.values import process_id

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

    from minidocker.cli.parser import Parsed


def main(parsed: Parsed) -> int:
    """Print one JSON object and return 0."""
    (operand,) = parsed.operands
    output(json.dumps(of(operand), indent=2) + "\n")
    return 0


def of(operand: str) -> dict[str, Any]:
    """Return a description of the container of the process with the PID ``operand``.

    Raises:
        UsageError: the operand is not a PID, there is no such process, or it belongs to another
            user.
    """
    try:
        pid = process_id(operand)
    except ValueError as error:
        raise UsageError(f"inspect: {operand!r} is not a PID: {error}") from error
    try:
        return describe(pid)
    except ProcessLookupError:
        raise UsageError(f"inspect: no process {pid} is alive here; see minidocker ps") from None
    except PermissionError as error:
        raise forbidden("inspect", pid, error) from error


def describe(pid: int) -> dict[str, Any]:
    """Describe the container of ``pid`` from ``/proc`` and the process's UTS namespace.

    Raises:
        ProcessLookupError: there is no such process, or it has just ended.
        PermissionError: the caller may not inspect it.
    """
    inodes = proc.namespace_inodes(pid)
    own = proc.namespace_inodes()
    fields = proc.status(pid)
    return {
        "pid": pid,
        "container_pid": (proc.nested_pids(fields) or (pid,))[-1],
        "command": proc.command(pid),
        "age": round(proc.age(pid), 2),
        "hostname": hostname_of(pid),
        "namespaces": {
            kind: {"inode": inode, "shared_with_caller": own.get(kind) == inode}
            for kind, inode in inodes.items()
        },
        "uid_map": [row._asdict() for row in proc.id_map(pid, "uid")],
        "gid_map": [row._asdict() for row in proc.id_map(pid, "gid")],
        "processes": [row._asdict() for row in _processes(pid, inodes, own)],
        "mounts": [row._asdict() for row in proc.mounts(pid)],
        "interfaces": [row._asdict() for row in proc.interfaces(pid)],
        "cgroups": proc.cgroups(pid),
        "capabilities": proc.capabilities(fields),
        "seccomp": proc.seccomp(fields),
        "no_new_privileges": fields.get("NoNewPrivs") == "1",
    }


def _processes(pid: int, inodes: dict[str, int], own: dict[str, int]) -> list[proc.Process]:
    if inodes["pid"] == own["pid"]:
        # In the caller's PID namespace nothing shows which processes belong to the container.
        return [proc.Process(pid, pid, proc.command(pid))]
    return proc.processes_in(inodes["pid"])
