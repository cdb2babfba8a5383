"""A host whose settings in /etc are something else: FIFOs, sockets, endless files, odd links."""

import os
import shutil
import socket
from pathlib import Path

import pytest

import minidocker
from minidocker import Container, linux
from minidocker.linux import CloneFlags
from support.child import in_child, unshare_as_root

WORD = "CANARY"

#: Files that are copied, that are read for what a container gets instead, and directories.
COPIED = ("localtime", "os-release", "services", "mime.types", "bash.bashrc", "profile")
READ = ("hosts", "resolv.conf", "hostname", "subuid")
BOUND = ("fonts", "terminfo", "alternatives", "ssl/certs", "perl")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def endless(path):
    path.touch()
    os.truncate(path, 1 << 40)


def closed_directory(path):
    path.mkdir()
    (path / "file").write_text(WORD)
    (path / "file").chmod(0o600)


def link(target):
    return lambda path: path.symlink_to(target)


ODD = {
    "a FIFO": os.mkfifo,
    "a socket": unix_socket,
    "an endless file": endless,
    "a directory": Path.mkdir,
    "a link to a device": link("/dev/zero"),
    "a link to a FIFO": link("/srv/fifo"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nothing": link("/nothing"),
    "a link to a secret": link("/srv/secret"),
    "a link far up": link("../" * 60 + "srv/secret"),
    "a link into proc": link("/proc/self/environ"),
}

#: Prints each entry that is neither file, directory nor link, and each file with the word.
LOOK = f"""
find /etc /srv ! -type f ! -type d ! -type l
find /etc /srv -type f -size -9 -exec grep -l {WORD} {{}} +
"""


def on_a_host_with(change, check):
    """Call `check` on a host with an /etc and a /srv of its own, after `change`."""

    def child():
        unshare_as_root(CloneFlags.NEWNS)
        os.umask(0o022)
        os.environ["SECRET"] = WORD
        accounts = {path: Path(path).read_bytes() for path in ("/etc/passwd", "/etc/group")}
        for directory in ("/srv", "/etc"):
            linux.mount("tmpfs", directory, "tmpfs", data="mode=755")
        for path, content in accounts.items():
            Path(path).write_bytes(content)
        Path("/srv/secret").write_text(WORD)
        Path("/srv/secret").chmod(0o600)
        os.mkfifo("/srv/fifo")
        change()
        return check()

    return in_child(child)


def make_all(kind):
    for name in (*COPIED, *READ, *BOUND):
        path = Path("/etc", name)
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        ODD[kind](path)


@pytest.mark.parametrize("kind", ODD)
def test_settings_that_are_something_else_stop_no_launch_and_show_nothing(kind):
    """The files that the caller's C library reads stay as they are: it would wait for a FIFO.

    It reads /etc/localtime when a Python starts, so those inside get none. It reads passwd,
    group and nsswitch.conf when it looks up a user.
    """

    def check():
        found = []
        for network in ("none", "host"):
            done = minidocker.run(
                ["/bin/sh", "-c", LOOK],
                profile="untrusted",
                network=network,
                hostname="lab",
                capture_output=True,
                text=True,
                cwd="/",
                timeout=60,
            )
            found.append((done.stdout, done.stderr))
        named = minidocker.run(["/bin/true"], hostname="lab", cwd="/", timeout=60)
        return found, named.returncode

    assert on_a_host_with(lambda: make_all(kind), check) == ([("", "")] * 2, 0)


def test_a_link_in_place_of_a_listed_directory_shows_what_it_leads_to_and_nothing_beside():
    """Only root may put it there: for the programs of this machine it is the directory."""

    def change():
        for name in ("fonts", "other", "static/perl", "beside"):
            directory = Path("/srv", name)
            directory.mkdir(parents=True)
            (directory / "file").write_text(name)
        Path("/etc/fonts").symlink_to("../srv/fonts")
        # As on NixOS, in two hops.
        Path("/etc/static").symlink_to("/srv/static")
        Path("/etc/perl").symlink_to("/etc/static/perl")

    def check():
        with Container(profile="untrusted") as box:
            os.remove("/etc/fonts")
            Path("/etc/fonts").symlink_to("/srv/other")
            shutil.rmtree("/srv/beside")
            script = "cat /etc/fonts/file /etc/perl/file; readlink /etc/fonts /etc/perl; ls /srv"
            done = box.run(["/bin/sh", "-c", script], capture_output=True, text=True, cwd="/")
        return done.stdout.split("\n"), done.stderr

    printed, complaint = on_a_host_with(change, check)
    assert complaint == ""
    assert printed[0] == "fontsstatic/perl../srv/fonts"
    assert printed[1:] == ["/etc/static/perl", "fonts", "static", ""]
