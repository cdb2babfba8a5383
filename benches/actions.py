"""The actions of the measuring process, by name: each is set up once, then timed call by call."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Action = Callable[[], object]


class Unavailable(Exception):
    """This machine cannot do the action; the message says why."""


@dataclass(frozen=True)
class Setup:
    """The resources of an action."""

    noop: str
    """Path of the static program that does nothing."""
    scratch: Path
    """A directory for the action's files."""


ACTIONS: dict[str, Callable[[Setup], Action]] = {}
COMMANDS: dict[str, list[str]] = {}
"""Command lines of the tools, without the program.

HOSTS stands for the path of a hosts file, ROOT for that of a root file system."""


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
        # The standard library documents this switch; typeshed declares it as a constant.
        subprocess._USE_VFORK = False  # type: ignore[misc]
        try:
            subprocess.run(arguments, check=True)
        finally:
            subprocess._USE_VFORK = True  # type: ignore[misc]

    return act


def _package() -> Any:
    try:
        minidocker = importlib.import_module("minidocker")
    except ImportError as why:
        raise Unavailable(f"not built ({why.name} is missing)") from why
    if not hasattr(minidocker, "run"):
        raise Unavailable("this version has no run()")
    return minidocker


@action("minidocker")
def _minidocker(setup: Setup) -> Action:
    run, arguments = _package().run, [setup.noop]
    return lambda: run(arguments, hostname="bench", check=True)


def _rootfs(setup: Setup) -> Path:
    """Make a root file system of one program."""
    root = setup.scratch / "root"
    for name in ("dev", "etc", "proc", "sys", "tmp", "usr", "var"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("etc/hosts", "etc/hostname"):
        (root / name).touch()
    shutil.copy(setup.noop, root / "noop")
    return root


def _with_profile(profile: str) -> Callable[[Setup], Action]:
    """Return the set-up of a command in a root of its own, with a profile."""

    def prepare(setup: Setup) -> Action:
        minidocker = _package()
        spec = minidocker.Spec(
            hostname="bench",
            rootfs=_rootfs(setup),
            tmpfs=["/tmp"],
            mounts=[
                minidocker.Mount("/usr", "/usr", read_only=True),
                minidocker.Mount("/var", "/var"),
            ],
            profile=profile,
        )
        return lambda: minidocker.run(["/noop"], spec=spec, check=True)

    return prepare


PROFILES = ("namespaces", "docker", "untrusted")
for _name in PROFILES:
    action(f"root-{_name}")(_with_profile(_name))


def _with_profile_on_the_host(profile: str) -> Callable[[Setup], Action]:
    """Return the set-up of a command on the host's own files, with a profile."""

    def prepare(setup: Setup) -> Action:
        minidocker = _package()
        spec = minidocker.Spec(hostname="bench", profile=profile)
        return lambda: minidocker.run([setup.noop], spec=spec, check=True)

    return prepare


for _name in PROFILES:
    action(f"host-{_name}")(_with_profile_on_the_host(_name))


FILES: dict[str, Callable[[Any], dict[str, object]]] = {
    'mounts=[Mount("/srv", "/usr")]': lambda own: {"mounts": [own.Mount("/srv", "/usr")]},
    'mounts=[Mount("/missing", "/usr")]': lambda own: {"mounts": [own.Mount("/missing", "/usr")]},
    'tmpfs=["/mnt"]': lambda _: {"tmpfs": ["/mnt"]},
    "read_only=True": lambda _: {"read_only": True},
    "overlay=True": lambda _: {"overlay": True},
}
"""Options for files: their text in a table, and their keywords."""


def _with_option(name: str) -> Callable[[Setup], Action]:
    def prepare(setup: Setup) -> Action:
        minidocker = _package()
        arguments = [setup.noop]
        spec = minidocker.Spec(hostname="bench", **FILES[name](minidocker))
        return lambda: minidocker.run(arguments, spec=spec, check=True)

    return prepare


for _name in FILES:
    action(_name)(_with_option(_name))


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


COMMANDS["bwrap-root"] = shlex.split(
    "bwrap --unshare-all --hostname bench --bind ROOT / --proc /proc --dev /dev --ro-bind /sys /sys"
    " --tmpfs /tmp --ro-bind /usr /usr --bind /var /var --bind HOSTS /etc/hosts"
    " --bind HOSTS /etc/hostname --die-with-parent --new-session --as-pid-1"
)


def _tool(name: str) -> Callable[[Setup], Action]:
    def prepare(setup: Setup) -> Action:
        if shutil.which(COMMANDS[name][0]) is None:
            raise Unavailable("not installed")
        hosts = setup.scratch / "hosts"
        hosts.write_text("127.0.0.1 localhost bench\n")
        places = {"HOSTS": str(hosts)}
        program = setup.noop
        if "ROOT" in COMMANDS[name]:
            places["ROOT"] = str(_rootfs(setup))
            program = "/noop"
        arguments = [*(places.get(word, word) for word in COMMANDS[name]), program]
        return lambda: subprocess.run(arguments, check=True)

    return prepare


for _name in tuple(COMMANDS):
    action(_name)(_tool(_name))


def _options_for_view() -> list[str]:
    """Return options of bwrap for what "untrusted" shows of this machine, read from its plan.

    A bind stands for a copied file, and a tmpfs for a writable directory."""
    minidocker = _package()
    plan = minidocker.explain(["/usr/bin/true"], profile="untrusted")
    options: list[str] = []
    for call in (planned.call for planned in plan if planned.step == "make-root"):
        if found := re.match(r'mount\("(.*?)", "(.*?)", NULL, MS_BIND', call):
            source, target = found.groups()
            own = not source.startswith("/")
            options += ["--tmpfs", f"/{target}"] if own else ["--ro-bind", source, f"/{target}"]
        elif found := re.match(r'symlinkat\("(.*?)", AT_FDCWD, "(.*?)"\)', call):
            options += ["--symlink", found[1], f"/{found[2]}"]
        elif found := re.match(r'openat\(AT_FDCWD, "(etc/.*?)", O_WRONLY', call):
            options += ["--ro-bind", f"/{found[1]}", f"/{found[1]}"]
    assert "/usr" in options
    return options


@action("bwrap-view")
def _bwrap_view(setup: Setup) -> Action:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise Unavailable("not installed")
    view = [*_options_for_view(), "--ro-bind", setup.noop, "/mnt/noop"]
    alone = (
        "--unshare-all --hostname bench --die-with-parent --new-session --as-pid-1 --cap-drop ALL"
    )
    sealed = "--proc /proc --dev /dev --remount-ro /usr/local --remount-ro / --cap-drop ALL"
    arguments = [bwrap, *shlex.split(alone), *view, *shlex.split(sealed), "/mnt/noop"]
    return lambda: subprocess.run(arguments, check=True)


@action("runc")
def _runc(setup: Setup) -> Action:
    runc = shutil.which("runc")
    if runc is None:
        raise Unavailable("not installed")
    # Both rhythms set up the case.
    bundle = Path(tempfile.mkdtemp(prefix="bundle-", dir=setup.scratch))
    (bundle / "rootfs").mkdir()
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
