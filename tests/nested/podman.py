"""Rootless podman."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nested.environment import Environment
from nested.machine import Machine

UNMASK = "--security-opt unmask=ALL"
MASKED = dict.fromkeys(("fresh-proc", "fresh-sys", "run", "enter"), UNMASK)
#: Podman's filter allows namespaces, and refuses sethostname(2).
NO_HOSTNAME = {"hostname": "--security-opt seccomp=unconfined"}
#: The image has no rows of that user.
NO_ROWS = {"subordinate-ids": "usermod --add-subuids"}

#: The host's root, the owner of the programs in /usr, has no id inside.
NO_SETUID = {"subordinate-ids": "chmod u+s /usr/bin/newuidmap"}


@contextlib.contextmanager
def environments(machine: Machine) -> Iterator[list[Environment]]:
    """Import an image, and return containers with several options of ``podman run``."""
    directory = machine.plain_scratch / "podman"
    client = (
        *machine.as_plain_user, "env", f"HOME={directory}", f"XDG_RUNTIME_DIR={directory}/run",
        "podman", f"--root={directory}/root", f"--runroot={directory}/containers",
        f"--tmpdir={directory}/tmp", "--storage-driver=vfs", "--cgroup-manager=cgroupfs",
        "--events-backend=none",
    )  # fmt: skip
    make = ("mkdir", "-m", "700", str(directory), f"{directory}/run")
    subprocess.run([*machine.as_plain_user, *make], check=True)
    # runc needs no delegated group on version 1, and crun refuses a machine with both versions.
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    client += ("--runtime=crun",) if unified else ("--runtime=runc",)
    groups = ("--cgroups=disabled",) if unified else ()
    shown = [f"--volume={place}:{place}:ro" for place in machine.shown()]
    run = (*client, "run", "--rm", "--network=none", *groups, *shown)
    image = machine.image()
    try:
        subprocess.run([*client, "import", str(image), "nested"], check=True, capture_output=True)
        yield [
            Environment(
                name=f"podman run {flags}",
                plain=True,
                prefix=(*run, *flags.split(), "nested"),
                cannot=cannot,
            )
            for flags, cannot in (
                ("", MASKED),
                (UNMASK, NO_HOSTNAME),
                (f"--read-only --user 1000 {UNMASK}", NO_HOSTNAME | NO_ROWS),
                ("--privileged", {}),
                (f"--userns keep-id {UNMASK}", NO_HOSTNAME | NO_SETUID),
            )
        ]
    finally:
        # The process that keeps podman's namespaces.
        for file in directory.rglob("pause.pid"):
            os.kill(int(file.read_text()), signal.SIGTERM)
