"""unshare(1), as tutorials use it."""

from nested.environment import Environment
from nested.machine import Machine

FLAGS = "-Urpf --mount-proc"
#: A shell is PID 1, as where a person types the command: Python would leave orphans unreaped.
SHELL = ("sh", "-c", '"$@"; exit $?', "sh")


def environments(machine: Machine) -> list[Environment]:
    """Return the container of ``unshare -Urpf --mount-proc``, for root and for a plain user."""
    return [
        Environment(
            name=f"unshare {FLAGS}",
            plain=plain,
            prefix=(*machine.prefix(plain=plain), "unshare", *FLAGS.split(), *SHELL),
            temporary=str(machine.temporary(plain=plain)),
        )
        for plain in (False, True)
    ]
