"""From a parsed command line to keywords of :class:`minidocker.Popen`."""

from __future__ import annotations

import os

from minidocker._spec.names import KINDS
from minidocker.cli.flags import SHARING
from minidocker.cli.parser import Parsed, UsageError

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any

    from minidocker._container.attach import AttachedContainer
    from minidocker._spec.namespaces import NamespaceOptions


def keywords(parsed: Parsed, entered: int | None = None) -> dict[str, Any]:
    """Return the keywords that describe the container and the command's environment.

    Args:
        parsed: the command line.
        entered: the pid of the container to enter.

    Raises:
        UsageError: two options contradict each other.
        minidocker.Error: the process of ``--network container:PID`` is in no container, or the name
            in ``--user`` does not exist.
    """
    chosen = dict(parsed.keywords)
    namespaces = _namespaces(parsed)
    if namespaces is not None:
        chosen["namespaces"] = namespaces
    network = parsed.settings.get("network")
    if network is not None:
        chosen["network"] = _network(network)
    if "user" in chosen:
        # Resolve names here: subprocess would raise its own exception for an unknown name.
        from minidocker._spec import accounts

        name, rootfs = chosen["user"], chosen.get("rootfs")
        user, group = accounts.resolve(name, None, entered=entered, rootfs=rootfs)
        if group is None:
            # As in docker; subprocess leaves the group as it is.
            group = accounts.primary_group(name, entered=entered, rootfs=rootfs)
        chosen["user"] = user
        if group is not None:
            chosen["group"] = group
    environment = _environment(parsed.settings, chosen)
    if environment is not None:
        chosen["env"] = environment
    return chosen


def has_new_pid_namespace(chosen: dict[str, Any]) -> bool:
    """Return whether these keywords make a new PID namespace."""
    namespaces = chosen.get("namespaces")
    return namespaces is None or bool(namespaces.pid)


def is_pid_1(chosen: dict[str, Any]) -> bool:
    """Return whether a command with these keywords is PID 1 itself."""
    return has_new_pid_namespace(chosen) and not chosen.get("init", False)


def is_relayed(chosen: dict[str, Any]) -> bool:
    """Return whether the output of a command with these keywords passes through a relay.

    A container that may outlive minidocker keeps the caller's own pipes.
    """
    return is_pid_1(chosen) and bool(chosen.get("die_with_parent", True))


def _environment(settings: dict[str, Any], chosen: dict[str, Any]) -> dict[str, str] | None:
    """Return the command's environment; None: what the command inherits by default."""
    rows = [row for file in settings.get("env_file", ()) for row in file]
    rows += settings.get("env", ())
    if not rows and not settings.get("clearenv"):
        return None
    environment = {} if settings.get("clearenv") else _inherited(chosen)
    for name, value in rows:
        if value is None:
            # The caller does not have the variable, so the command does not get it, as in docker.
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def _inherited(chosen: dict[str, Any]) -> dict[str, str]:
    from minidocker._spec.spec import FIELDS, Spec

    fields = {name: value for name, value in chosen.items() if name in FIELDS}
    return Spec.of(None, fields).inherited_environment()


def _namespaces(parsed: Parsed) -> NamespaceOptions | None:
    """Return which namespaces are new, or None if no option selects them."""
    settings = parsed.settings
    shared = [kind for kind in KINDS if f"share_{kind}" in settings]
    wants_time = "time_offsets" in parsed.keywords
    if "namespaces" not in settings and not shared and not wants_time:
        return None
    from minidocker._spec.namespaces import NamespaceOptions

    options = NamespaceOptions.all()
    if "namespaces" in settings:
        kinds, written_out = settings["namespaces"]
        for kind in shared:
            if written_out and kind in kinds:
                raise UsageError(
                    f"{parsed.command.name}: --namespaces requests a new {kind} namespace and "
                    f"--{SHARING.get(kind, kind)} host the caller's; leave one of them out"
                )
        options = NamespaceOptions.none()
        for kind in kinds:
            options = getattr(options, f"with_{kind}")()
    for kind in shared:
        options = getattr(options, f"without_{kind}")()
    return options.with_time() if wants_time else options


def _network(text: str) -> Any:
    kind, _, pid = text.partition(":")
    if kind != "container":
        return text
    return attached(int(pid), "--network container")


def attached(pid: int, what: str) -> AttachedContainer:
    """Return the container of a process.

    Args:
        pid: the process.
        what: the command or option that names the process, for the error message.

    Raises:
        UsageError: there is no such process, or the caller may not inspect it.
        minidocker.SpecError: the process is in no container.
    """
    from minidocker._container.attach import attach

    try:
        return attach(pid)
    except ProcessLookupError:
        raise UsageError(f"{what}: no process {pid} is alive here; see minidocker ps") from None
    except PermissionError as error:
        raise forbidden(what, pid, error) from None


def forbidden(what: str, pid: int, error: PermissionError) -> UsageError:
    """Return the error for a process that the caller may not inspect."""
    if os.geteuid():
        reason = "belongs to another user; run this as that user or as root"
    else:
        reason = (
            f"may not be inspected ({error.strerror}): root has no CAP_SYS_PTRACE over it here; "
            "run this outside of the container or sandbox around it"
        )
    return UsageError(f"{what}: process {pid} {reason}")
