"""The files that "untrusted" makes up or bounds, as code inside sees and attacks them."""

import json
import os
import pwd
import socket
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount
from support.attack import assert_escapes, assert_held, attack, interpreter
from support.specs import has_subordinate_ids

pytestmark = pytest.mark.parametrize("profile", ["untrusted"])

IS_ROOT = os.geteuid() == 0
SCRATCH = {"/tmp", "/var/tmp", "/run", "/home", "/root", "/dev/shm", str(Path.home())}


def inside(code, **options):
    """Run Python code that prints JSON inside, and return the value."""
    words = [interpreter(), "-I", "-S", "-c", f"import json, os\n{code}"]
    done = minidocker.run(words, capture_output=True, text=True, timeout=60, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


CHANGE = """
import stat
SCRATCH = {scratch!r}
def inside_scratch(path):
    return any(path == top or path.startswith(top + "/") for top in SCRATCH)
def change(path):
    new = os.path.join(path, "minidocker-test")
    attempt(new, lambda: os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
    attempt(new + " directory", os.mkdir, new)
    attempt(path + " link", os.symlink, "x", new)
    attempt(path + " time", os.utime, path)
    attempt(path + " mode", os.chmod, path, 0o777)
SKIP = ("/proc", "/usr/", "/sys/devices/system/")
for top, directories, files in os.walk("/"):
    directories[:] = [
        name for name in directories
        if not inside_scratch(os.path.join(top, name)) and os.path.join(top, name) != "/proc"
        and not os.path.join(top, name).startswith(SKIP)
    ]
    change(top)
    for name in files:
        path = os.path.join(top, name)
        if stat.S_ISREG(os.lstat(path).st_mode):
            attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))
            attempt(path + " removed", os.unlink, path)
            attempt(path + " renamed", os.rename, path, "/tmp/minidocker-test")
"""


def test_nothing_outside_the_scratch_can_be_changed(profile):
    outcome = attack(CHANGE.format(scratch=SCRATCH), profile=profile)
    # The terminals' directory and the root of /dev belong to the container.
    escaped = [what for what in outcome.escaped if not what.startswith("/dev")]
    assert not escaped, str(outcome)
    assert len(outcome.held) > 100, str(outcome)
    control = "\n".join(f"opens({path!r}, os.O_TMPFILE | os.O_WRONLY)" for path in SCRATCH)
    assert_escapes(control, profile=profile)


def test_a_change_inside_does_not_reach_the_host_through_the_scratch(profile):
    name = f"minidocker-test-{os.getpid()}"
    code = f"""
for place in {SCRATCH!r}:
    path = os.path.join(place, {name!r})
    attempt(path, lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
"""
    assert_escapes(code, profile=profile)
    assert not [place for place in SCRATCH if os.path.lexists(f"{place}/{name}")]


def test_the_scratch_is_bounded_and_one(profile):
    code = """
import errno
memory = next(int(line.split()[1]) for line in open("/proc/meminfo")) << 10
found = {}
for place in PLACES:
    status = os.statvfs(place)
    room = status.f_blocks * status.f_frsize
    with open(place + "/large", "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, room + status.f_frsize)
            error = None
        except OSError as caught:
            error = errno.errorcode[caught.errno]
        allocated = os.fstat(file.fileno()).st_blocks
    os.unlink(place + "/large")
    # An inode with a long name takes a kibibyte.
    bounded = room > 0 and status.f_files > 0 and room + (status.f_files << 10) <= memory // 4
    found[place] = [bounded, error, allocated]
devices = {os.stat(place).st_dev for place in PLACES}
print(json.dumps([found, len(devices)]))
"""
    found, devices = inside(f"PLACES = {SCRATCH!r}\n{code}", profile=profile)
    assert found == {place: [True, "ENOSPC", 0] for place in SCRATCH}
    assert devices == 1


def test_one_container_does_not_see_the_scratch_of_another(profile):
    with minidocker.Container(profile=profile) as one, minidocker.Container(profile=profile) as two:
        one.run(["sh", "-c", "echo x > /tmp/mine"], check=True)
        seen = two.run(["ls", "-A", "/tmp", "/var/tmp"], capture_output=True).stdout
        assert seen.split() == [b"/tmp:", b"/var/tmp:"]


def test_directories_for_other_programs_are_empty(profile):
    code = "print(json.dumps([os.listdir(path) for path in ('/opt', '/srv', '/mnt')]))"
    assert inside(code, profile=profile) == [[], [], []]


def test_the_kernels_command_line_is_empty(profile):
    code = "print(json.dumps(open('/proc/cmdline').read()))"
    assert inside(code, profile="namespaces") == Path("/proc/cmdline").read_text()
    assert inside(code, profile=profile) == ""


SYS = """
found = []
for top, directories, files in os.walk("/sys"):
    if top in ("/sys/devices/system", "/sys/kernel/mm/transparent_hugepage"):
        directories.clear()
        files.clear()
        found.append(top)
    found += [os.path.join(top, name) for name in files]
print(json.dumps(found))
"""


def test_only_the_listed_parts_of_sys_are_shown(profile):
    expected = [
        path
        for path in ("/sys/devices/system", "/sys/kernel/mm/transparent_hugepage")
        if os.path.isdir(path)
    ]
    assert sorted(inside(SYS, profile=profile)) == expected
    assert inside("print(json.dumps(os.cpu_count()))", profile=profile) == os.cpu_count()


def test_processes_of_the_container_do_not_lead_to_the_view_of_the_host(profile, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("outside")
    code = f"""
for pid in [name for name in os.listdir("/proc") if name.isdecimal()]:
    for way in ("root", "cwd"):
        path = f"/proc/{{pid}}/{{way}}" + {str(canary)!r}
        (escaped if os.path.lexists(path) else held)(path)
for line in open("/proc/self/mountinfo"):
    (escaped if {str(tmp_path)!r} in line else held)(line)
"""
    assert_held(code, profile=profile)
    assert_held(code, profile=profile, init=True)
    with minidocker.Container(profile=profile) as box:
        assert_held(code, start=box.run)


# --- names ---------------------------------------------------------------------------------------

ACCOUNTS = """
import getpass, grp, pwd
os.environ.clear()
rows = {kind: open(f"/etc/{kind}").read().splitlines() for kind in ("passwd", "group")}
print(json.dumps({
    "rows": rows, "user": getpass.getuser(), "uid": os.getuid(), "gid": os.getgid(),
    "name": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name,
    "home": os.path.expanduser("~"), "nobody": pwd.getpwnam("nobody").pw_uid,
}))
"""

USERS = {"root": {}}
if IS_ROOT:
    USERS["user=1000"] = {"user": 1000, "group": 1000}
    USERS["a mapped id"] = {
        "uid_map": [(4_000_123, 300_000, 1)],
        "gid_map": [(4_000_124, 300_000, 1)],
        "user": 4_000_123,
        "group": 4_000_124,
    }
else:
    USERS["a mapped id"] = {
        "uid_map": [(4_000_123, os.getuid(), 1)],
        "gid_map": [(4_000_124, os.getgid(), 1)],
        "user": 4_000_123,
        "group": 4_000_124,
    }
    if has_subordinate_ids():
        USERS["user=1000"] = {"uid_map": "auto", "gid_map": "auto", "user": 1000, "group": 1000}


@pytest.mark.parametrize("options", USERS.values(), ids=USERS)
def test_every_user_inside_has_a_name_and_no_row_has_a_secret(profile, options):
    found = inside(ACCOUNTS, profile=profile, **options)
    assert found["uid"] == options.get("user", 0)
    assert found["gid"] == options.get("group", 0)
    assert found["user"] == found["name"]
    assert found["nobody"] == 65534
    if not options:
        assert (found["name"], found["group"]) == ("root", "root")
    people = {row.pw_name for row in pwd.getpwall() if 1000 <= row.pw_uid < 60_000}
    for row in found["rows"]["passwd"]:
        name, password, uid, _, gecos, *_ = row.split(":")
        assert password in ("x", "*", "!"), row
        assert gecos == "", row
        assert name not in people or int(uid) == found["uid"], row
    for row in found["rows"]["group"]:
        _, password, _, members = row.split(":")
        assert password in ("x", "*", "!"), row
        assert not set(members.split(",")) & people, row


def test_a_user_of_a_container_has_a_name_in_its_commands(profile):
    words = [interpreter(), "-I", "-S", "-c", f"import json, os\n{ACCOUNTS}"]
    with minidocker.Container(profile=profile, user="40123:40124") as box:
        done = box.run(words, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert (found["uid"], found["gid"]) == (40_123, 40_124)
    assert found["user"] == found["name"] == "user40123"


NAMES = """
import socket
def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
def resolves(name):
    try:
        return socket.gethostbyname(name)
    except OSError:
        return None
print(json.dumps({
    **{name: read(f"/etc/{name}") for name in ("hosts", "hostname", "resolv.conf")},
    "hosts line": [line.split()[1:] for line in read("/etc/nsswitch.conf").splitlines()
                   if line.startswith("hosts:")],
    "name": socket.gethostname(),
    "localhost": resolves("localhost"),
    "own": resolves(socket.gethostname()),
}))
"""


@pytest.mark.parametrize("hostname", [None, "lab"])
def test_names_without_a_network_are_the_containers_own(profile, hostname):
    found = inside(NAMES, profile=profile, hostname=hostname)
    assert found["localhost"] == "127.0.0.1"
    assert found["hosts line"] == [["files"]]
    assert found["resolv.conf"] in (None, "")
    assert found["hostname"] == f"{found['name']}\n"
    assert found["name"] == (hostname or socket.gethostname())
    if hostname:
        assert found["own"].startswith("127.")


def test_names_with_a_network_are_resolved_by_the_hosts_servers(profile):
    found = inside(NAMES, profile=profile, network="host")
    assert found["localhost"] == "127.0.0.1"
    assert found["hosts line"] == [["files", "dns"]]
    if os.path.exists("/etc/resolv.conf"):
        assert found["resolv.conf"] == Path("/etc/resolv.conf").read_text()


# --- doors ---------------------------------------------------------------------------------------


def test_a_mount_that_the_user_asks_for_is_as_wide_as_asked(profile, tmp_path):
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for directory in (shown, hidden):
        directory.mkdir()
        directory.chmod(0o755)
        (directory / "file").write_text("outside")
        (directory / "file").chmod(0o644)
    (shown / "out").symlink_to(hidden)
    code = """
opens("/data/file", os.O_RDONLY)
"""
    mounts = [Mount("/data", shown, read_only=True)]
    assert_escapes(code, profile=profile, mounts=mounts)
    code = f"""
opens("/data/file", os.O_WRONLY)
opens("/data/out/file", os.O_RDONLY)
opens("/data/../{hidden}/file", os.O_RDONLY)
opens({str(hidden / "file")!r}, os.O_RDONLY)
"""
    assert_held(code, profile=profile, mounts=mounts)


@pytest.mark.root(reason="only root writes to these directories")
@pytest.mark.parametrize("place", ["/opt", "/var/lib", "/srv", "/etc"])
def test_sockets_and_fifos_of_services_are_out_of_reach(profile, place):
    path = f"{place}/minidocker-test-{os.getpid()}"
    code = f"""
attempt("socket", connect, socket.AF_UNIX, {path!r})
opens({path + ".fifo"!r}, os.O_RDWR | os.O_NONBLOCK)
"""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.mkfifo(path + ".fifo")
        try:
            server.listen()
            assert_escapes(code, profile="namespaces")
            assert_held(code, profile=profile)
        finally:
            os.unlink(path)
            os.unlink(path + ".fifo")
