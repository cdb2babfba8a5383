"""Facts from ``/proc`` about processes and their namespaces.

Every function takes ``root``, the mounted proc file system that it reads, and changes nothing.
Process ids are those of the PID namespace that ``root`` was mounted for. A process that ends while
it is read raises :exc:`ProcessLookupError`. A process that the caller may not inspect raises
:exc:`PermissionError`: the kernel checks the same permissions as for ``ptrace(2)``; see
``proc(5)``. Functions that read all processes skip those that end meanwhile.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from minidocker._inspect import kernel_text
from minidocker._inspect.kernel_text import unescaped, words
from minidocker._spec import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Namespace kind to the name of its link in ``/proc/PID/ns``.
KINDS: Mapping[str, str] = {kind: "mnt" if kind == "mount" else kind for kind in names.KINDS}

_HELPER = re.compile(r"minidocker-init( [0-9]{10}){2}")

#: The names of capabilities in the order of their numbers (``linux/capability.h``).
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

_SECCOMP_MODES = {"0": "disabled", "1": "strict", "2": "filter"}


class Process(NamedTuple):
    """One process of a container, seen from both sides."""

    #: Process id in the reader's PID namespace.
    pid: int
    #: Process id in the container's PID namespace.
    container_pid: int
    #: Arguments joined by spaces; ``[name]`` for a process that has none (a zombie).
    command: str


class FoundContainer(NamedTuple):
    """A PID namespace other than the reader's, named by its PID 1."""

    #: Process id of its PID 1, in the reader's PID namespace.
    pid: int
    #: Effective user id of PID 1, in the reader's user namespace.
    owner: int
    #: Seconds since the start of PID 1.
    age: float
    #: Arguments of PID 1 joined by spaces.
    command: str
    #: Kinds of namespace that differ from the reader's; None if the reader may not inspect them.
    differs: tuple[str, ...] | None


class IdRow(NamedTuple):
    """One row of ``/proc/PID/uid_map`` or ``gid_map``; ``outside`` is an id of the reader."""

    inside: int
    outside: int
    #: Number of ids that the row maps, counted up from both.
    length: int


class MountEntry(NamedTuple):
    """One line of ``/proc/PID/mountinfo`` (``proc_pid_mountinfo(5)``)."""

    target: str
    source: str
    type: str
    #: The directory of the file system that is mounted at ``target``.
    root: str
    options: tuple[str, ...]
    #: ``shared:N``, ``master:N``, ``propagate_from:N``, ``unbindable``; empty for a private mount.
    propagation: tuple[str, ...]
    #: ``major:minor`` of the file system; mounts with equal values show the same file system.
    device: str


class Interface(NamedTuple):
    """A network interface in the network namespace of a process."""

    name: str
    #: IPv4 and IPv6 addresses as ``address/prefix length``.
    addresses: tuple[str, ...]
    received_bytes: int
    sent_bytes: int


def _text(pid: int | str, name: str, root: str) -> str:
    try:
        return kernel_text.read(f"{root}/{pid}/{name}")
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None


def _lines(pid: int | str, name: str, root: str) -> list[str]:
    return kernel_text.lines(_text(pid, name, root))


def pids(root: str = "/proc") -> list[int]:
    """Return the ids of all visible processes, ascending."""
    return sorted(int(name) for name in os.listdir(root) if name.isdigit())


def namespace_inodes(pid: int | str = "self", root: str = "/proc") -> dict[str, int]:
    """Return namespace kind to inode number for ``pid``.

    Kinds that the kernel does not support (time before Linux 5.6) are left out.

    Raises:
        ProcessLookupError: there is no such process, or it is a zombie and has left its namespaces.
        PermissionError: the caller may not inspect the process.
    """
    inodes = {}
    for kind, link in KINDS.items():
        try:
            target = os.readlink(f"{root}/{pid}/ns/{link}")
        except FileNotFoundError:
            if not os.path.lexists(f"{root}/self/ns/{link}"):
                continue
            raise ProcessLookupError(f"process {pid} does not exist or has ended") from None
        inodes[kind] = int(target[target.index("[") + 1 : -1])
    return inodes


def status(pid: int | str = "self", root: str = "/proc") -> dict[str, str]:
    """Return the fields of ``/proc/PID/status``, each value without surrounding blanks."""
    return _fields(_lines(pid, "status", root))


def _fields(lines: list[str]) -> dict[str, str]:
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name] = value.strip(" \t")
    return fields


def pid_behind(pidfd: int) -> int:
    """Return the pid of the process behind a pidfd; proc_pid_fdinfo(5).

    It is 0 if the process is in a PID namespace that this process does not see, and -1 if it has
    ended.
    """
    fields = _fields(_lines("self", f"fdinfo/{pidfd}", "/proc"))
    return int(fields["Pid"])


def nested_pids(fields: Mapping[str, str]) -> tuple[int, ...]:
    """Return the ids of a process (its :func:`status`), from the reader's namespace inwards."""
    return tuple(int(word) for word in words(fields.get("NSpid", "")))


def command(pid: int | str = "self", root: str = "/proc") -> str:
    """Return the arguments of ``pid`` joined by spaces, or ``[name]`` if it has none.

    The argument of the helper, the padded number of a descriptor, says nothing to a reader.
    """
    arguments = _text(pid, "cmdline", root).rstrip("\0").replace("\0", " ")
    if _HELPER.fullmatch(arguments):
        return arguments.partition(" ")[0]
    return arguments or f"[{_text(pid, 'comm', root).removesuffix(chr(10))}]"


def age(pid: int | str = "self", root: str = "/proc") -> float:
    """Return the seconds since the start of ``pid``."""
    # The second field is the name in parentheses, which may itself contain parentheses.
    fields = words(_text(pid, "stat", root).rpartition(")")[2])
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    uptime = float(words(kernel_text.read(f"{root}/uptime"))[0])
    return max(0.0, uptime - started)


def processes_in(pid_namespace: int, root: str = "/proc") -> list[Process]:
    """Return the processes in a PID namespace and in those nested inside it, by host pid.

    Args:
        pid_namespace: inode number of the namespace (``namespace_inodes(pid)["pid"]``).
        root: the proc file system.

    A process that the caller may not inspect is left out, unless an ancestor is in the namespace.
    """
    level: int | None = None
    chains: dict[int, tuple[int, ...]] = {}
    parents: dict[int, int] = {}
    members = set()
    for pid, fields in _all_status(root):
        chains[pid] = nested_pids(fields)
        parents[pid] = int(fields.get("PPid", "0"))
        try:
            link = os.readlink(f"{root}/{pid}/ns/pid")
        except OSError:
            continue
        if link == f"pid:[{pid_namespace}]":
            members.add(pid)
            level = len(chains[pid]) - 1
    found = []
    for pid, chain in chains.items():
        if level is None or len(chain) <= level or not _descends(pid, parents, members):
            continue
        try:
            found.append(Process(pid, chain[level], command(pid, root)))
        except ProcessLookupError:
            continue
    return found


def _descends(pid: int, parents: Mapping[int, int], members: set[int]) -> bool:
    """Return whether ``pid`` or one of its ancestors is in ``members``."""
    seen: set[int] = set()
    # The parents were not read at one instant, so reused ids can form a circle.
    while pid not in seen:
        if pid in members:
            return True
        seen.add(pid)
        pid = parents.get(pid, 0)
    return False


def _all_status(root: str) -> Iterator[tuple[int, dict[str, str]]]:
    for pid in pids(root):
        try:
            yield pid, status(pid, root)
        except (ProcessLookupError, PermissionError):
            continue


def containers(root: str = "/proc") -> list[FoundContainer]:
    """Return every PID namespace nested in the one of ``root`` that has a live PID 1, by host pid.

    All users can read the ids in ``/proc/PID/status``, so containers of other users are found too;
    only their differing namespaces stay unknown.
    """
    own = namespace_inodes("self", root)
    found = []
    for pid, fields in _all_status(root):
        chain = nested_pids(fields)
        if len(chain) < 2 or chain[-1] != 1 or fields.get("State", "").startswith("Z"):
            continue
        try:
            differs = _differences(pid, own, root)
            if differs is not None and "pid" not in differs:
                continue
            owner = int(words(fields["Uid"])[1])
            row = FoundContainer(pid, owner, age(pid, root), command(pid, root), differs)
        except ProcessLookupError:
            continue
        found.append(row)
    return found


def _differences(pid: int, own: Mapping[str, int], root: str) -> tuple[str, ...] | None:
    try:
        inodes = namespace_inodes(pid, root)
    except PermissionError:
        return None
    return tuple(kind for kind, inode in inodes.items() if own.get(kind) != inode)


def id_map(pid: int | str, kind: str, root: str = "/proc") -> tuple[IdRow, ...]:
    """Return the rows of ``/proc/PID/uid_map`` (``kind="uid"``) or ``gid_map`` (``kind="gid"``)."""
    lines = _lines(pid, f"{kind}_map", root)
    return tuple(IdRow(*(int(word) for word in words(line))) for line in lines)


def mounts(pid: int | str = "self", root: str = "/proc") -> list[MountEntry]:
    """Return the mounts that ``pid`` sees, in the kernel's order."""
    return [_mount_entry(fields) for fields in mount_fields(pid, root)]


def mount_fields(pid: int | str = "self", root: str = "/proc") -> list[list[str]]:
    """Return the fields of each mount that ``pid`` sees, as the kernel writes them."""
    return [line.split(" ") for line in _lines(pid, "mountinfo", root)]


def _mount_entry(fields: list[str]) -> MountEntry:
    end = fields.index("-", 6)
    kind, source = fields[end + 1], fields[end + 2]
    return MountEntry(
        target=unescaped(fields[4]),
        source=unescaped(source),
        type=unescaped(kind),
        root=unescaped(fields[3]),
        options=tuple(fields[5].split(",")),
        propagation=tuple(fields[6:end]),
        device=fields[2],
    )


def cgroups(pid: int | str = "self", root: str = "/proc") -> dict[str, str]:
    """Return controllers to path; the unified hierarchy (version 2) has the empty key."""
    rows = (line.split(":", 2) for line in _lines(pid, "cgroup", root))
    return {controllers: path for _, controllers, path in rows}


def capabilities(fields: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the five capability sets of a process (its :func:`status`), by name."""
    sets = {
        "effective": "CapEff",
        "permitted": "CapPrm",
        "inheritable": "CapInh",
        "bounding": "CapBnd",
        "ambient": "CapAmb",
    }
    return {name: _capability_names(int(fields[field], 16)) for name, field in sets.items()}


def _capability_names(bits: int) -> tuple[str, ...]:
    numbers = (number for number in range(bits.bit_length()) if bits >> number & 1)
    return tuple(
        CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}"
        for number in numbers
    )


def seccomp(fields: Mapping[str, str]) -> str:
    """Return the seccomp mode of a process: ``disabled``, ``strict`` or ``filter``."""
    mode = fields.get("Seccomp", "0")
    return _SECCOMP_MODES.get(mode, mode)


def interfaces(pid: int | str = "self", root: str = "/proc") -> list[Interface]:
    """Return the interfaces of the network namespace of ``pid``, with their addresses.

    ``/proc`` has no field for the interface of an IPv4 address. The connected route that contains
    the address gives its interface; an address without such a route (a lone ``/32``) is left out.
    """
    addresses: dict[str, list[str]] = {}
    for name, address in (*_ipv4(pid, root), *_ipv6(pid, root)):
        addresses.setdefault(name, []).append(address)
    found = []
    for line in _lines(pid, "net/dev", root)[2:]:
        name, _, counters = line.partition(":")
        name, columns = name.strip(" "), words(counters)
        found.append(
            Interface(name, tuple(addresses.get(name, ())), int(columns[0]), int(columns[8]))
        )
    return found


def _ipv4(pid: int | str, root: str) -> Iterator[tuple[str, str]]:
    from ipaddress import IPv4Address, IPv4Network

    connected = [("lo", IPv4Network("127.0.0.0/8"))]
    for line in _lines(pid, "net/route", root)[1:]:
        name, destination, gateway, *rest = words(line)
        # Addresses are 32-bit words in the machine's byte order, in hexadecimal.
        start, mask = (
            IPv4Address(int(word, 16).to_bytes(4, sys.byteorder)) for word in (destination, rest[4])
        )
        if int(gateway, 16) == 0 and int(mask):
            connected.append((name, IPv4Network(f"{start}/{mask}")))
    connected.sort(key=lambda row: row[1].prefixlen, reverse=True)
    for address in _local_ipv4(_lines(pid, "net/fib_trie", root)):
        for name, network in connected:
            if IPv4Address(address) in network:
                yield name, f"{address}/{network.prefixlen}"
                break


def _local_ipv4(trie: list[str]) -> list[str]:
    """Return the addresses of the ``/32 host LOCAL`` leaves of a ``fib_trie``, once each."""
    found: dict[str, None] = {}
    leaf = ""
    for line in trie:
        columns = words(line)
        if columns[:1] == ["|--"]:
            leaf = columns[1]
        elif columns[:3] == ["/32", "host", "LOCAL"]:
            found[leaf] = None
    return list(found)


def _ipv6(pid: int | str, root: str) -> Iterator[tuple[str, str]]:
    from ipaddress import IPv6Address

    try:
        lines = _lines(pid, "net/if_inet6", root)
    except ProcessLookupError:
        return  # a kernel without IPv6 has no such file
    for line in lines:
        digits, _index, prefix, _scope, _flags, name = words(line)
        yield name, f"{IPv6Address(bytes.fromhex(digits))}/{int(prefix, 16)}"
