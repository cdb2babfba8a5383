"""Attempts to reach the host through files: the kernel's, devices, and the host's own."""

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

import minidocker
from support.attack import PROFILES, apart, assert_escapes, assert_held, attack

pytestmark = pytest.mark.parametrize("profile", PROFILES)

WITHOUT_USER = minidocker.NamespaceOptions.all().without_user()
BOTH = pytest.mark.parametrize("init", [False, True])

# The attempts open these files for writing, and never write to them.
SWITCHES = """
PATHS = [
    "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug", "/proc/sys/fs/binfmt_misc/register", "/proc/sys/vm/panic_on_oom",
    "/proc/sys/kernel/panic", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper",
    "/sys/kernel/profiling", "/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/class/block/loop0/uevent",
]
for path in PATHS:
    if os.path.exists(path):
        opens(path, os.O_WRONLY)
"""


@pytest.mark.root(reason="they belong to root, whose id keeps them writable without capabilities")
def test_files_that_change_the_host_cannot_be_opened_for_writing(profile):
    control = attack(SWITCHES, profile="namespaces")
    assert "/proc/sys/kernel/core_pattern" in control.escaped, str(control)
    assert_held(SWITCHES, profile=profile)
    assert_held(SWITCHES, profile=profile, namespaces=WITHOUT_USER)


def test_files_that_change_the_host_cannot_be_opened_for_writing_by_a_plain_user(profile):
    assert_held(SWITCHES, profile=profile)


RELEASE_AGENT = """
groups = "/sys/fs/cgroup"
for name in sorted(os.listdir(groups) if os.path.exists(groups) else []):
    path = f"/sys/fs/cgroup/{name}/release_agent"
    if os.path.exists(path):
        opens(path, os.O_WRONLY)
# In the control it is a directory of the host, which other tests use at the same time.
directory = f"/tmp/minidocker-cgroup-{os.urandom(8).hex()}"
os.mkdir(directory)
def mount(kind, options):
    target = text(directory)
    call("mount", text(kind), target, text(kind), 0, text(options) if options else 0)
    call("umount2", target, 0)
attempt("cgroup2", mount, "cgroup2", None)
os.rmdir(directory)
"""


def test_cve_2022_0492_release_agent_cannot_be_reached(profile):
    control = attack(RELEASE_AGENT, profile="namespaces")
    assert "cgroup2" in control.escaped, str(control)
    if os.geteuid() == 0 and list(Path("/sys/fs/cgroup").glob("*/release_agent")):
        assert any("release_agent" in what for what in control.escaped), str(control)
    assert_held(RELEASE_AGENT, profile=profile)


DEVICES = """
USUAL = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)}
found = 0
for directory, _, names in os.walk("/dev"):
    for name in names:
        path = os.path.join(directory, name)
        status = os.lstat(path)
        device = os.major(status.st_rdev), os.minor(status.st_rdev)
        if not (stat.S_ISBLK(status.st_mode) or stat.S_ISCHR(status.st_mode)) or device in USUAL:
            continue
        if os.major(status.st_rdev) in (136, 4):
            continue
        found += 1
        if stat.S_ISBLK(status.st_mode):
            opens(path, os.O_RDWR | os.O_NONBLOCK)
        else:
            # Opening some of these has an effect, so check the permission only.
            (escaped if os.access(path, os.W_OK) else held)(path)
held(f"{found} devices")
"""


@pytest.mark.may_skip_in_ci(reason="a machine may show no block device")
@pytest.mark.root(reason="devices belong to root")
def test_devices_of_the_host_are_not_visible(profile):
    if not any(stat.S_ISBLK(path.lstat().st_mode) for path in Path("/dev").iterdir()):
        pytest.skip("this machine shows no block device")
    control = attack(DEVICES, profile="namespaces")
    assert control.escaped, str(control)
    assert_held(DEVICES, profile=profile)
    assert_held(DEVICES, profile=profile, namespaces=WITHOUT_USER)


@contextlib.contextmanager
def node(directory):
    """Make a device file (null) in a directory of the host; give its path."""
    path = Path(directory, f"minidocker-test-{os.getpid()}")
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    try:
        yield str(path)
    finally:
        path.unlink()


@pytest.mark.root(reason="only root makes device files")
def test_device_files_elsewhere_are_only_files(profile):
    with node("/var/lib") as path:
        code = f"opens({path!r}, os.O_RDWR)"
        assert_escapes(code, profile="namespaces")
        assert_held(code, profile=profile)


MKNOD = """
path = f"/dev/shm/minidocker-node-{os.urandom(8).hex()}"
def make():
    os.mknod(path, stat.S_IFBLK | 0o600, {device})
    try:
        os.close(os.open(path, os.O_RDWR))
    finally:
        os.unlink(path)
attempt("mknod", make)
"""
# The same on the host, where device files can be opened.
MKNOD_OUTSIDE = MKNOD.replace("/dev/shm/", "/var/lib/")


def block_device():
    """Return the number of a block device that this process can open."""
    for path in sorted(Path("/dev").iterdir()):
        if stat.S_ISBLK(path.lstat().st_mode):
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
                return path.stat().st_rdev
    pytest.skip("this process can open no block device")


@pytest.mark.may_skip_in_ci(reason="a machine may have no block device that opens")
@pytest.mark.root(reason="only root makes device files")
def test_device_files_cannot_be_made(profile):
    device = str(block_device())
    outside = MKNOD_OUTSIDE.replace("{device}", device)
    assert_escapes(outside, namespaces=minidocker.NamespaceOptions.none())
    code = MKNOD.replace("{device}", device)
    assert_held(code, profile=profile)
    assert_held(code, profile=profile, namespaces=WITHOUT_USER)


def test_device_files_cannot_be_made_by_a_plain_user(profile):
    assert_held(MKNOD.replace("{device}", "os.stat('/').st_dev"), profile=profile)


UNCOVER = """
MS_REMOUNT, MS_BIND, MS_REC, MNT_DETACH = 32, 4096, 16384, 2
def umount(path):
    call("umount2", text(path), MNT_DETACH)
for path in ("/proc/sys", "/proc/keys", "/sys/firmware", "/dev", "/root", "/tmp"):
    if os.path.ismount(path):
        attempt(f"umount {path}", umount, path)
def remount():
    call("mount", 0, text("/"), 0, MS_REMOUNT | MS_BIND, 0)
attempt("remount /", remount)
def again():
    call("mount", text("proc"), text("/proc"), text("proc"), 0, 0)
attempt("another proc", again)
def bind():
    call("mount", text("/"), text("/dev/shm"), 0, MS_BIND | MS_REC, 0)
attempt("bind /", bind)
"""


def test_covering_mounts_cannot_be_removed(profile):
    control = attack(UNCOVER, profile="namespaces")
    assert {"another proc", "bind /", "remount /"} <= set(control.escaped), str(control)
    assert_held(UNCOVER, profile=profile)
    if os.geteuid() == 0:
        assert_held(UNCOVER, profile=profile, namespaces=WITHOUT_USER)


CHROOT = """
import contextlib
def out():
    os.makedirs("/dev/shm/root", exist_ok=True)
    above = os.open("/", os.O_RDONLY)
    os.chroot("/dev/shm/root")
    os.fchdir(above)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    os.listdir("/usr")
with contextlib.suppress(OSError):
    out()
# The way out of the chroot leads to the container's own root, not to one above it.
(escaped if os.path.exists({secret!r}) else held)("the file of the host's")
"""


def test_chroot_leads_no_further_than_the_containers_root(profile, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("outside")
    code = CHROOT.replace("{secret!r}", repr(str(secret)))
    assert_escapes(code, profile="namespaces")
    assert_held(code, profile=profile, **apart(profile, tmp_path / "root"))


PIVOT = """
MS_BIND, MNT_DETACH = 4096, 2
def pivot():
    os.makedirs("/tmp/new/old", exist_ok=True)
    call("mount", text("/tmp/new"), text("/tmp/new"), 0, MS_BIND, 0)
    os.chdir("/tmp/new")
    call("pivot_root", text("."), text("old"))
attempt("pivot_root", pivot)
"""


def test_the_root_cannot_be_exchanged(profile):
    mounted = "call('mount', text('tmpfs'), text('/tmp'), text('tmpfs'), 0, 0)\n"
    assert_escapes(mounted + PIVOT, profile="namespaces")
    assert_held(PIVOT.replace("/tmp", "/dev/shm"), profile=profile)


DESCRIPTORS = """
import glob
for link in glob.glob("/proc/*/fd/*") + glob.glob("/proc/*/cwd") + glob.glob("/proc/*/root"):
    try:
        status = os.stat(link)
        if stat.S_ISDIR(status.st_mode):
            names = os.listdir(link)
            (escaped if {name!r} in names else held)(f"{{link}} {{os.readlink(link)}}")
    except OSError as error:
        held(link, error)
attempt("..", lambda: os.stat("../" + {name!r}))
"""


@BOTH
def test_cve_2024_21626_no_descriptor_and_no_directory_of_the_host_leaks_in(
    profile, init, tmp_path, monkeypatch
):
    options = {"profile": profile, **apart(profile, tmp_path / "root")}
    (tmp_path / "inner").mkdir()
    (tmp_path / "marked").touch()
    monkeypatch.chdir(tmp_path / "inner")
    directory = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(directory, True)
    try:
        code = DESCRIPTORS.format(name="marked")
        control = attack(code, profile="namespaces", pass_fds=[directory])
        assert {what.split("/")[-1] for what in control.escaped} >= {"..", tmp_path.name}, str(
            control
        )
        assert_held(code, init=init, **options)
        with minidocker.Container(**options) as box:
            assert_held(code, start=box.run)
    finally:
        os.close(directory)


def test_cve_2024_21626_a_working_directory_by_descriptor_is_not_a_way_out(profile, tmp_path):
    (tmp_path / "marked").touch()
    directory = os.open(tmp_path, os.O_RDONLY)
    code = "(escaped if os.path.exists('marked') else held)(os.getcwd())"
    try:
        own = f"/proc/self/fd/{directory}"
        assert_escapes(code, profile="namespaces", cwd=own)
        for cwd in (own, f"{own}/.", f"/proc/thread-self/fd/{directory}", "/proc/self/cwd"):
            with pytest.raises(minidocker.SpawnError) as caught:
                attack(code, profile=profile, cwd=cwd)
            assert (caught.value.step, caught.value.errno) == ("chdir", errno.ELOOP)
            with (
                minidocker.Container(profile=profile) as box,
                pytest.raises(minidocker.SpawnError),
            ):
                attack(code, start=box.run, cwd=cwd)
    finally:
        os.close(directory)


def test_the_callers_files_and_secrets_are_not_visible(profile, tmp_path):
    home = Path.home()
    paths = list(home.iterdir()) if home.is_dir() else []
    secrets = ["/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_ed25519_key"]
    readable = [path for path in secrets if os.access(path, os.R_OK)]
    code = f"""
for path in {[str(path) for path in paths]!r}:
    (escaped if os.path.lexists(path) else held)(path)
for path in {readable!r}:
    try:
        (escaped if os.path.getsize(path) else held)(path)
    except OSError as error:
        held(path, error)
held("the rest")
"""
    if paths or readable:
        control = attack(code, profile="namespaces")
        assert len(control.escaped) == len(paths) + len(readable), str(control)
    assert_held(code, profile=profile, **apart(profile, tmp_path / "root"))
