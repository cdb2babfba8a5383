"""A machine full of canaries: a root file system whose secrets all contain the word CANARY.

The machine is an outer container. A test is its administrator: it changes the files from outside.
`caller.py` runs inside as the caller of minidocker, and starts containers on the machine's files.
"""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minidocker
from minidocker import Mount
from support.attack import interpreter
from support.places import TESTS

WORD = "CANARY"

#: Files that no view may contain, not even by name. Each is as open as it can be.
NEVER = (
    # Accounts and privileges.
    "etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-", "etc/passwd-", "etc/group-",
    "etc/sudoers", "etc/sudoers.d/admin", "etc/doas.conf", "etc/security/opasswd",
    "etc/polkit-1/rules.d/50.rules", "etc/pam.d/common-auth", "etc/subuid-",
    # Keys and identities.
    "etc/ssh/ssh_host_ed25519_key", "etc/ssh/sshd_config", "etc/ssl/private/server.key",
    "etc/pki/tls/private/server.key", "etc/pki/CA/private/ca.key", "etc/pki/nssdb/key4.db",
    "etc/letsencrypt/live/x/privkey.pem", "etc/krb5.keytab", "etc/krb5.conf", "etc/machine-id",
    "etc/gnupg/secring.gpg", "etc/ipsec.secrets", "etc/cni/net.d/10.conf",
    # Network and VPN.
    "etc/wireguard/wg0.conf", "etc/openvpn/client/x.conf", "etc/ppp/chap-secrets",
    "etc/NetworkManager/system-connections/wifi", "etc/netplan/50.yaml",
    "etc/network/interfaces", "etc/wpa_supplicant/wpa_supplicant.conf", "etc/iptables/rules.v4",
    "etc/systemd/network/wg0.netdev", "etc/systemd/system/app.service",
    # Disks.
    "etc/fstab", "etc/crypttab", "etc/lvm/lvm.conf", "etc/exports", "etc/samba/smbpasswd",
    # Package managers and clients.
    "etc/apt/auth.conf", "etc/apt/auth.conf.d/x.conf", "etc/apt/sources.list", "etc/pip.conf",
    "etc/npmrc", "etc/gitconfig", "etc/curlrc", "etc/wgetrc", "etc/environment",
    "etc/profile.d/token.sh", "etc/yum.repos.d/x.repo", "etc/dnf/dnf.conf", "etc/zypp/zypp.conf",
    "etc/pacman.conf", "etc/netrc", "etc/conda/.condarc", "etc/boto.cfg", "etc/msmtprc",
    "etc/maven/settings.xml", "etc/R/Renviron.site", "etc/dpkg/dpkg.cfg",
    "etc/zsh/zshrc", "etc/php/8.2/apache2/php.ini",
    # Services.
    "etc/mysql/debian.cnf", "etc/my.cnf", "etc/postgresql/15/main/pg_hba.conf",
    "etc/postgresql-common/pg_service.conf", "etc/redis/redis.conf", "etc/mongod.conf",
    "etc/ldap/ldap.conf", "etc/ldap.conf", "etc/openldap/slapd.conf", "etc/sssd/sssd.conf",
    "etc/nslcd.conf", "etc/docker/daemon.json", "etc/containers/auth.json",
    "etc/containerd/config.toml", "etc/kubernetes/admin.conf", "etc/rancher/k3s/k3s.yaml",
    "etc/nginx/nginx.conf", "etc/nginx/htpasswd", "etc/apache2/apache2.conf",
    "etc/grafana/grafana.ini", "etc/cron.d/backup", "etc/crontab", "etc/exim4/passwd.client",
    "etc/postfix/sasl_passwd", "etc/dovecot/users", "etc/bind/rndc.key", "etc/rndc.key",
    "etc/php/8.2/fpm/pool.d/www.conf", "etc/tomcat9/tomcat-users.xml", "etc/vault.d/vault.hcl",
    "etc/default/app", "etc/app.secret", "etc/.pwd.lock", "etc/ImageMagick.key",
    # Outside /etc.
    "swapfile", "initrd.img", ".dockerenv", "opt/app/token", "opt/token", "srv/www/config.php",
    "mnt/disk/file", "media/disk/file", "boot/grub/grub.cfg", "root/.netrc", "root/.ssh/id",
    "home/alice/.ssh/id", "home/alice/file", "data/file", "run/secrets/token", "run/token",
    "tmp/token", "var/tmp/token", "var/lib/app/token", "var/lib/docker/config", "var/log/auth.log",
    "var/lib/postgresql/15/main/base", "var/lib/dpkg/status", "var/lib/systemd/random-seed",
    "var/lib/NetworkManager/secret_key", "var/backups/shadow.bak", "var/mail/root",
    "var/spool/cron/crontabs/root", "var/cache/debconf/passwords.dat", "var/www/config.php",
    "var/opt/token", "var/run/token", "var/token", "lost+found/file",
)  # fmt: skip

#: Files below directories and under names that a view does show. Only their owner may read them.
CLOSED = (
    "etc/ssl/certs/closed.pem", "etc/alternatives/closed", "etc/fonts/closed.conf",
    "etc/terminfo/closed", "etc/perl/closed", "etc/python3/closed", "etc/vim/closed",
    "etc/java-17-openjdk/management/jmxremote.password", "etc/ImageMagick-6/closed.xml",
    "etc/php/8.2/cli/closed.ini", "etc/groff/closed", "etc/pki/ca-trust/extracted/closed",
    "etc/crypto-policies/closed", "var/cache/fontconfig/closed", "etc/emacs/closed.el",
    "etc/ld.so.conf.d/closed.conf", "etc/xml/closed", "etc/texmf/closed", "var/lib/texmf/closed",
    "etc/R/Renviron", "etc/php.ini", "etc/ld.so.conf",
    "etc/services", "etc/protocols", "etc/inputrc", "etc/magic", "etc/host.conf", "etc/profile",
)  # fmt: skip

#: Secrets below /usr/local, whose other parts are shown.
LOCAL = ("etc/token", "src/token")

#: Directories that a connection or an open would leave the container through.
DOORS = ("opt/app", "opt", "srv", "var/lib/app", "var/lib", "etc", "etc/app", "run", "home/alice")

#: Rows of synthesised files. The rest of the host's file is not shown.
ROWS = {
    "etc/passwd": (
        f"root:{WORD}hash:0:0:{WORD} gecos:/root:/bin/bash\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        f"alice:x:1000:1000:{WORD} Alice,,,:/home/alice:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "etc/group": (
        f"root:{WORD}hash:0:\ndaemon:x:1:\n{WORD}team:x:2000:alice\nalice:x:1000:\nnogroup:x:65534:\n"
    ),
    "etc/hosts": f"127.0.0.1 localhost\n10.0.0.1 {WORD}.internal\n",
    "etc/resolv.conf": f"search {WORD}.internal\nnameserver 10.0.0.1\n",
    "etc/nsswitch.conf": f"passwd: files\nhosts: files dns # {WORD}\n",
}


def make_machine(directory: Path) -> Path:
    """Copy the settings of this machine to a root in `directory`, without secrets."""
    root = directory / "machine"
    root.mkdir(parents=True)
    root.chmod(0o755)
    # A plain user may not read everything, so cp may complain.
    subprocess.run(["cp", "-a", "/etc", root], stderr=subprocess.DEVNULL, check=False)
    points = ("usr", "dev", "proc", "sys", "tests", "package", "local/etc", "local/src")
    for name in (*points, sys.base_prefix[1:]):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
    for name in {*NEVER, *CLOSED}:
        (root / name).unlink(missing_ok=True)
    for name in {os.path.dirname(name) for name in (*NEVER, *CLOSED)} | set(DOORS):
        _open_directory(root, name)
    for name, text in ROWS.items():
        (root / name).unlink(missing_ok=True)
        (root / name).write_text(text)
    for name in ("tmp", "var/tmp", "run"):
        (root / name).chmod(0o1777)
    return root


def _open_directory(root: Path, name: str) -> None:
    """Make a directory that everyone may list, whatever its mode on this machine."""
    at = root
    for part in Path(name).parts:
        at /= part
        if at.is_symlink() or at.is_file():
            at.unlink()
        at.mkdir(exist_ok=True)
        at.chmod(0o755)


class Administrator:
    """The machine's root, who changes the files while containers run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.never = [*NEVER, *(f"local/{name}" for name in LOCAL)]
        self._sockets: list[socket.socket] = []

    def add(self) -> None:
        """Write each canary."""
        for name in self.never:
            self._write(self.root / name, 0o644)
        for name in CLOSED:
            self._write(self.root / name, 0o600)

    def replace(self) -> None:
        """Replace each canary by a new file, as chpasswd(8) does with /etc/shadow."""
        for name in (*self.never, *CLOSED):
            path = self.root / name
            new = path.with_name(f"{path.name}+")
            self._write(new, stat.S_IMODE(path.stat().st_mode))
            new.rename(path)

    def rename(self) -> None:
        """Rename each canary's directory below /etc, make it again, and move the canaries back."""
        for name in sorted({str(Path(name).parent) for name in self.never if name[:4] == "etc/"}):
            directory = self.root / name
            if name == "etc" or not directory.exists():
                continue
            old = directory.with_name(f"{directory.name}.old")
            directory.rename(old)
            shutil.copytree(old, directory, symlinks=True)

    def open_doors(self) -> None:
        """Listen on a socket and make a FIFO in each directory."""
        here = os.open(".", os.O_RDONLY)
        try:
            for door in DOORS:
                os.mkfifo(self.root / door / "fifo", 0o666)
                (self.root / door / "fifo").chmod(0o666)
                # The full path of pytest's directory may be too long for an address.
                os.chdir(self.root / door)
                server = socket.socket(socket.AF_UNIX)
                self._sockets.append(server)
                server.bind("socket")
                server.listen()
                os.chmod("socket", 0o666)
        finally:
            os.fchdir(here)
            os.close(here)

    def close(self) -> None:
        """Stop listening."""
        while self._sockets:
            self._sockets.pop().close()

    @staticmethod
    def _write(path: Path, mode: int) -> None:
        path.write_text(f"{WORD} of {path.name}\n")
        path.chmod(mode)


@dataclass
class Findings:
    """The canaries and doors that code inside a container found."""

    read: set[str]
    exist: set[str]
    special: set[str]
    through: set[str]

    def __bool__(self) -> bool:
        return bool(self.read or self.exist or self.special or self.through)


class Machine:
    """A running machine, with a caller of minidocker on it."""

    def __init__(self, root: Path, **options: Any) -> None:
        base = Path(sys.base_prefix)
        package = Path(minidocker.__file__).parent
        mounts = [
            Mount("/usr", "/usr", read_only=True),
            Mount("/tests", TESTS, read_only=True),
            Mount("/package/minidocker", package, read_only=True),
        ]
        if not base.is_relative_to("/usr"):
            mounts.append(Mount(base, base, read_only=True))
        mounts += [
            Mount(f"/usr/local/{name}", root / "local" / name)
            for name in ("etc", "src")
            if Path("/usr/local", name).is_dir()
        ]
        code = (
            "import sys; sys.path[:0] = ['/package', '/tests']; sys.dont_write_bytecode = True; "
            "from support.caller import main; main()"
        )
        python = sys._base_executable  # type: ignore[attr-defined]
        self._process = minidocker.Popen(
            [python, "-I", "-S", "-c", code],
            rootfs=root,
            mounts=mounts,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/home/alice"},
            cwd="/",
            **options,
        )

    def ask(self, order: str, **arguments: Any) -> Any:
        """Have the caller do something, and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([order, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(self._process.stderr.read())
        return json.loads(line)

    def start(self, name: str, **options: Any) -> None:
        """Start a container that stays."""
        self.ask("start", name=name, options=options)

    def look(self, names: Iterable[str], *, box: str | None = None, **options: Any) -> "Findings":
        """Walk the view of a container that runs, or of a new one; return the findings."""
        found = self.ask(
            "look", names=list(names), doors=DOORS, box=box, python=interpreter(), options=options
        )
        return Findings(**{kind: set(paths) for kind, paths in found.items()})

    def close(self) -> None:
        """End the caller and its containers."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            assert self._process.stderr is not None
            complaint = self._process.stderr.read()
            assert self._process.wait(timeout=30) == 0, complaint
