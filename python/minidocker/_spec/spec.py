"""What is asked for: every isolation option of a container, in one frozen value."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypedDict

from minidocker._errors import SpecError, unknown_option
from minidocker._spec import confine
from minidocker._spec.mounts import Mount, Path, device_mounts, tmpfs_mounts
from minidocker._spec.namespaces import NamespaceOptions

if sys.platform == "linux":
    from minidocker import _core

if TYPE_CHECKING:
    from minidocker._spec.confine import Seccomp, SeccompDocument, Ulimits
    from minidocker._spec.names import Profile
    from minidocker._spec.options import HasPid, IdMap, Row

__all__ = ["CommandOptions", "Spec", "SpecOptions"]

_CLOCKS = ("monotonic", "boottime")
_ALL = NamespaceOptions.all()
_HOSTS_FILES = (None, None, False, (), ())
_SWITCHES = ("read_only", "init", "die_with_parent")
_ID_LIMIT = 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """A container: every isolation option.

    One description serves `run`, `Popen`, `Container` and all the others. A keyword given beside
    ``spec=`` overrides that one field.

    Args:
        namespaces: which namespaces are new; by default the seven of namespaces(7), not time.
        hostname: set in the new UTS namespace, 1 to 64 bytes. With a new mount namespace the name
            resolves inside.
        domainname: the NIS domain name, likewise.
        user: who the command is inside: an id, a name, or ``"user:group"``. By default root inside.
            A plain caller without a map gets the one row user → caller, and its capabilities end
            at exec.
        uid_map: rows ``(inside, outside, count)`` as in user_namespaces(7), or ``"auto"``: the
            caller, then its subordinate ids, through newuidmap(1). By default a plain caller is
            root inside, and a root caller keeps every id that it has.
        gid_map: the same for groups.
        network: ``"none"``: a stack of its own, loopback up; ``"host"``: the caller's; or a
            container, whose network (and the user namespace that owns it) is shared. By default
            ``"none"`` where the network namespace is new, else ``"host"``.
        rootfs: a directory outside that becomes ``/`` through pivot_root(2), with a /proc, /sys and
            minimal /dev of its own, and /etc/hosts, /etc/hostname and /etc/resolv.conf that fit.
            Nothing is made or changed in it for that. By default the host's files.
        mounts: what is mounted inside, in the order given.
        tmpfs: paths inside that are empty and in memory: a mapping to their options
            (``"size=64m"``), or paths, as in docker-py. They are mounted before `mounts`.
        read_only: whether the root is read-only, with everything below it but /proc, /dev and what
            `mounts` and `tmpfs` add.
        overlay: True: writes to the root go to a layer in memory, which is thrown away. A
            directory: they are kept there, for the next container and for `changes`.
        profile: where the options below begin. ``"namespaces"``: every capability of its own user
            namespace, no filter, no new privileges. ``"docker"``: what Docker gives a container
            that asks for nothing. ``"untrusted"``: for code that nobody trusts.
        cap_add: names of capabilities, capabilities(7), that come to those of the profile;
            ``"ALL"`` is every one.
        cap_drop: names of capabilities that go from those of the profile.
        no_new_privileges: whether set-user-ID programs and file capabilities raise nothing
            (``PR_SET_NO_NEW_PRIVS``, prctl(2)). None: as the profile has it.
        seccomp: a `Seccomp`; a filter in docker's JSON format, as a mapping or as the path of a
            file; or ``"unconfined"``. None: that of the profile.
        ulimits: resource limits, getrlimit(2): ``{"nofile": 1024, "core": (0, -1)}`` (one value for
            both, or soft and hard; -1 is no limit), or rows as docker-py has them.
        devices: devices of the host's that are there inside, as in docker-py: ``"/dev/fuse"``, or
            ``"/dev/fuse:/dev/inside"``. Who may open one is said by its file's owner and mode.
        init: False: the command itself is PID 1. True: a tiny init is, reaping orphans, forwarding
            signals and reporting the command's own status.
        die_with_parent: whether the container ends when the Python process does, however it ends.
        time_offsets: seconds that the clocks of a new time namespace are ahead, by ``"monotonic"``
            and ``"boottime"``.

    Raises:
        SpecError: a value of the wrong kind, or options that contradict each other.
    """

    namespaces: NamespaceOptions = _ALL
    hostname: str | None = None
    domainname: str | None = None
    user: int | str | None = None
    uid_map: IdMap | None = None
    gid_map: IdMap | None = None
    network: Literal["none", "host"] | HasPid | None = None
    rootfs: Path | None = None
    mounts: Sequence[Mount] = ()
    tmpfs: Mapping[str, str | None] | Sequence[Path] | None = None
    read_only: bool = False
    overlay: bool | Path = False
    profile: Profile = "namespaces"
    cap_add: Sequence[str] = ()
    cap_drop: Sequence[str] = ()
    no_new_privileges: bool | None = None
    seccomp: Seccomp | SeccompDocument | None = None
    ulimits: Ulimits = ()
    devices: Sequence[str] = ()
    init: bool = False
    die_with_parent: bool = True
    time_offsets: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        # On the path of every run: what was left at its default is not looked at twice.
        if not isinstance(self.namespaces, NamespaceOptions):
            _wrong("namespaces", self.namespaces, "give a NamespaceOptions")
        if not (self.hostname is None or isinstance(self.hostname, str)):
            _wrong("hostname", self.hostname, "give a str")
        if not (self.domainname is None or isinstance(self.domainname, str)):
            _wrong("domainname", self.domainname, "give a str")
        for option in _SWITCHES:
            value = getattr(self, option)
            if value is not True and value is not False:
                _wrong(option, value, "give True or False")
        if self.uid_map is not None:
            _check_map("uid_map", self.uid_map)
        if self.gid_map is not None:
            _check_map("gid_map", self.gid_map)
        if self.network is not None:
            _check_network(self.network)
        if self.time_offsets is not None:
            _check_offsets(self.time_offsets)
        confine.check(self._confinement())
        files = (self.rootfs, self.tmpfs, self.overlay, self.mounts, self.devices)
        if files != _HOSTS_FILES:
            self._check_files()

    def _confinement(self) -> dict[str, Any]:
        return {option: getattr(self, option) for option in confine.OPTIONS}

    def _check_files(self) -> None:
        if self.rootfs is not None and not _is_path(self.rootfs):
            _wrong("rootfs", self.rootfs, "give a directory")
        if not isinstance(self.overlay, bool) and not _is_path(self.overlay):
            _wrong("overlay", self.overlay, "give True, False or a directory")
        mounts: object = self.mounts
        if isinstance(mounts, str | bytes) or not isinstance(mounts, Sequence):
            _wrong("mounts", mounts, "give a sequence of minidocker.Mount")
        for mount in mounts:
            if not isinstance(mount, Mount):
                reason = f"{mount!r} is no minidocker.Mount"
                raise SpecError(reason, option="mounts", value=mounts)
        tmpfs_mounts(self.tmpfs)
        device_mounts(self.devices, look=False)

    @classmethod
    def of(
        cls, spec: Spec | None, options: Mapping[str, Any], *, others: Iterable[str] = ()
    ) -> Spec:
        """Return ``spec`` with ``options`` in place of its fields.

        Args:
            spec: by default `Spec` as it is.
            options: fields, by name.
            others: what may be given where these options were, and could have been meant.

        Raises:
            SpecError: an option that does not exist, with the nearest name that does.
        """
        if spec is not None and not isinstance(spec, Spec):
            _wrong("spec", spec, "give a minidocker.Spec")
        if not options:
            return _DEFAULT if spec is None else spec
        if not FIELDS.issuperset(options):
            name, value = next(item for item in options.items() if item[0] not in FIELDS)
            raise unknown_option(name, value, [*FIELDS, "spec", *others])
        if spec is None:
            types = tuple(map(type, options.values()))
            if _PLAIN.issuperset(types):
                return _of_plain(tuple(options.items()), types)
            return cls(**options)
        return dataclasses.replace(spec, **options)

    def core(self) -> _core.Spec:
        """The same for the engine; made once, since a value never changes."""
        made: _core.Spec | None = self.__dict__.get("_made")
        if made is not None:
            return made
        network = self.network
        offsets = self.time_offsets or {}
        made = _core.Spec(
            namespaces=int(self.namespaces.flags),
            hostname=self.hostname,
            domainname=self.domainname,
            uid_map=_rows(self.uid_map),
            gid_map=_rows(self.gid_map),
            network=network if network is None or isinstance(network, str) else network.pid,
            rootfs=None if self.rootfs is None else os.fsencode(self.rootfs),
            mounts=[
                *(mount._for_core("tmpfs") for mount in tmpfs_mounts(self.tmpfs)),
                *(mount._for_core("devices") for mount in device_mounts(self.devices)),
                *(mount._for_core("mounts") for mount in self.mounts),
            ],
            read_only=self.read_only,
            overlay=(self.overlay if isinstance(self.overlay, bool) else os.fsencode(self.overlay)),
            confine=confine.core(self._confinement()),
            init=self.init,
            die_with_parent=self.die_with_parent,
            **{clock: _timespec(offsets[clock]) for clock in _CLOCKS if clock in offsets},
        )
        if network is None or isinstance(network, str):
            object.__setattr__(self, "_made", made)
        return made

    def __getstate__(self) -> dict[str, Any]:
        # What is private was made of the rest.
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}


class CommandOptions(TypedDict, total=False):
    """The fields of `Spec` that belong to a command, whichever container it enters."""

    user: int | str | None
    profile: Profile
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    no_new_privileges: bool | None
    seccomp: Seccomp | SeccompDocument | None
    ulimits: Ulimits
    die_with_parent: bool


class SpecOptions(CommandOptions, total=False):
    """The fields of `Spec` as keywords, for functions that take them beside their own."""

    namespaces: NamespaceOptions
    hostname: str | None
    domainname: str | None
    uid_map: IdMap | None
    gid_map: IdMap | None
    network: Literal["none", "host"] | HasPid | None
    rootfs: Path | None
    mounts: Sequence[Mount]
    tmpfs: Mapping[str, str | None] | Sequence[Path] | None
    read_only: bool
    overlay: bool | Path
    devices: Sequence[str]
    init: bool
    time_offsets: Mapping[str, float] | None


def _wrong(option: str, value: object, advice: str) -> NoReturn:
    raise SpecError(f"it is a {type(value).__name__}: {advice}", option=option, value=value)


def _check_network(network: object) -> None:
    known = network in ("none", "host")
    if not known and (isinstance(network, str) or not hasattr(network, "pid")):
        _wrong("network", network, "give 'none', 'host' or a Container")


def _is_path(value: object) -> bool:
    if not isinstance(value, str | os.PathLike):
        return False
    path = os.fspath(value)
    return isinstance(path, str) and bool(path)


def _check_map(option: str, rows: object) -> None:
    if rows == "auto":
        return
    advice = 'give rows (inside, outside, count), or "auto"'
    if isinstance(rows, str | bytes) or not isinstance(rows, Sequence):
        _wrong(option, rows, advice)
    for row in rows:
        if not isinstance(row, Sequence) or len(row) != 3:
            raise SpecError(f"{row!r} is no row: {advice}", option=option, value=rows)
        for number in row:
            if type(number) is not int or not 0 <= number <= _ID_LIMIT:
                reason = f"{number!r} is no id or count: give integers from 0 to {_ID_LIMIT}"
                raise SpecError(reason, option=option, value=rows)


def _check_offsets(offsets: object) -> None:
    if not isinstance(offsets, Mapping):
        _wrong("time_offsets", offsets, 'give {"monotonic": seconds, "boottime": seconds}')
    for clock, seconds in offsets.items():
        if clock not in _CLOCKS:
            reason = f"{clock!r} is no clock that can be set: give 'monotonic' or 'boottime'"
            raise SpecError(reason, option="time_offsets", value=offsets)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            reason = f"{seconds!r} is no number of seconds"
            raise SpecError(reason, option="time_offsets", value=offsets)
        if not abs(seconds) < 2**33:
            reason = f"{seconds!r} seconds is further than the kernel's clocks go"
            raise SpecError(reason, option="time_offsets", value=offsets)


def _rows(rows: IdMap | None) -> list[Row] | str | None:
    if rows is None or isinstance(rows, str):
        return rows
    return [(inside, outside, count) for inside, outside, count in rows]


def _timespec(seconds: float) -> tuple[int, int]:
    """Whole seconds, rounded down, and the nanoseconds above them."""
    nanoseconds = seconds * 10**9 if isinstance(seconds, int) else round(seconds * 10**9)
    return divmod(nanoseconds, 10**9)


FIELDS = frozenset(field.name for field in dataclasses.fields(Spec))
_DEFAULT = Spec()

# Values that never change, so that what is made of them can be kept.
_PLAIN = frozenset({str, int, bool, type(None), NamespaceOptions})


@functools.lru_cache(maxsize=64)
def _of_plain(options: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> Spec:  # noqa: ARG001
    """A `Spec` of plain values, which scripts ask for again and again. Types tell 1 from True."""
    return Spec(**dict(options))
