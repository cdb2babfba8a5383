"""What the measuring process can do, by name: set up once, then timed call by call."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Action = Callable[[], object]


class Unavailable(Exception):
    """The action cannot be done on this machine; the message says why, in a few words."""


@dataclass(frozen=True)
class Setup:
    """What an action may use."""

    noop: str
    """Path of the static program that does nothing."""
    scratch: Path
    """A directory for the action's files."""


ACTIONS: dict[str, Callable[[Setup], Action]] = {}
COMMANDS: dict[str, list[str]] = {}
"""Command lines of the tools, without the program; HOSTS stands for the path of a hosts file."""


def action(name: str) -> Callable[[Callable[[Setup], Action]], Callable[[Setup], Action]]:
    """Register the decorated function as the set-up of the action `name`."""

    def register(prepare: Callable[[Setup], Action]) -> Callable[[Setup], Action]:
        ACTIONS[name] = prepare
        return prepare

    return register


@action("subprocess")
def _subprocess(setup: Setup) -> Action:
    arguments = [setup.noop]
    return lambda: subprocess.run(arguments, check=True)


@action("subprocess-fork")
def _subprocess_fork(setup: Setup) -> Action:
    arguments = [setup.noop]

    def act() -> None:
        # The standard library's documented switch, which typeshed takes for a constant.
        subprocess._USE_VFORK = False  # type: ignore[misc]
        try:
            subprocess.run(arguments, check=True)
        finally:
            subprocess._USE_VFORK = True  # type: ignore[misc]

    return act


@action("minidocker")
def _minidocker(setup: Setup) -> Action:
    try:
        minidocker = importlib.import_module("minidocker")
    except ImportError as why:
        raise Unavailable(f"not built ({why.name} is missing)") from why
    if not hasattr(minidocker, "run"):
        raise Unavailable("this version has no run()")
    run, arguments = minidocker.run, [setup.noop]
    return lambda: run(arguments, hostname="bench", check=True)


COMMANDS["bwrap"] = shlex.split(
    "bwrap --unshare-all --hostname bench --bind / / --proc /proc --dev-bind /dev /dev"
    " --tmpfs /dev/shm --bind HOSTS /etc/hosts --die-with-parent --new-session --as-pid-1"
)
COMMANDS["bwrap-plain"] = shlex.split(
    "bwrap --unshare-all --bind / / --proc /proc --dev-bind /dev /dev"
)
COMMANDS["unshare"] = shlex.split(
    "unshare --map-root-user --mount --pid --fork --ipc --net --uts --cgroup --mount-proc"
)
COMMANDS["nsjail"] = shlex.split("nsjail --quiet --mode o --chroot / --rw --hostname bench --")
COMMANDS["hakoniwa"] = shlex.split("hakoniwa run --unshare-all --rootdir /:rw --hostname bench --")


def _tool(name: str) -> Callable[[Setup], Action]:
    def prepare(setup: Setup) -> Action:
        if shutil.which(COMMANDS[name][0]) is None:
            raise Unavailable("not installed")
        hosts = setup.scratch / "hosts"
        hosts.write_text("127.0.0.1 localhost bench\n")
        words = [str(hosts) if word == "HOSTS" else word for word in COMMANDS[name]]
        arguments = [*words, setup.noop]
        return lambda: subprocess.run(arguments, check=True)

    return prepare


for _name in tuple(COMMANDS):
    action(_name)(_tool(_name))


@action("runc")
def _runc(setup: Setup) -> Action:
    runc = shutil.which("runc")
    if runc is None:
        raise Unavailable("not installed")
    bundle = setup.scratch / "bundle"
    (bundle / "rootfs").mkdir(parents=True)
    shutil.copy(setup.noop, bundle / "rootfs" / "noop")
    rootless = ["--rootless"] if os.geteuid() else []
    subprocess.run([runc, "spec", *rootless], cwd=bundle, check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = ["/noop"]
    config["hostname"] = "bench"
    path.write_text(json.dumps(config))
    state = str(setup.scratch / "runc")
    numbers = itertools.count()
    start = [runc, "--root", state, "run", "--bundle", str(bundle)]
    return lambda: subprocess.run([*start, f"bench-{os.getpid()}-{next(numbers)}"], check=True)
