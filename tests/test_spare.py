"""Namespaces that are made ahead: the next container uses them, and is like any other."""

import os
import sys

import pytest

import minidocker
from minidocker import NamespaceOptions, linux
from support.child import in_child
from support.spares import identities, spare, wait_for_spare
from support.specs import HERE

# What waits for other processes of the user is too much at some time.
pytestmark = pytest.mark.xdist_group("spare")

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


def show(script=SHOW, **options):
    options = {"check": True, "capture_output": True, "text": True, **options}
    return minidocker.run(["sh", "-c", script], **options).stdout


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
