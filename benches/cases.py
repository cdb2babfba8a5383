"""The groups (each one table) and their cases.

To add a case, write an action in `actions.py` or `python_actions.py` (or give the floor's
arguments) and add a `Case` here. To add a table, add a `Group`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

from actions import FILES, PROFILES

FLOOR = "floor"
BARE = "floor without namespaces"
SUBPROCESS = "subprocess.run"
SUBPROCESS_FORK = "subprocess.run, with fork"
MINIDOCKER = "minidocker.run"
BWRAP = "bwrap"
NAMESPACES = 'root, profile="namespaces"'
UNTRUSTED = 'root, profile="untrusted"'
NAMESPACES_ON_THE_HOST = 'host, profile="namespaces"'
UNTRUSTED_ON_THE_HOST = 'host, profile="untrusted"'
BWRAP_VIEW = "bwrap, with the view of the row above"

FORK = "os.fork, pickle and wait"
FORK_AND_NAMESPACES = "that, and the namespaces"
CALL = "minidocker.call"
PYTHON = "python -c pass"
PYTHON_NUMPY = 'python -c "import numpy"'
SPAWN = "spawn"
SPAWN_NUMPY = "spawn, numpy preloaded"
ARGUMENT_FORK = "fork, 100 MB"
ARGUMENT_SPAWN = "spawn, 100 MB"
SPAWN_AGAIN = f"{SPAWN}, one after another"
START = "minidocker run"
START_PYTHON = 'python -c "import subprocess, dataclasses"'
TESTS = "neither"
FORKED = "pytest --forked"
MARKED = "@pytest.mark.minidocker"

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Variant:
    """The circumstances of a case: one column of a table."""

    label: str
    resident: int = 0
    """Bytes that the measuring process has touched beyond the interpreter."""
    threads: int = 1
    action: str = ""
    """A suffix to the name of each case's action."""
    apart: bool = False
    """Whether a pause and a call of another case precede every call, as in a program that does
    other things too. Otherwise calls of one case follow each other."""


BACK_TO_BACK = Variant("back to back")
APART = Variant("20 ms apart", apart=True)
# The interpreter with the worker's imports has some 20 MB by itself.
CALLER_SMALL = Variant("60 MB resident", resident=40 * MIB)
CALLER_LARGE = Variant("1 GB resident", resident=1000 * MIB)
ONE_PROCESS = Variant("1 process")
TWO_PROCESSES = Variant("-n 2", action="-n2")
SMALL = Variant("small", apart=True)
LARGE = Variant("2 GiB resident", resident=2 * GIB, apart=True)


@dataclass(frozen=True)
class Group:
    """One table."""

    id: str
    title: str
    note: str
    measure: Literal["latency", "throughput"] = "latency"
    variants: tuple[Variant, ...] = (Variant("median"),)
    baselines: tuple[str, ...] = ()
    """Names of the cases to which the table also compares every median, as a ratio."""
    sums: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Calculated rows: the medians of some cases minus those of others."""
    rounds: int | None = None
    """For calls that take seconds: the number of timed calls, one in each round."""
    tails: bool = False
    """Whether the table shows the 95th percentile of each of several variants, instead of the ratio
    of the last variant to the first. It always shows that of a single variant."""
    whole: str = ""
    """Name of the case from which the table subtracts every median."""


@dataclass(frozen=True)
class Case:
    """One row of a group's table."""

    group: str
    name: str
    floor: tuple[str, ...] | None = None
    """Arguments of the Rust floor, or None for an action of the Python worker."""
    action: str = ""
    """Name of an action in `actions.py`."""
    note: str = ""
    """A line about the row, below the table; the report adds a tool's command line."""


GROUPS = (
    Group(
        "command",
        "One command",
        "A static program that does nothing, started from a small process and waited for.",
        baselines=(FLOOR, BWRAP),
        variants=(BACK_TO_BACK, APART),
        tails=True,
    ),
    Group(
        "root",
        "One command in a root of its own",
        "A root file system of one program, with /dev, /proc, /sys, /etc/hosts, a tmpfs, a"
        " read-only bind of /usr and a bind of /var.",
        baselines=(BWRAP,),
        variants=(BACK_TO_BACK, APART),
        tails=True,
    ),
    Group(
        "profiles",
        "What the profiles cost",
        "The same root with `profile=…`, and below it the host's own files.",
        baselines=(NAMESPACES, NAMESPACES_ON_THE_HOST),
        variants=(APART,),
    ),
    Group(
        "files",
        "What the options for files cost",
        '`minidocker.run([noop], hostname="bench", …)`.',
        baselines=(MINIDOCKER,),
        variants=(APART,),
    ),
    Group(
        "parent",
        "From a large process",
        "The same from a Python process that has touched 2 GiB. A fork copies its page tables.",
        variants=(SMALL, LARGE),
    ),
    Group(
        "threads",
        "From several threads at once",
        "Runs a second, all threads of one process together.",
        measure="throughput",
        variants=(
            Variant("1 thread"),
            Variant("2 threads", threads=2),
            Variant("4 threads", threads=4),
        ),
    ),
    Group(
        "function",
        "One function, in a copy of the caller",
        "`minidocker.call` calls a function that does nothing, and returns its value."
        " Every fork copies the page tables of the caller.",
        variants=(CALLER_SMALL, CALLER_LARGE),
        baselines=(FORK_AND_NAMESPACES,),
        sums={FORK_AND_NAMESPACES: ((FORK, FLOOR), (BARE,))},
    ),
    Group(
        "clean",
        "One function, in a clean interpreter",
        '`isolated(method="spawn")` calls a function that does nothing, from a template process'
        " that already runs.",
        baselines=(PYTHON, PYTHON_NUMPY),
    ),
    Group(
        "argument",
        "100 MB to a function and back",
        "`bytes` returns its argument, so the value takes the way back as well.",
        baselines=(ARGUMENT_FORK,),
    ),
    Group(
        "start",
        "Starting the command line",
        "The CPU time of a process, in user and in kernel mode.",
        baselines=(START_PYTHON,),
        variants=(APART,),
    ),
    Group(
        "tests",
        "1,000 tests",
        "One run of pytest over tests that do nothing, startup included.",
        baselines=(TESTS, FORKED),
        rounds=3,
    ),
    Group(
        "scaling",
        "Tests in two processes",
        "One run of pytest over 200 tests that compute for 10 ms each.",
        variants=(ONE_PROCESS, TWO_PROCESSES),
        rounds=3,
    ),
    Group(
        "steps",
        "What the steps cost",
        "The floor without one step and those that need it. The saving is the cost of the step,"
        " including the clean-up at exit."
        " On a shared machine, differences below 0.03 ms mean little.",
        whole="everything",
    ),
)


_MOUNTS = "private,proc,sysfs,shm,hosts,ping"
"""The floor's steps that need a mount namespace."""
_STEPS = {
    "everything": "",
    "no loopback up": "loopback",
    "no fresh /sys": "sysfs",
    "no private /dev/shm, no hosts file": "shm,hosts",
    "no hosts file": "hosts",
    "no ping": "ping",
    "no fresh /proc, no ping": "proc,ping",
    "no network namespace": "net,loopback,sysfs,ping",
    "no IPC namespace": "ipc",
    "no mount namespace": f"mount,{_MOUNTS}",
    "no namespace but user": f"pid,net,mount,uts,ipc,cgroup,hostname,loopback,{_MOUNTS}",
    "not watched for the caller's death": "watchdog",
}
"""The steps that the floor leaves out, by the name of the row."""

CASES = (
    Case("command", BARE, floor=("--bare",), note="clone, exec and wait alone; Rust, no Python"),
    Case("command", SUBPROCESS, action="subprocess", note="no namespaces"),
    Case(
        "command",
        FLOOR,
        floor=(),
        note="the fewest system calls with the same result: `core/benches/floor.rs`, no Python",
    ),
    Case(
        "command",
        MINIDOCKER,
        action="minidocker",
        note='`minidocker.run([noop], hostname="bench")`',
    ),
    Case(
        "command", BWRAP, action="bwrap", note="everything that minidocker does but /sys and ping"
    ),
    Case("command", "bwrap, namespaces only", action="bwrap-plain"),
    Case("command", "unshare", action="unshare"),
    Case("command", "nsjail", action="nsjail"),
    Case("command", "hakoniwa", action="hakoniwa"),
    Case("command", "runc", action="runc", note="`runc run` of the bundle that `runc spec` writes"),
    Case(
        "root",
        MINIDOCKER,
        action="root-namespaces",
        note='`minidocker.run(["/noop"], hostname="bench", rootfs=ROOT, tmpfs=["/tmp"],'
        ' mounts=[Mount("/usr", "/usr", read_only=True), Mount("/var", "/var")])`',
    ),
    Case("root", BWRAP, action="bwrap-root", note="with the host's /sys, read-only"),
    *(
        Case("profiles", f'{place}, profile="{name}"', action=f"{place}-{name}")
        for place in ("root", "host")
        for name in PROFILES
    ),
    Case(
        "profiles",
        BWRAP_VIEW,
        action="bwrap-view",
        note="binds for the copied files; without seccomp and Landlock",
    ),
    Case("files", MINIDOCKER, action="minidocker", note="the host's files as they are"),
    *(Case("files", name, action=name) for name in FILES),
    Case("parent", SUBPROCESS, action="subprocess"),
    Case("parent", SUBPROCESS_FORK, action="subprocess-fork"),
    Case("parent", MINIDOCKER, action="minidocker"),
    Case("threads", FLOOR, floor=()),
    Case("threads", SUBPROCESS, action="subprocess"),
    Case("threads", MINIDOCKER, action="minidocker"),
    Case("threads", BWRAP, action="bwrap"),
    Case(
        "function", FORK, action="fork", note="no namespaces; the value comes back through a pipe"
    ),
    Case("function", BARE, floor=("--bare",)),
    Case(
        "function",
        FLOOR,
        floor=(),
        note="the difference to the row above is the cost of the namespaces",
    ),
    Case("function", CALL, action="call", note='`call(nothing, spec=Spec(hostname="bench"))`'),
    Case("clean", PYTHON, action="python", note="no namespaces"),
    Case("clean", PYTHON_NUMPY, action="python-numpy", note="no namespaces"),
    Case("clean", SPAWN, action="spawn", note="20 ms, not counted, after the previous call"),
    Case("clean", SPAWN_NUMPY, action="spawn-numpy", note='the same with `preload=["numpy"]`'),
    Case(
        "clean",
        SPAWN_AGAIN,
        action="spawn-again",
        note="at once: no ready container exists yet",
    ),
    Case("argument", ARGUMENT_FORK, action="argument-fork", note="only the value is pickled"),
    Case("argument", ARGUMENT_SPAWN, action="argument-spawn", note="both are pickled"),
    Case("start", START_PYTHON, action="start-python"),
    Case(
        "start",
        START,
        action="start-minidocker",
        note="`python -m minidocker run noop`",
    ),
    Case("tests", TESTS, action="pytest"),
    Case("tests", FORKED, action="pytest-forked", note="pytest-forked: a fork, no namespaces"),
    Case("tests", MARKED, action="pytest-marked", note="every test in a container of its own"),
    Case("scaling", TESTS, action="pytest-busy"),
    Case("scaling", MARKED, action="pytest-busy-marked"),
    *(
        Case("steps", name, floor=("--without", names) if names else ())
        for name, names in _STEPS.items()
    ),
)
