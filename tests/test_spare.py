"""Namespaces that are made ahead: the next container uses them, and is like any other."""

import concurrent.futures
import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

import minidocker
from minidocker import NamespaceOptions, linux
from support.callers import calling, descriptors_of, is_alive, watchdogs_of
from support.child import in_child
from support.denied import deny
from support.specs import HERE

# What waits for other processes of the user is too much at some time.
pytestmark = pytest.mark.xdist_group("spare")

PR_SET_DUMPABLE = 4

# Everything about the namespaces that are made ahead that an inside can see, and who it is there.
SHOW = """
cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups
cat /proc/sys/net/ipv4/ping_group_range /proc/net/dev_snmp6/lo /proc/net/if_inet6
grep -E 'Cap|NoNewPrivs|Groups' /proc/self/status
stat -c '%u %g' /proc/1 /proc/sys/net
ls /sys/class/net
cat /sys/class/net/lo/flags
id
"""

# And about mounts of its own, whose numbers and devices differ.
SHOW_MOUNTS = """
cat /proc/sysvipc/msg /proc/sysvipc/sem /proc/sysvipc/shm /proc/sys/kernel/msgmax
stat -c '%A %u %g %n' /dev /dev/shm /mnt /sys /sys/fs/cgroup /etc/hosts
stat -f -c '%T %b %n' /dev /dev/shm /mnt
touch /dev/shm/file && ls -a /dev/shm && stat -c '%u %g' /dev/shm/file
touch /sys/file 2>&1
cat /etc/hosts
cut -d ' ' -f 4- /proc/self/mountinfo
id
"""


def spare():
    """The namespaces that wait for this process, without taking them: `{"user": "user:[…]", …}`."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                space = socket.CMSG_SPACE(4 * 16)
                flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                _, rights, *_ = one.recvmsg(1, space, flags)
        except OSError:
            continue
        for *_, data in rights:
            numbers = struct.unpack(f"{len(data) // 4}i", data)
            names = [os.readlink(f"/proc/self/fd/{each}") for each in numbers]
            for each in numbers:
                os.close(each)
            return {name.partition(":")[0]: name for name in names if name[-2].isdigit()}
    return None


def wait_for_spare(seconds=5.0):
    deadline = time.monotonic() + seconds
    while not (found := spare()):
        assert time.monotonic() < deadline, "nothing was made"
        time.sleep(0.002)
    return found


def wait_for_none(seconds):
    deadline = time.monotonic() + seconds
    while spare():
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.01)


def give_up_capabilities():
    # Version 3 of the header, and three empty sets in two words each.
    header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
    assert ctypes.CDLL(None).capset(header, ctypes.create_string_buffer(bytes(24))) == 0


def show(script=SHOW, **options):
    options = {"check": True, "capture_output": True, "text": True, **options}
    return minidocker.run(["sh", "-c", script], **options).stdout


def identities(pid):
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net", "ipc")}


def uses_spares(name):
    if HERE[name].get("network") == "host" or not HERE[name].get("die_with_parent", True):
        return False
    namespaces = HERE[name].get("namespaces", NamespaceOptions.all())
    return {"user", "net"} <= set(namespaces)


@pytest.mark.parametrize("name", HERE)
def test_a_container_in_spare_namespaces_is_like_any_other(name):
    def check():
        first = show(**HERE[name])
        waiting = wait_for_spare() if uses_spares(name) else spare()
        second = show(**HERE[name])
        if not waiting:
            return uses_spares(name), first, second
        waiting = wait_for_spare()
        with minidocker.Popen(["sleep", "100"], **HERE[name]) as process:
            used = identities(process.pid)
            process.kill()
        return used == waiting, first, second

    used, first, second = in_child(check)
    assert used == uses_spares(name)
    assert first == second


OWN_MOUNTS = {
    **{name: options for name, options in HERE.items() if uses_spares(name)},
    "mounts": {"hostname": "lab", "tmpfs": ["/mnt"]},
    "own root": {"hostname": "lab", "rootfs": "/"},
    "own root with mounts": {"hostname": "lab", "rootfs": "/", "tmpfs": ["/mnt", "/srv"]},
    "own root with others": {
        "hostname": "lab",
        "rootfs": "/",
        "tmpfs": {"/mnt": "size=64k", "/srv": "ro,exec"},
    },
    "docker": {"hostname": "lab", "profile": "docker"},
    "untrusted": {"hostname": "lab", "profile": "untrusted"},
    "untrusted root": {"hostname": "lab", "rootfs": "/", "profile": "untrusted"},
}


@pytest.mark.parametrize("name", OWN_MOUNTS)
def test_mounts_that_were_made_ahead_are_like_any_other(name):
    def check():
        first = show(SHOW_MOUNTS, **OWN_MOUNTS[name])
        wait_for_spare()
        return first, show(SHOW_MOUNTS, **OWN_MOUNTS[name])

    first, second = in_child(check)
    assert first == second
    assert " /dev/shm " in first


def test_what_containers_used_is_let_go_of(noop):
    """The watchdog has no room for what more than a few of them used."""

    def check():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        with minidocker.Popen(["sleep", "100"]) as one:
            for _ in range(60):
                wait_for_spare()
                minidocker.run([noop], check=True)
            one.kill()
        return bool(wait_for_spare())

    assert in_child(check)


@pytest.mark.root(reason="nobody else sees which descriptors a watchdog has")
def test_what_a_container_used_is_let_go_of_when_the_caller_dies(noop):
    """At once, however long a process that the caller forked goes on."""
    script = """
minidocker.run([sys.argv[1]], check=True)
time.sleep(0.1)
running = minidocker.Popen(["sleep", "100"])
libc = ctypes.CDLL(None)
# A fork that Python does not know of: the watchdog's socket stays open.
if libc.fork() == 0:
    os.closerange(0, 3)
    libc.sleep(3)
    os._exit(0)
say("ready")
sys.stdin.read()
"""

    def held(watchdog):
        return [name for name in descriptors_of(watchdog).values() if "fscontext" in name]

    with calling(script, noop) as caller:
        caller.line()
        [watchdog] = watchdogs_of(caller.pid)
        assert held(watchdog)
        caller.kill9()
        deadline = time.monotonic() + 1
        while held(watchdog):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert is_alive(watchdog)


def in_container(check, **options):
    """Call `check` where it may mount, whoever asks."""
    script = f"import sys; sys.path[:] = {sys.path!r}; import test_spare; test_spare.{check}()"
    command = [sys.executable, "-B", "-c", script]
    done = minidocker.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def kind_of_cgroups():
    show_it = ["stat", "-f", "-c", "%T", "/sys/fs/cgroup"]
    print(minidocker.run(show_it, check=True, capture_output=True, text=True).stdout, flush=True)


def mount_after_the_spare():
    kind_of_cgroups()
    wait_for_spare()
    linux.mount("none", "/sys/fs/cgroup", "ramfs")
    kind_of_cgroups()
    wait_for_spare()
    kind_of_cgroups()
    wait_for_spare()
    linux.umount2("/sys/fs/cgroup")
    kind_of_cgroups()


def test_mounts_that_have_changed_since_are_seen_as_they_are():
    first, second, third, fourth = in_container("mount_after_the_spare")
    assert first != "ramfs"
    assert (second, third, fourth) == ("ramfs", "ramfs", first)


def run_where_directories_are_links():
    for directory in ("shm", "mqueue"):
        linux.umount2(f"/dev/{directory}")
        os.rmdir(f"/dev/{directory}")
        os.mkdir(f"/run/{directory}")
        os.symlink(f"/run/{directory}", f"/dev/{directory}")
    command = ["stat", "-f", "-c", "%T", "/run/shm", "/dev/shm/", "/run/mqueue"]
    for hostname in (None, "lab", "lab"):
        done = minidocker.run(command, hostname=hostname, capture_output=True, text=True)
        print(done.stdout or done.stderr, flush=True)
        wait_for_spare()


def test_file_systems_are_mounted_where_links_lead():
    found = in_container("run_where_directories_are_links", rootfs="/", tmpfs=["/run"])
    assert found == ["tmpfs", "tmpfs", "mqueue"] * 3


def test_every_container_has_its_own():
    def check():
        found = []
        with minidocker.Container() as one:
            found.append(identities(one.pid))
            waiting = [wait_for_spare()]
            with minidocker.Container() as two:
                found.append(identities(two.pid))
                waiting.append(wait_for_spare())
                with minidocker.Container() as three:
                    found.append(identities(three.pid))
        return waiting, found

    waiting, found = in_child(check)
    assert found[1:] == waiting
    assert len({name for one in found for name in one.values()}) == 9
    assert not set(identities("self").values()) & {name for one in found for name in one.values()}


def test_each_gets_the_id_maps_that_it_asks_for(noop):
    own = (os.geteuid(), os.getegid())
    other = {"uid_map": [(5, own[0], 1)], "gid_map": [(6, own[1], 1)], "user": 5, "group": 6}

    def check():
        found = []
        for options in ({}, other, {}, other):
            done = minidocker.run(["id", "-u"], capture_output=True, text=True, **options)
            found.append(done.stdout.strip())
            wait_for_spare()
        return found

    assert in_child(check) == ["0", "5", "0", "5"]


def test_what_is_not_used_is_taken_back(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            # What does not use it does not keep it.
            minidocker.run([noop], check=True, network="host")
            time.sleep(0.2)
        wait_for_none(4)
        return minidocker.run([noop]).returncode

    assert in_child(check) == 0


def test_a_forked_child_does_not_take_its_parents(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        child = os.fork()
        if child == 0:
            inherited = spare() is not None
            done = minidocker.run([noop]).returncode
            wait_for_spare()
            os._exit(inherited * 2 + done)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    assert in_child(check) == 0


def test_a_copy_holds_no_descriptor_of_them():
    def check():
        def descriptors():
            return sorted(
                os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]
                for number in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{number}")
            )

        run = minidocker.isolated(descriptors)
        first = run()
        wait_for_spare()
        return first, run()

    first, second = in_child(check)
    assert first == second
    assert not [name for name in second if name in ("user", "net", "ipc", "/")]


def test_a_caller_that_may_not_enter_namespaces_makes_its_own(noop):
    def check():
        deny("setns", errno.EPERM)
        minidocker.run([noop], check=True)
        for _ in range(3):
            wait_for_spare()
            minidocker.run([noop], check=True)
        # It has been tried often enough.
        with minidocker.Popen([noop]) as process:
            process.wait()
        time.sleep(0.1)
        return spare(), show().split()[0]

    assert in_child(check) == (None, "0")


def test_a_lead_that_fails_leaves_nothing(noop, leaks):
    def check():
        deny("setns", errno.EPERM)
        minidocker.run([noop], check=True)
        wait_for_spare()
        for options in ({"cwd": "/nowhere"}, {}):
            try:
                minidocker.run([noop], **options)
            except minidocker.SpawnError as error:
                failed = error.step
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return failed

    assert in_child(check) == "chdir"


def test_a_failure_in_spare_namespaces_is_told_and_leaves_nothing(noop):
    def check():
        minidocker.run([noop], check=True)
        found = []
        for _ in range(3):
            wait_for_spare()
            for arguments, options in ((["nowhere"], {}), ([noop], {"cwd": "/nowhere"})):
                try:
                    minidocker.run(arguments, **options)
                except minidocker.SpawnError as error:
                    found.append(error.step)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return found

    assert in_child(check) == ["exec", "chdir"] * 3


def test_a_caller_that_closes_what_it_does_not_know_goes_on(noop):
    def check():
        found = []
        for _ in range(3):
            found.append(minidocker.run([noop]).returncode)
            wait_for_spare()
            for number in map(int, os.listdir("/proc/self/fd")):
                try:
                    if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                        os.close(number)
                except OSError:
                    continue
        return found

    assert in_child(check) == [0, 0, 0]


@pytest.mark.root(reason="only root can become somebody else")
def test_a_caller_that_becomes_somebody_else_gets_namespaces_of_that_user(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        # A change of ids takes that away.
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        found = []
        for _ in range(3):
            done = minidocker.run(
                ["cat", "/proc/self/uid_map"], capture_output=True, text=True, check=True
            )
            found.append(done.stdout.split())
            time.sleep(0.02)
        return found, ctypes.CDLL(None).prctl(PR_SET_DUMPABLE - 1, 0, 0, 0, 0)

    assert in_child(check) == ([["0", "65534", "1"]] * 3, 1)


@pytest.mark.root(reason="only root has capabilities to lose")
def test_a_caller_that_gave_up_its_capabilities_maps_nobody_elses_ids(noop):
    everybody = {"uid_map": [(0, 0, 1 << 31)], "gid_map": [(0, 0, 1 << 31)]}

    def check():
        minidocker.run([noop], check=True, **everybody)
        wait_for_spare()
        give_up_capabilities()
        for _ in range(2):
            with pytest.raises(minidocker.SpawnError) as caught:
                minidocker.run([noop], **everybody)
            assert caught.value.step == "id-maps"

    in_child(check)


@pytest.mark.root(reason="only root has capabilities to lose")
def test_a_caller_without_capabilities_is_refused_each_time(noop):
    """The watchdog, which executes a program as uid 0, gets more of them than its caller has."""
    everybody = {"uid_map": [(0, 0, 1 << 31)], "gid_map": [(0, 0, 1 << 31)]}

    def check():
        give_up_capabilities()
        refused = []
        for options in (everybody, everybody, {}, {}):
            try:
                minidocker.run([noop], **options)
            except minidocker.SpawnError as error:
                refused.append(error.step)
            wait_for_spare()
        return refused

    assert in_child(check) == ["id-maps"] * 4


def test_a_limit_that_is_raised_later_holds_inside(noop):
    """A user namespace keeps the limits of who made it."""

    def check():
        soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft // 2, hard))
        first = minidocker.run([noop]).returncode
        waiting = wait_for_spare()
        resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))
        with minidocker.Popen(["sleep", "100"]) as process:
            used = identities(process.pid)
            process.kill()
        return first, waiting == used

    assert in_child(check) == (0, False)


@pytest.mark.root(reason="only root may make a PID namespace without a user namespace")
def test_a_caller_whose_children_are_elsewhere_is_told_the_right_pid(noop):
    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        linux.unshare(linux.CloneFlags.NEWPID)
        reaper = os.fork()
        if reaper == 0:
            time.sleep(100)
        namespaces = NamespaceOptions.all().without_pid()
        with minidocker.Popen(["sleep", "100"], namespaces=namespaces) as process:
            arguments = Path(f"/proc/{process.pid}/cmdline")
            # A process that is executing something has none for a moment.
            while not (command := arguments.read_bytes()):
                time.sleep(0.001)
            process.kill()
        os.kill(reaper, signal.SIGKILL)
        os.waitpid(reaper, 0)
        return command, process.returncode

    assert in_child(check) == (b"sleep\x00100\x00", -signal.SIGKILL)


def test_containers_are_watched_while_namespaces_are_made(noop, survivors):
    """The process that makes them has copies of nothing that the watchdog watches."""
    script = """
running = []
for round in range(150):
    minidocker.run([sys.argv[1]], check=True)
    # In the middle of what follows, the watchdog is told of others.
    time.sleep(0.002 + 0.00002 * round)
    running += [minidocker.Popen(["sleep", "100"]) for _ in range(2)]
say("ready")
sys.stdin.read()
"""
    with calling(script, noop, env=survivors.env) as caller:
        caller.line()
        assert len(survivors.find()) > 300
        caller.kill9()
        survivors.wait_until_gone(timeout=3)


def test_a_watchdog_of_a_caller_that_closed_its_sockets_ends(noop):
    script = """
def children():
    return set(open(f"/proc/self/task/{os.getpid()}/children").read().split())
for round in range(20):
    minidocker.run([sys.argv[1]], check=True)
    time.sleep(0.0002 * round)
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                os.close(number)
        except OSError:
            pass
deadline = time.monotonic() + 3
def state(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
while any(state(pid) != "Z" for pid in children()) and time.monotonic() < deadline:
    time.sleep(0.01)
say(len(children()), *(pid for pid in children() if state(pid) != "Z"))
"""
    with calling(script, noop) as caller:
        # The watchdogs come to this caller, and nobody else does: not those who make namespaces.
        assert caller.line() == "20"


def test_the_watchdog_ends_with_the_caller_while_namespaces_wait(noop):
    script = """
minidocker.run([sys.argv[1]], check=True)
time.sleep(0.1)
say(open(f"/proc/self/task/{os.getpid()}/children").read())
sys.stdin.read()
"""
    with calling(script, noop) as caller:
        watchdog = int(caller.line())
        caller.kill9()
        deadline = time.monotonic() + 2
        while is_alive(watchdog):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_caller_with_a_handler_for_ended_children_sees_both(noop):
    """The one that goes ahead is a child too; who reaps all takes nothing from the launch."""

    def check():
        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        minidocker.run([noop], check=True)
        signal.signal(signal.SIGCHLD, reap)
        found = []
        for _ in range(3):
            wait_for_spare()
            found.append(minidocker.run([noop]).returncode)
        return found

    assert in_child(check) == [0, 0, 0]


def test_ignored_children_are_no_obstacle(noop):
    def check():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        found = []
        for _ in range(3):
            found.append(minidocker.run([noop], init=True).returncode)
            wait_for_spare()
        return found

    assert in_child(check) == [0, 0, 0]


def test_descriptors_that_wait_are_not_too_many_for_the_caller(noop):
    """All that a user's processes send counts against the limit of each of them."""

    def check():
        minidocker.run([noop], check=True)
        wait_for_spare()
        highest = max(map(int, os.listdir("/proc/self/fd")))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Others' may wait too, but not that many.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(highest + 20, 100), hard))
        return minidocker.run([noop]).returncode

    assert in_child(check) == 0


@pytest.mark.parametrize(
    "options", [{}, {"rootfs": "/", "tmpfs": ["/tmp"]}], ids=["the host's root", "its own root"]
)
def test_few_descriptors_are_enough_whatever_was_made_ahead(noop, options):
    def outcome():
        try:
            return minidocker.run([noop], **options).returncode
        except minidocker.SpawnError as error:
            return error.step, error.errno

    def check():
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # What waits may be sent, however much other processes have on the way.
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        differing = {}
        for free in range(8, 56):
            minidocker.run([noop], check=True)
            wait_for_spare()
            occupied = []
            with contextlib.suppress(OSError):
                while True:
                    occupied.append(os.dup(0))
            for _ in range(free):
                os.close(occupied.pop())
            # The second one comes too soon for anything to be made.
            ahead, itself = outcome(), outcome()
            if ahead != itself:
                differing[free] = (ahead, itself)
            for number in occupied:
                os.close(number)
        return differing

    assert in_child(check) == {}


def test_not_every_process_of_a_user_has_descriptors_waiting(noop):
    """However many processes there are: the others make their own namespaces."""
    count = 30
    ready, told_ready = os.pipe()
    go, told_go = os.pipe()

    def check():
        os.close(told_go)
        minidocker.run([noop], check=True)
        time.sleep(0.5)
        found = spare() is not None
        os.write(told_ready, b"x")
        os.read(go, 1)
        return found, minidocker.run([noop]).returncode

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        done = [pool.submit(in_child, check) for _ in range(count)]
        for _ in range(count):
            assert os.read(ready, 1) == b"x"
        os.close(told_go)
        results = [one.result() for one in done]
    for descriptor in (ready, told_ready, go):
        os.close(descriptor)
    assert {status for _, status in results} == {0}
    # Six descriptors for each, up to the forty-eight that others may be waiting already.
    assert 1 <= sum(found for found, _ in results) <= 9
