"""Minidocker itself, and a chain of three programs."""

from nested.environment import Environment
from nested.machine import PYTHON, Machine

RUN = (str(PYTHON), "-m", "minidocker", "run")

#: The profile's filter refuses namespaces, as docker's does.
CONFINED = dict.fromkeys(("user", "run"), 'start that container with profile="namespaces"')


def environments(machine: Machine) -> list[Environment]:
    """Return containers of minidocker: by default, read-only, with the profile "docker"."""
    found = []
    for plain in (False, True):
        scratch = str(machine.temporary(plain=plain))
        start = machine.prefix(plain=plain)
        for flags, cannot in (
            ((), {}),
            (("--read-only", "--volume", f"{scratch}:{scratch}"), {}),
            (("--profile", "docker"), CONFINED),
        ):
            found.append(
                Environment(
                    name=" ".join(["minidocker run", *flags[:2]]),
                    plain=plain,
                    prefix=(*start, *RUN, *flags),
                    cannot=cannot,
                    temporary=scratch,
                )
            )
    scratch = str(machine.plain_scratch)
    bwrap = f"bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all --bind {scratch} {scratch}"
    found.append(
        Environment(
            name="unshare -Ur, in it bwrap, in it minidocker run --init",
            plain=True,
            prefix=(
                *machine.as_plain_user, "unshare", "-Ur", "--map-current-user",
                *bwrap.split(), "--", *RUN, "--init",
            ),
            temporary=scratch,
        )
    )  # fmt: skip
    return found
