"""The mounts of a container: the options `mounts`, `tmpfs` and `devices`."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence

from minidocker._errors import SpecError
from minidocker._record import record
from minidocker._words import nearest

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from dataclasses import KW_ONLY
    from typing import Any, Literal, NoReturn

    MountType = Literal["bind", "tmpfs", "overlay", "proc", "sysfs", "devpts", "mqueue"]

__all__ = ["Mount", "Path", "device_mounts", "tmpfs_mounts"]

Path = str | os.PathLike[str]
"""A path of str, as `os.fspath` accepts it."""

_TYPES: tuple[MountType, ...] = (
    "bind", "tmpfs", "overlay", "proc", "sysfs", "devpts", "mqueue",
)  # fmt: skip
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = r"(\d+)\s*([bkmg]?)b?"
_MODES = {"tmpfs": 0o1777, "bind": 0o644}


@record(frozen=True)
class Mount:
    """One mount of a container; mount(2).

    Args:
        target: an absolute path inside. A missing mount point is created inside only.
        source: for ``"bind"`` a file or directory outside, with every mount below it; for
            ``"overlay"`` one directory, or several with the uppermost first.
        type: ``"bind"``; ``"tmpfs"``, empty and in memory; ``"overlay"``, copy-on-write; or one of
            the container's own ``"proc"``, ``"sysfs"``, ``"devpts"``, ``"mqueue"``.
        read_only: whether the mount and every mount below it are read-only.
        content: the content of a file at ``target``, in place of a source.
        upper: for ``"overlay"`` the directory outside that keeps the writes; without it the writes
            are discarded with the container.
        size: for ``"tmpfs"`` its maximum size in bytes, or a text such as ``"64m"``; by default
            half of the memory.
        mode: the permissions of a tmpfs (by default 0o1777) or of a file given as ``content``
            (by default 0o644).
        options: more options of mount(8), separated by commas. Flags for every type: ``ro``,
            ``rw``, ``exec``, ``noexec``, ``suid``, ``nosuid``, ``dev``, ``nodev``. As in docker, a
            tmpfs is ``nosuid,nodev,noexec`` by default.

    Raises:
        SpecError: a value has the wrong type, or values contradict each other.
    """

    target: Path
    source: Path | Sequence[Path] | None = None
    type: MountType = "bind"
    read_only: bool = False
    _: KW_ONLY
    content: bytes | str | None = None
    upper: Path | None = None
    size: int | str | None = None
    mode: int | None = None
    options: str = ""

    def __post_init__(self) -> None:
        _is_path(self, "the target", self.target)
        if self.type not in _TYPES:
            near = nearest(str(self.type), _TYPES)
            remedy = f"did you mean {near!r}?" if near else f"the types are {', '.join(_TYPES)}"
            _wrong(self, f"there is no type {self.type!r}: {remedy}")
        if self.read_only is not True and self.read_only is not False:
            _wrong(self, f"read_only={self.read_only!r} is not True or False")
        if not isinstance(self.options, str):
            _wrong(self, f"options={self.options!r} is not a str such as 'noexec,nosuid'")
        if self.mode is not None and not (type(self.mode) is int and 0 <= self.mode <= 0o7777):
            _wrong(self, f"mode={self.mode!r} is not a file mode: give an int such as 0o755")
        self._check_source()
        self._check_kind_of("upper", ("overlay",))
        self._check_kind_of("size", ("tmpfs",))
        if self.mode is not None and self.type != "tmpfs" and self.content is None:
            _wrong(self, "a mode is for a tmpfs and for content: leave it out")
        if self.upper is not None:
            _is_path(self, "upper", self.upper)
        if self.size is not None:
            self._bytes()

    def _check_source(self) -> None:
        if self.content is not None:
            if self.type != "bind" or self.source is not None:
                _wrong(self, "content excludes a source and every type but bind: give one of them")
            if not isinstance(self.content, bytes | str):
                _wrong(
                    self, f"content is of type {type(self.content).__name__}: give bytes or a str"
                )
        elif self.type == "bind":
            if self.source is None:
                _wrong(self, "a bind needs a source, or content: give one")
            _is_path(self, "the source", self.source)
        elif self.type == "overlay":
            sources = self._sources()
            if not sources:
                _wrong(self, "an overlay needs a source: give its lower directory")
            for source in sources:
                _is_path(self, "the source", source)
        else:
            self._check_kind_of("source", ("bind", "overlay"))

    def _check_kind_of(self, name: str, types: tuple[str, ...]) -> None:
        if getattr(self, name) is not None and self.type not in types:
            of = " or ".join(types)
            _wrong(
                self, f"{name} is for a mount of type {of}, and this is {self.type}: leave it out"
            )

    def _sources(self) -> list[Any]:
        if self.source is None:
            return []
        if isinstance(self.source, str | os.PathLike) or not isinstance(self.source, Sequence):
            return [self.source]
        return list(self.source)

    def _bytes(self) -> int | None:
        """Return the size in bytes."""
        size = self.size
        if size is None or (type(size) is int and size > 0):
            return size
        found = re.fullmatch(_SIZE, size.strip(), re.IGNORECASE) if isinstance(size, str) else None
        if found is None or int(found[1]) == 0:
            _wrong(self, f"size={size!r} is not a size: give bytes, or a text such as '64m'")
        return int(found[1]) * _UNITS[found[2].lower()]

    def _for_core(self, option: str) -> dict[str, object]:
        """Return the fields as the engine takes them, and the option that the mount comes from."""
        content = self.content
        return {
            "option": option,
            "target": os.fsencode(self.target),
            "type": self.type,
            "source": [os.fsencode(source) for source in self._sources()],
            "upper": None if self.upper is None else os.fsencode(self.upper),
            "content": content.encode() if isinstance(content, str) else content,
            "read_only": self.read_only,
            "size": self._bytes(),
            "mode": _MODES.get(self.type, 0) if self.mode is None else self.mode,
            "options": self.options,
        }


def _wrong(mount: Mount, reason: str) -> NoReturn:
    raise SpecError(reason, option="mounts", value=mount)


def _is_path(mount: Mount, name: str, value: object) -> None:
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        _wrong(mount, f"{name} is {value!r}: give a path as str or os.PathLike")
    if not os.fspath(value):
        _wrong(mount, f"{name} is empty: give a path")


def tmpfs_mounts(tmpfs: object) -> list[Mount]:
    """Return the mounts of the option ``tmpfs``.

    Args:
        tmpfs: a mapping from paths inside to options of mount(8); or paths, each alone or followed
            by a colon and its options, as in docker-py.

    Raises:
        SpecError: a value has the wrong type.
    """
    if tmpfs is None:
        return []
    if isinstance(tmpfs, Mapping):
        pairs = [(path, "" if options is None else options) for path, options in tmpfs.items()]
    elif isinstance(tmpfs, Sequence) and not isinstance(tmpfs, str | bytes):
        pairs = []
        for entry in tmpfs:
            if isinstance(entry, str):
                path, _, options = entry.partition(":")
                pairs.append((path, options))
            else:
                pairs.append((entry, ""))
    else:
        reason = (
            f"it is of type {type(tmpfs).__name__}: give a mapping from paths to options, or paths"
        )
        raise SpecError(reason, option="tmpfs", value=tmpfs)
    try:
        return [Mount(path, type="tmpfs", options=options) for path, options in pairs]
    except SpecError as error:
        raise SpecError(error.args[0], option="tmpfs", value=tmpfs) from None


def device_mounts(devices: object, *, look: bool = True) -> list[Mount]:
    """Return the mounts of the option ``devices``.

    Args:
        devices: ``"/dev/fuse"`` or ``"/dev/fuse:/dev/inside"``, each optionally followed by
            ``":rwm"``, as in docker-py.
        look: whether to check that each path is a device of this machine.

    Raises:
        SpecError: a value has the wrong type, a path is not a device, or permissions are given that
            nothing enforces.
    """
    if isinstance(devices, str | bytes) or not isinstance(devices, Sequence):
        reason = f"it is of type {type(devices).__name__}: give a list of paths such as '/dev/fuse'"
        raise SpecError(reason, option="devices", value=devices)
    return [_device_mount(device, look=look) for device in devices]


def _device_mount(device: object, *, look: bool) -> Mount:
    def wrong(reason: str) -> NoReturn:
        raise SpecError(reason, option="devices", value=device)

    if not isinstance(device, str | os.PathLike):
        wrong(f"it is of type {type(device).__name__}: give a path such as '/dev/fuse'")
    source, *rest = os.fspath(device).split(":")
    permissions = rest.pop() if rest and "/" not in rest[-1] else "rwm"
    target = rest.pop(0) if rest else source
    if rest or not source or not target:
        wrong("it has the wrong form: give 'outside' or 'outside:inside', optionally with ':rwm'")
    if set(permissions) != set("rwm"):
        wrong(
            f"permissions {permissions!r} would need a control group that enforces them: leave them"
            " out, and set the device file's mode"
        )
    if look:
        try:
            mode = os.stat(source).st_mode
        except OSError as error:
            wrong(f"{error.strerror}: give a device that exists outside")
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            wrong(f"{source} is not a device: give one, or use mounts for files and directories")
    return Mount(target, source, options="dev")
