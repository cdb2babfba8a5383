"""A real Docker engine, which this module starts: no systemd, no network, no registry."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from minidocker._inspect.proc import CAPABILITIES
from nested.environment import Environment
from nested.machine import Machine
from support.places import REPOSITORY

SECCOMP = "--security-opt seccomp=unconfined"
PATHS = "--security-opt systempaths=unconfined"
LABEL = "--security-opt apparmor=unconfined"

#: The engine's filter refuses clone(2) with the flags of namespaces.
FILTERED = dict.fromkeys(
    ("user", "pid", "net", "mount", "run", "enter", "unshare"),
    f"start that container with {SECCOMP}",
)
#: The engine mounts over parts of /proc and /sys.
MASKED = dict.fromkeys(("fresh-proc", "fresh-sys", "run", "enter"), PATHS)

#: The engine drops CAP_SYS_ADMIN, which newuidmap needs.
UNPRIVILEGED = {"subordinate-ids": "--cap-add SYS_ADMIN"}
#: Root without CAP_SETFCAP may not map its own id.
NO_CAPABILITIES = dict.fromkeys(("user", "run", "enter"), "--cap-add SETFCAP")

STARTS_WITHIN = 60.0


@contextlib.contextmanager
def environments(machine: Machine) -> Iterator[list[Environment]]:
    """Start an engine, and return containers with several options of ``docker run``."""
    with engine(machine.scratch / "docker") as client:
        image = machine.image()
        subprocess.run([*client, "import", str(image), "nested"], check=True, capture_output=True)
        shown = [f"--volume={place}:{place}:ro" for place in machine.shown()]
        run = (*client, "run", "--rm", "--network=none", f"--workdir={REPOSITORY}", *shown)
        allowed = f"{SECCOMP} {PATHS} {LABEL}"
        yield [
            Environment(
                name=f"docker run {flags}",
                plain=plain,
                prefix=(
                    *run,
                    f"--user={machine.ids if plain else '0:0'}",
                    *flags.split(),
                    "nested",
                ),
                cannot=cannot,
            )
            for plain in (False, True)
            for flags, cannot in (
                ("", FILTERED),
                (SECCOMP, MASKED),
                (allowed, UNPRIVILEGED if plain else {}),
                ("--privileged", {}),
                (f"--pids-limit 50 {allowed}", UNPRIVILEGED if plain else {}),
                (
                    f"--read-only --tmpfs /tmp:exec --cap-drop ALL {allowed}",
                    UNPRIVILEGED if plain else NO_CAPABILITIES,
                ),
            )
        ]


@contextlib.contextmanager
def engine(directory: Path) -> Iterator[tuple[str, ...]]:
    """Run dockerd with its files in a directory; return the command line of its client."""
    directory.mkdir()
    socket = f"unix://{directory}/docker.sock"
    runtime = directory / "runtime"
    runtime.write_text(RUNTIME.format(python=sys.executable, names=CAPABILITIES))
    runtime.chmod(runtime.stat().st_mode | stat.S_IXUSR)
    settings = directory / "daemon.json"
    settings.write_text(json.dumps({"runtimes": {"nested": {"path": str(runtime)}}}))
    command = [
        "dockerd", f"--config-file={settings}", f"--host={socket}", f"--data-root={directory}/data",
        f"--exec-root={directory}/run", f"--pidfile={directory}/pid", "--default-runtime=nested",
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
        "--exec-opt=native.cgroupdriver=cgroupfs", "--oom-score-adjust=0",
    ]  # fmt: skip
    log = directory / "log"
    client = ("/usr/bin/docker", f"--host={socket}")
    with log.open("w") as output:
        daemon = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start: {log.read_text()}")
            time.sleep(0.1)
        yield client
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)
            daemon.wait()


#: runc, for machines whose root lacks a capability: Docker 20.10 asks for each that the kernel has,
#: and runc then fails. Elsewhere this changes nothing.
RUNTIME = """#!{python}
import json, os, sys
from pathlib import Path

arguments = sys.argv[1:]
if "--bundle" in arguments:
    names = {names!r}
    rows = Path("/proc/self/status").read_text().splitlines()
    bounding = int(next(row.split()[1] for row in rows if row.startswith("CapBnd:")), 16)
    config = Path(arguments[arguments.index("--bundle") + 1], "config.json")
    spec = json.loads(config.read_text())
    sets = spec["process"].get("capabilities", {{}})
    for name, found in sets.items():
        sets[name] = [one for one in found if bounding >> names.index(one) & 1]
    config.write_text(json.dumps(spec))
os.execvp("runc", ["runc", *arguments])
"""
