"""What the outer containers need of this machine: the clone, the interpreter, a plain user."""

import dataclasses
import os
import pwd
import sys
import tarfile
from pathlib import Path

from support.places import REPOSITORY

#: Python of the virtual environment: its path, not the file behind the link.
PYTHON = REPOSITORY / ".venv/bin/python"

#: The directories of the image, with their modes.
DIRECTORIES = {
    **dict.fromkeys(("usr", "proc", "sys", "dev", "etc", "root", "run", "var", "home"), 0o755),
    **dict.fromkeys(("boot", "media", "mnt", "opt", "srv"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
}
#: Links into /usr, where the distribution has them.
LINKS = ("bin", "sbin", "lib", "lib32", "lib64")
#: Files in /etc that programs need.
FILES = (
    "passwd", "group", "subuid", "subgid", "nsswitch.conf", "ld.so.cache", "ld.so.conf",
    "alternatives",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Machine:
    """The machine that runs the outer containers.

    Attributes:
        user: the name of the plain user.
        scratch: a directory of root's for this run.
        plain_scratch: a directory of the plain user and group. In an overlay that user cannot write
            below a directory whose owner or group has no id inside.
    """

    user: str
    scratch: Path
    plain_scratch: Path

    @property
    def as_plain_user(self) -> tuple[str, ...]:
        """The command line that runs the command at its end as the plain user."""
        return (str(REPOSITORY / "scripts/as-plain-user.sh"), self.user)

    def prefix(self, *, plain: bool) -> tuple[str, ...]:
        """Return the command line that runs a command as root, or as the plain user."""
        return self.as_plain_user if plain else ()

    def temporary(self, *, plain: bool) -> Path:
        """Return a writable directory, for root or for the plain user."""
        return self.plain_scratch if plain else self.scratch

    @property
    def ids(self) -> str:
        """The plain user's ids, as ``UID:GID``."""
        account = pwd.getpwnam(self.user)
        return f"{account.pw_uid}:{account.pw_gid}"

    def shown(self) -> list[Path]:
        """Return the directories that a container of an engine has to show, to run the tests."""
        places = [Path("/usr"), REPOSITORY, Path(sys.base_prefix)]
        places.append(Path(os.path.realpath(PYTHON)).parents[1])
        found: list[Path] = []
        for place in places:
            if not any(place.is_relative_to(other) for other in found):
                found.append(place)
        return found

    def image(self) -> Path:
        """Return an archive of a root with mount points, and the files of /etc that programs need.

        No registry is asked. The engine's container has the engine's own mounts, filter and
        capabilities; the programs come from the host's /usr.
        """
        path = self.scratch / "image.tar"
        with tarfile.open(path, "w") as archive:
            for name, mode in DIRECTORIES.items():
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                archive.addfile(entry)
            for name in LINKS:
                if Path("/", name).is_symlink():
                    entry = tarfile.TarInfo(name)
                    entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{name}"
                    archive.addfile(entry)
            for name in FILES:
                if Path("/etc", name).exists():
                    archive.add(f"/etc/{name}", f"etc/{name}")
        path.chmod(0o644)
        return path
