"""Links in /etc whose files lie in places that the container hides, such as resolv.conf."""

import os
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, linux
from minidocker.linux import CloneFlags
from support.child import in_child, unshare_as_root
from support.rootfs import make_rootfs

STUB = "/run/systemd/resolve/stub-resolv.conf"
NAMESERVER = "nameserver 127.0.0.53\n"


def on_a_host_with(entries, options):
    """Run `cat /etc/resolv.conf` on a host with a /run and an /etc that contain `entries`.

    An entry is a text or, for a link, a Path. Returns the output, and the errors.
    """

    def check():
        unshare_as_root(CloneFlags.NEWNS)
        kept = {path: Path(path).read_bytes() for path in ("/etc/passwd", "/etc/group")}
        os.umask(0o022)
        for directory in ("/run", "/etc", "/mnt"):
            linux.mount("tmpfs", directory, "tmpfs", data="mode=755")
        for path, content in kept.items():
            Path(path).write_bytes(content)
        for name, content in entries.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content)
            else:
                path.write_text(content)
                path.chmod(0o600 if "secret" in name else 0o644)
        done = minidocker.run(
            ["/bin/cat", "/etc/resolv.conf"], capture_output=True, text=True, cwd="/", **options
        )
        return done.stdout, done.stderr

    return in_child(check)


PRIVATE_RUN = {
    "untrusted on the host's network": {"profile": "untrusted", "network": "host"},
    "tmpfs": {"tmpfs": ["/run"]},
    "tmpfs on an overlay": {"tmpfs": ["/run"], "overlay": True},
    "read-only root": {"tmpfs": ["/run"], "read_only": True},
}


@pytest.mark.parametrize("options", PRIVATE_RUN.values(), ids=PRIVATE_RUN)
def test_a_link_into_a_private_run_leads_to_a_copy_of_its_file(options):
    entries = {STUB: NAMESERVER, "/etc/resolv.conf": Path(f"..{STUB}")}
    assert on_a_host_with(entries, options) == (NAMESERVER, "")


CHAINS = {
    "an absolute link": {STUB: NAMESERVER, "/etc/resolv.conf": Path(STUB)},
    "a link in /run": {
        "/run/b": NAMESERVER,
        "/run/a": Path("b"),
        "/etc/resolv.conf": Path("/etc/../run/a"),
    },
    "through a directory": {
        "/run/nix/etc/resolv.conf": NAMESERVER,
        "/etc/static": Path("/run/nix/etc"),
        "/etc/resolv.conf": Path("/etc/static/resolv.conf"),
    },
    "back to a shown place": {
        "/etc/real": NAMESERVER,
        "/run/a": Path("/etc/real"),
        "/etc/resolv.conf": Path("/run/a"),
    },
    "in a hidden directory": {
        "/mnt/wsl/resolv.conf": NAMESERVER,
        "/etc/resolv.conf": Path("/mnt/wsl/resolv.conf"),
    },
    "two links": {
        STUB: NAMESERVER,
        "/etc/a": Path(STUB),
        "/etc/resolv.conf": Path(STUB),
        "/etc/z": Path("resolv.conf"),
    },
}


@pytest.mark.parametrize("entries", CHAINS.values(), ids=CHAINS)
def test_each_way_to_the_file_leads_to_its_copy(entries):
    options = {"profile": "untrusted", "network": "host"}
    assert on_a_host_with(entries, options) == (NAMESERVER, "")
    if not any(path.startswith("/mnt") for path in entries):
        assert on_a_host_with(entries, {"tmpfs": ["/run"]}) == (NAMESERVER, "")


def test_untrusted_without_a_network_has_no_nameserver():
    found, error = on_a_host_with({"/etc/resolv.conf": NAMESERVER}, {"profile": "untrusted"})
    assert found == ""
    assert "No such file" in error


NOTHING = {
    "no file": {},
    "a dangling link": {"/etc/resolv.conf": Path(STUB)},
    "a loop": {"/etc/resolv.conf": Path("/run/a"), "/run/a": Path("/run/a")},
    "a file of root's alone": {"/run/secret": "x", "/etc/resolv.conf": Path("/run/secret")},
    "a directory": {"/run/d/f": "x", "/etc/resolv.conf": Path("/run/d")},
}


@pytest.mark.parametrize("entries", NOTHING.values(), ids=NOTHING)
def test_a_link_without_a_file_for_every_user_stays_dangling(entries):
    for options in ({"profile": "untrusted", "network": "host"}, {"tmpfs": ["/run"]}):
        found, error = on_a_host_with(entries, options)
        assert found == ""
        assert "No such file" in error


def test_the_copy_belongs_to_the_container():
    def check():
        unshare_as_root(CloneFlags.NEWNS)
        linux.mount("tmpfs", "/run", "tmpfs")
        linux.mount("tmpfs", "/etc", "tmpfs")
        Path("/run/stub").write_text(NAMESERVER)
        Path("/etc/resolv.conf").symlink_to("../run/stub")
        script = "echo changed > /etc/resolv.conf && cat /run/stub && stat -c %a /run/stub"
        done = minidocker.run(
            ["/bin/sh", "-c", script], tmpfs=["/run"], capture_output=True, text=True, cwd="/"
        )
        return done.stdout.split(), Path("/run/stub").read_text()

    assert in_child(check) == (["changed", "644"], NAMESERVER)


def test_a_mount_of_the_users_wins_over_the_file_of_a_link(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/stub").write_text("mine\n")
    tmp_path.chmod(0o755)
    entries = {"/run/stub": NAMESERVER, "/etc/resolv.conf": Path("/run/stub")}
    for mounts, expected in [
        ([Mount("/run", tmp_path / "mine")], "mine\n"),
        ([Mount("/run", type="tmpfs"), Mount("/run/stub", content="given\n")], "given\n"),
        ([Mount("/etc", type="tmpfs"), Mount("/run", type="tmpfs")], ""),
        ([Mount("/run", type="tmpfs", read_only=True)], ""),
    ]:
        assert on_a_host_with(entries, {"mounts": mounts})[0] == expected


@pytest.mark.parametrize("options", [{"profile": "untrusted"}, {"tmpfs": ["/run"]}], ids=str)
def test_a_link_of_a_rootfs_into_a_private_run_leads_to_the_hosts_resolv_conf(tmp_path, options):
    rootfs = make_rootfs(tmp_path / "root")
    (rootfs / "run/r").mkdir(parents=True)
    (rootfs / "run/r/names").write_text("of the root\n")
    (rootfs / "etc/names").symlink_to("../run/r/names")
    (rootfs / "etc/resolv.conf").unlink()
    (rootfs / "etc/resolv.conf").symlink_to("../run/r/stub")
    show = ["/bin/cat", "/etc/names", "/etc/resolv.conf"]
    options = {"rootfs": rootfs, "env": {"PATH": "/bin"}, "capture_output": True, **options}
    done = minidocker.run(show, network="host", text=True, **options)
    assert done.stdout == "of the root\n" + Path("/etc/resolv.conf").read_text()
    # A network of the container's own has no nameserver.
    assert minidocker.run(show, text=True, **options).stdout == "of the root\n"
