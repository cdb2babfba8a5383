"""unshare(1), as tutorials use it."""

from nested.environment import Environment
from nested.machine import Machine

FLAGS = "-Urpf --mount-proc"


def environments(machine: Machine) -> list[Environment]:
    """Return the container of ``unshare -Urpf --mount-proc``, for root and for a plain user."""
    return [
        Environment(
            name=f"unshare {FLAGS}",
            plain=plain,
            prefix=(*machine.prefix(plain=plain), "unshare", *FLAGS.split()),
            temporary=str(machine.temporary(plain=plain)),
        )
        for plain in (False, True)
    ]
