"""Bubblewrap, in the shapes that coding agents and desktop sandboxes use."""

from nested.environment import Environment
from nested.machine import Machine
from support.places import REPOSITORY

#: The shape of coding agents' sandboxes.
AGENT = "--ro-bind / / --dev /dev --proc /proc --unshare-all"

#: bwrap always sets no_new_privs, so newuidmap gains no privileges.
NO_SETUID = {"subordinate-ids": "outside of bwrap"}

#: As root, bwrap covers those parts of its /proc that root could write to.
COVERED = dict.fromkeys(
    ("fresh-proc", "ping", "run", "enter", "profile-docker", "profile-untrusted"),
    "start bwrap as a plain user",
)
#: Without --proc the container has the host's /proc, which --ro-bind made read-only.
READ_ONLY_PROC = dict.fromkeys(
    ("user", "run", "enter", "profile-docker", "profile-untrusted"),
    "start bwrap with --bind /proc /proc",
)
#: Without --proc the container has the /proc of the host's PID namespace.
FOREIGN_PROC = dict.fromkeys(("proc", "user", "run", "enter"), "bwrap --proc /proc")
NO_NAMESPACES = dict.fromkeys(("user", "run", "enter"), "start bwrap without --disable-userns")
#: --bind and --ro-bind forbid devices; --dev and --dev-bind do not.
NO_DEVICES = dict.fromkeys(
    ("devices", "profile-docker", "profile-untrusted"), "start bwrap with --dev /dev"
)


def environments(machine: Machine) -> list[Environment]:
    """Return the containers of bwrap, for root and for a plain user."""
    clone = ("--ro-bind", str(REPOSITORY), str(REPOSITORY))
    found = []
    for plain in (False, True):
        scratch = str(machine.temporary(plain=plain))
        writable = ("--bind", scratch, scratch)
        covered = {} if plain else COVERED
        own = NO_SETUID if plain else {}
        for flags, more, cannot, temporary in (
            (AGENT, writable, covered, scratch),
            (f"{AGENT} --unshare-user --disable-userns", writable, NO_NAMESPACES, scratch),
            ("--bind / / --dev /dev --unshare-user --unshare-pid", (), FOREIGN_PROC, scratch),
            (
                "--bind / / --unshare-user --unshare-pid --proc /proc",
                (),
                NO_DEVICES | covered,
                scratch,
            ),
            (
                "--ro-bind / / --tmpfs /tmp --dev-bind /dev /dev --unshare-net",
                clone,
                READ_ONLY_PROC,
                "/tmp",
            ),
            (
                "--ro-bind / / --tmpfs /tmp --dev-bind /dev /dev --unshare-net --bind /proc /proc",
                clone,
                {},
                "/tmp",
            ),
        ):
            bwrap = ("bwrap", *flags.split(), *more, "--")
            found.append(
                Environment(
                    name=f"bwrap {flags}",
                    plain=plain,
                    prefix=(*machine.prefix(plain=plain), *bwrap),
                    # No user namespace, no subordinate ids: that remedy comes first.
                    cannot=cannot if "user" in cannot else cannot | own,
                    temporary=temporary,
                    # Otherwise pytest opens /dev/null.
                    arguments=("-s", "-p", "no:logging") if "devices" in cannot else (),
                )
            )
    return found
