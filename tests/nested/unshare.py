"""unshare(1), as tutorials use it."""

from nested.environment import Environment
from nested.machine import Machine

FLAGS = "-Urpf"
#: /proc stays that of the host's PID namespace.
FOREIGN_PROC = dict.fromkeys(("proc", "user", "run", "enter"), "unshare --mount-proc")


def environments(machine: Machine) -> list[Environment]:
    """Return the containers of ``unshare -Urpf``, for root and for a plain user."""
    return [
        Environment(
            name=f"unshare {flags}",
            plain=plain,
            prefix=(*machine.prefix(plain=plain), "unshare", *flags.split()),
            cannot=cannot,
            temporary=str(machine.temporary(plain=plain)),
        )
        for plain in (False, True)
        for flags, cannot in ((f"{FLAGS} --mount-proc", {}), (FLAGS, FOREIGN_PROC))
    ]
