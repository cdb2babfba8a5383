"""The host's view beside the container's: a snapshot of the live system, and its picture.

`look` reads the system, and is the only function that does; `View` is the snapshot; `picture_of`
makes its lines, which are the same in a notebook and in a terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import TYPE_CHECKING, NamedTuple

from minidocker._inspect import proc
from minidocker._inspect.namespaces import Namespaces, namespaces
from minidocker._inspect.picture import Link, Picture, PictureRow, Section
from minidocker._inspect.text import printable
from minidocker._inspect.uts import hostname_of
from minidocker._inspect.view_html import html
from minidocker._inspect.view_text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from minidocker._inspect.html import PrettyPrinter
    from minidocker._inspect.proc import IdRow, Interface, MountEntry, Process
    from minidocker._spec.names import Kind

__all__ = ["SeenProcess", "Side", "View", "look"]

_OVERFLOW_ID = 65534
# The largest number of lines of one kind in a section; the rest is counted.
_LINES = 6
# The largest number of characters of a command in the picture.
_COMMAND = 44
_ALL_IDS = 2**32 - 1


class SeenProcess(NamedTuple):
    """One process of the container, with its names on both sides."""

    #: Process id on the host.
    pid: int
    #: Process id inside.
    container_pid: int
    #: Effective user id on the host.
    uid: int
    #: Effective user id inside; None if the id map has no row for it.
    container_uid: int | None
    #: Arguments joined by spaces.
    command: str


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """The view of one side.

    Attributes:
        hostname: the host name in its UTS namespace; None if it is unknown.
        namespaces: kind → inode.
        interfaces: the network interfaces, with their addresses.
        mounts: the mounts, in the kernel's order.
    """

    hostname: str | None
    namespaces: Namespaces
    interfaces: tuple[Interface, ...]
    mounts: tuple[MountEntry, ...]


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class View:
    """The host's view of a container beside the container's own, at one moment.

    In Jupyter it is a picture; ``str()`` is the same picture in text.

    Attributes:
        pid: the host pid of the container's first process.
        host: the view of this process.
        container: the view of the container's first process.
        processes: the container's processes, with both pids.
        others: the number of processes of the host that are not in the container.
        uid_map: the rows ``inside, outside, length``; outside ids are the host's.
        gid_map: the same rows for groups.
    """

    pid: int
    host: Side
    container: Side
    processes: tuple[SeenProcess, ...]
    others: int
    uid_map: tuple[IdRow, ...]
    gid_map: tuple[IdRow, ...]

    @property
    def shared(self) -> frozenset[Kind]:
        """The kinds of namespace that both sides share."""
        return frozenset(self.container.namespaces.shared_with(self.host.namespaces))

    def __repr__(self) -> str:
        name = self.container.hostname
        return f"<View of container {name!r} pid {self.pid}>"

    def _repr_pretty_(self, printer: PrettyPrinter, cycle: bool) -> None:
        printer.text("..." if cycle else str(self))

    def __str__(self) -> str:
        return text(picture_of(self))

    def _repr_html_(self) -> str:
        return html(picture_of(self))


# --- the snapshot ------------------------------------------------------------------------------


def look(pid: int, processes: Iterable[Process]) -> View:
    """Return a view of a container from both sides.

    Args:
        pid: the host pid of its first process.
        processes: its processes, as `minidocker.Container.processes` lists them.

    Raises:
        ProcessLookupError: the container has ended.
        PermissionError: the container belongs to another user.
    """
    uid_map = proc.id_map(pid, "uid")
    seen = tuple(_seen(processes, uid_map))
    host = Side(
        hostname=os.uname().nodename,
        namespaces=namespaces(),
        interfaces=tuple(proc.interfaces()),
        mounts=tuple(proc.mounts()),
    )
    container = Side(
        hostname=hostname_of(pid),
        namespaces=namespaces(pid),
        interfaces=tuple(proc.interfaces(pid)),
        mounts=tuple(proc.mounts(pid)),
    )
    inside = {process.pid for process in seen}
    return View(
        pid=pid,
        host=host,
        container=container,
        processes=seen,
        others=sum(other not in inside for other in proc.pids()),
        uid_map=uid_map,
        gid_map=proc.id_map(pid, "gid"),
    )


def _seen(processes: Iterable[Process], uid_map: Sequence[IdRow]) -> Iterator[SeenProcess]:
    for process in processes:
        # The process may have ended since it was listed.
        with contextlib.suppress(ProcessLookupError):
            uid = int(proc.status(process.pid)["Uid"].split()[1])
            inside = _inside(uid, uid_map)
            yield SeenProcess(process.pid, process.container_pid, uid, inside, process.command)


def _inside(outside: int, rows: Sequence[IdRow]) -> int | None:
    for row in rows:
        if row.outside <= outside < row.outside + row.length:
            return row.inside + outside - row.outside
    return None


# --- the picture -------------------------------------------------------------------------------


_TITLES: dict[Kind, str] = {
    "pid": "Processes",
    "uts": "Host name",
    "user": "Users",
    "mount": "Mounts",
    "net": "Network",
    "ipc": "IPC",
    "cgroup": "Control groups",
    "time": "Clocks",
}


def picture_of(view: View) -> Picture:
    """Return the picture of a view."""
    return Picture(view.pid, view.host.hostname, view.container.hostname, _sections(view))


def _sections(view: View) -> list[Section]:
    """Return the picture's lines, by kind of namespace."""
    contents = {
        "pid": _process_rows,
        "uts": _hostname_rows,
        "user": _user_rows,
        "mount": _mount_rows,
        "net": _network_rows,
    }
    found = []
    for kind, title in _TITLES.items():
        ours, theirs = view.host.namespaces.get(kind), view.container.namespaces.get(kind)
        if ours is None or theirs is None:
            continue  # a kind that the kernel does not support
        link = Link.SHARED if ours == theirs else Link.OWN
        head = PictureRow(f"{kind}:[{ours}]", link, link.value, f"{kind}:[{theirs}]")
        rows = tuple(contents[kind](view, link)) if kind in contents else ()
        found.append(Section(kind, title, head, rows))
    return found


def _process_rows(view: View, link: Link) -> Iterator[PictureRow]:
    joined, label = (link, "") if link is Link.SHARED else (Link.SAME, "same process")
    for process in view.processes[:_LINES]:
        command = printable(process.command)
        command = command if len(command) <= _COMMAND else f"{command[: _COMMAND - 1]}…"
        inside = _OVERFLOW_ID if process.container_uid is None else process.container_uid
        yield PictureRow(
            f"{process.pid}  {command}  (uid {process.uid})",
            joined,
            label,
            f"{process.container_pid}  {command}  (uid {inside})",
        )
    hidden = len(view.processes) - _LINES
    if hidden > 0:
        more = f"and {hidden} more"
        yield PictureRow(more, joined, label and "same processes", more)
    if view.others:
        others = _count(view.others, "other")
        if link is Link.SHARED:
            yield PictureRow(others, link, "", others)
        else:
            yield PictureRow(others, Link.NONE, "", "not visible")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _hostname_rows(view: View, link: Link) -> Iterator[PictureRow]:
    host, container = (
        "(unknown)" if name is None else printable(name)
        for name in (view.host.hostname, view.container.hostname)
    )
    yield PictureRow(host, link if link is Link.SHARED else Link.NONE, "", container)


def _user_rows(view: View, link: Link) -> Iterator[PictureRow]:
    for what, rows in (("uid", view.uid_map), ("gid", view.gid_map)):
        for row in rows[:_LINES]:
            outside, inside = _ids(row.outside, row.length), _ids(row.inside, row.length)
            label = f"same {what}" + ("" if row.length == 1 else "s")
            yield PictureRow(
                f"{what} {outside}", Link.SHARED if link is Link.SHARED else Link.SAME,
                "" if link is Link.SHARED else label, f"{what} {inside}",
            )  # fmt: skip
        if len(rows) > _LINES:
            more = f"{what}: and {_count(len(rows) - _LINES, 'more row')}"
            yield PictureRow(more, Link.SAME, "", more)


def _ids(first: int, length: int) -> str:
    if length == 1:
        return str(first)
    if (first, length) == (0, _ALL_IDS):
        return "all"
    return f"{first}–{first + length - 1}"  # noqa: RUF001 - the dash of ranges


def _network_rows(view: View, link: Link) -> Iterator[PictureRow]:
    ours = [_interface(interface) for interface in view.host.interfaces]
    theirs = [_interface(interface) for interface in view.container.interfaces]
    if link is Link.SHARED:
        yield from (PictureRow(line, link, "", line) for line in ours)
    else:
        yield from _apart(ours, theirs)


def _interface(interface: Interface) -> str:
    return printable("  ".join((interface.name, *interface.addresses)))


def _mount_rows(view: View, link: Link) -> Iterator[PictureRow]:
    ours = {_key(mount): _mount(mount) for mount in view.host.mounts}
    theirs = {_key(mount): _mount(mount) for mount in view.container.mounts}
    both = [line for key, line in ours.items() if key in theirs]
    if both:
        count = _count(len(both), "mount")
        own = link is not Link.SHARED
        label = "same files" if own else ""
        yield PictureRow(count, Link.SAME if own else link, label, count)
    yield from _apart(
        [line for key, line in ours.items() if key not in theirs],
        [line for key, line in theirs.items() if key not in ours],
    )


def _key(mount: MountEntry) -> tuple[str, str, str, str, str]:
    return mount.target, mount.type, mount.source, mount.root, mount.device


def _mount(mount: MountEntry) -> str:
    return printable(f"{mount.target}  {mount.type}")


def _apart(ours: list[str], theirs: list[str]) -> Iterator[PictureRow]:
    """Yield unrelated lines of both sides, beside each other to save space."""
    for side in (ours, theirs):
        hidden = len(side) - _LINES
        if hidden > 1:
            side[_LINES:] = [f"and {hidden} more"]
    for number in range(max(len(ours), len(theirs))):
        left, right = (side[number] if number < len(side) else "" for side in (ours, theirs))
        yield PictureRow(left, Link.NONE, "", right)
