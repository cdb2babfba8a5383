"""`Spec`: every isolation option of a container, in one immutable value."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from minidocker._errors import SpecError, unknown_option
from minidocker._record import record, replace
from minidocker._spec import confine
from minidocker._spec.mounts import Mount, Path, device_mounts, tmpfs_mounts
from minidocker._spec.namespaces import NamespaceOptions

if sys.platform == "linux":
    from minidocker import _core

TYPE_CHECKING = False  # typing's, without its import
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn

    from minidocker._spec.confine import Seccomp, SeccompDocument, Ulimits
    from minidocker._spec.names import Profile
    from minidocker._spec.options import HasPid, IdMap, IdRange

__all__ = ["Spec"]

_CLOCKS = ("monotonic", "boottime")
_ALL = NamespaceOptions.all()
_HOSTS_FILES = (None, None, False, (), ())
_SWITCHES = ("read_only", "init", "die_with_parent")
_ID_LIMIT = 2**32 - 1


@record(frozen=True, kw_only=True)
class Spec:
    """The isolation options of a container.

    `run`, `Popen`, `Container`, `call` and the other functions all take a `Spec`. A keyword given
    beside ``spec=`` overrides that one field.

    Args:
        namespaces: the new namespaces; by default the seven of namespaces(7) without time.
        hostname: the host name in the new UTS namespace, 1 to 64 bytes. With a new mount namespace
            the name resolves inside.
        domainname: the NIS domain name in the new UTS namespace, 1 to 64 bytes.
        user: the command's user inside: an id, a name, or ``"user:group"``; by default root.
            Without a map, a plain caller gets the one row user → caller, and execve(2) drops the
            capabilities of a user other than root.
        uid_map: rows ``(inside, outside, count)`` as in user_namespaces(7), or ``"auto"``: the
            caller and then its subordinate ids, through newuidmap(1). By default a plain caller is
            root inside, and a root caller keeps all its ids; with ``profile="untrusted"`` its
            container has ids of its own outside, and mounts and rootfs map theirs.
        gid_map: the same for groups, through newgidmap(1).
        network: ``"none"``: a network stack of its own with loopback up; ``"host"``: the caller's
            network; or a container whose network (and the user namespace that owns it) is shared.
            By default ``"none"`` if the network namespace is new, else ``"host"``.
        rootfs: a directory outside that becomes ``/`` through pivot_root(2), with its own /proc,
            /sys and minimal /dev, and with matching /etc/hosts, /etc/hostname and /etc/resolv.conf.
            The directory itself is not changed for this. By default the host's files.
        mounts: the mounts inside, made in this order.
        tmpfs: paths inside that get an empty file system in memory: a mapping to options
            (``"size=64m"``), or paths, as in docker-py. They are mounted before `mounts`.
        read_only: whether the root and every mount below it are read-only, except /proc, /dev,
            `mounts` and `tmpfs`.
        overlay: True: writes to the root go to a layer in memory that is discarded. A directory:
            it keeps the writes, for the next container and for `changes`.
        profile: the defaults of the options below. ``"namespaces"``: every capability of the
            container's user namespace, no filter, ``no_new_privileges``. ``"docker"``: Docker's own
            defaults. ``"untrusted"``: for running untrusted code; without ``env`` a command
            inherits a few variables only.
        cap_add: names of capabilities (capabilities(7)) to add to those of the profile; ``"ALL"``
            means all of them.
        cap_drop: names of capabilities to remove from those of the profile.
        no_new_privileges: whether execve(2) ignores set-user-ID bits and file capabilities
            (``PR_SET_NO_NEW_PRIVS``, prctl(2)). None: the setting of the profile.
        seccomp: a `Seccomp`; a filter in docker's JSON format, as a mapping or as the path of a
            file; or ``"unconfined"``. None: the filter of the profile.
        ulimits: resource limits (getrlimit(2)): ``{"nofile": 1024, "core": (0, -1)}`` (one value
            for both, or soft and hard; -1 means no limit), or rows as in docker-py.
        devices: devices of the host that exist inside too, as in docker-py: ``"/dev/fuse"``, or
            ``"/dev/fuse:/dev/inside"``. The owner and mode of the file decide who may open one.
        init: False: the command itself is PID 1. True: a tiny init is PID 1; it reaps orphans,
            forwards signals and reports the command's own status.
        die_with_parent: whether the container ends when the Python process ends for any reason.
        time_offsets: offsets in seconds of the clocks ``"monotonic"`` and ``"boottime"`` in a new
            time namespace; time_namespaces(7).

    Raises:
        SpecError: a value has the wrong type, or options contradict each other.
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
        # Every run comes here, so options that have their defaults take a short way.
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
                reason = f"{mount!r} is not a Mount: give a sequence of minidocker.Mount"
                raise SpecError(reason, option="mounts", value=mounts)
        tmpfs_mounts(self.tmpfs)
        device_mounts(self.devices, look=False)

    @classmethod
    def of(
        cls, spec: Spec | None, options: Mapping[str, Any], *, others: Iterable[str] = ()
    ) -> Spec:
        """Return ``spec`` with ``options`` in place of its fields.

        Args:
            spec: None means ``Spec()``.
            options: fields, by name.
            others: other keywords of the caller, to suggest for an unknown option.

        Raises:
            SpecError: an option does not exist; the message suggests the most similar name.
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
        return replace(spec, **options)

    def core(self) -> _core.Spec:
        """Return the options for the engine, cached because a `Spec` is immutable."""
        made: _core.Spec | None = self.__dict__.get("_made")
        if made is not None:
            return made
        network = self.network
        offsets = self.time_offsets or {}
        made = _core.Spec(
            namespaces=self.namespaces._bits(),
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
            shown=self.__dict__.get("_shown", ()),
            named=self._named_ids(),
            read_only=self.read_only,
            overlay=(self.overlay if isinstance(self.overlay, bool) else os.fsencode(self.overlay)),
            confine=confine.core(self._confinement()),
            init=self.init,
            die_with_parent=self.die_with_parent,
            monotonic=_timespec(offsets.get("monotonic")),
            boottime=_timespec(offsets.get("boottime")),
        )
        if network is None or isinstance(network, str):
            object.__setattr__(self, "_made", made)
        return made

    def _named_ids(self) -> tuple[int | None, int | None]:
        """Return the ids of the user and the group that commands have inside, if they need names.

        A container that stays is made before its commands.
        """
        if self.user is None or not self.shows_listed_files_only():
            return None, None
        from minidocker._spec import accounts  # noqa: PLC0415 - only such a Spec needs it

        return accounts.ids(self.user)

    def ulimit(self, name: str) -> tuple[int, int] | None:
        """Return the soft and the hard limit that `ulimits` gives a resource; None: no such one."""
        return confine.ulimit(self.ulimits, name)

    def inherited_environment(self) -> dict[str, str]:
        """Return the variables of this process that a command without ``env`` gets."""
        core = self.core()
        return {
            name: value
            for name, value in os.environ.items()
            if core.inherits_variable(os.fsencode(name), os.fsencode(value))
        }

    def showing(self, paths: Iterable[str]) -> Spec:
        """Return a copy whose profile shows these paths of the host too, read-only.

        Only ``"untrusted"`` on the host's files looks at them. They are what a function is made of.
        """
        copy = replace(self)
        object.__setattr__(copy, "_shown", tuple(os.fsencode(path) for path in paths))
        return copy

    def shows_paths(self) -> bool:
        """Return whether `showing` made it."""
        return "_shown" in self.__dict__

    def shows_listed_files_only(self) -> bool:
        """Return whether the container sees only those files of the host that its profile lists."""
        return self.profile == "untrusted" and self.rootfs is None and self.namespaces.mount

    def is_same(self, other: Spec) -> bool:
        """Return whether both have equal fields and show the same paths."""
        return self == other and self.__dict__.get("_shown") == other.__dict__.get("_shown")

    def __getstate__(self) -> dict[str, Any]:
        # The other private attributes are caches of the fields.
        kept = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        return kept | {name: self.__dict__[name] for name in ("_shown",) if self.shows_paths()}


def _wrong(option: str, value: object, advice: str) -> NoReturn:
    raise SpecError(f"it is of type {type(value).__name__}: {advice}", option=option, value=value)


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
            raise SpecError(f"{row!r} is not a row: {advice}", option=option, value=rows)
        for number in row:
            if type(number) is not int or not 0 <= number <= _ID_LIMIT:
                reason = f"{number!r} is not an id or count: give integers from 0 to {_ID_LIMIT}"
                raise SpecError(reason, option=option, value=rows)


def _check_offsets(offsets: object) -> None:
    if not isinstance(offsets, Mapping):
        _wrong("time_offsets", offsets, 'give {"monotonic": seconds, "boottime": seconds}')
    for clock, seconds in offsets.items():
        if clock not in _CLOCKS:
            reason = f"{clock!r} is not a clock with an offset: give 'monotonic' or 'boottime'"
            raise SpecError(reason, option="time_offsets", value=offsets)
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            reason = f"{seconds!r} is not a number: give seconds"
            raise SpecError(reason, option="time_offsets", value=offsets)
        if not abs(seconds) < 2**33:
            reason = f"{seconds!r} seconds is out of the kernel's range: give less than 2**33"
            raise SpecError(reason, option="time_offsets", value=offsets)


def _rows(rows: IdMap | None) -> list[IdRange] | str | None:
    if rows is None or isinstance(rows, str):
        return rows
    return [(inside, outside, count) for inside, outside, count in rows]


def _timespec(seconds: float | None) -> tuple[int, int] | None:
    """Return the seconds rounded down, and the remaining nanoseconds."""
    if seconds is None:
        return None
    nanoseconds = seconds * 10**9 if isinstance(seconds, int) else round(seconds * 10**9)
    return divmod(nanoseconds, 10**9)


FIELDS = frozenset(Spec.__annotations__)
_DEFAULT = Spec()

# Immutable types: a Spec of such values can be cached.
_PLAIN = frozenset({str, int, bool, type(None), NamespaceOptions})


@functools.lru_cache(maxsize=64)
def _of_plain(options: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> Spec:  # noqa: ARG001
    """Return a cached `Spec` of immutable values; ``types`` distinguishes 1 from True."""
    return Spec(**dict(options))
