"""Facts from /proc: read from made-up trees, and from the real one."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minidocker import run
from minidocker._inspect import proc
from support.command_line import start
from support.waiting import wait_for_descendant

STATUS = """\
Name:\t{name}
State:\t{state}
Pid:\t{pid}
PPid:\t{parent}
Uid:\t{uid}\t{uid}\t{uid}\t{uid}
NSpid:\t{chain}
CapEff:\t{caps:016x}
"""


class Tree:
    """A proc file system made up for a test."""

    def __init__(self, root) -> None:
        self.root = root
        (root / "uptime").write_text("1000.50 1900.00\n")
        self.add(1, chain=(1,), pid_namespace=100, command="init\0")
        (root / "self").symlink_to("1")

    def add(
        self,
        pid: int,
        *,
        chain,
        pid_namespace=None,
        command="",
        name="prog",
        parent=0,
        state="S (sleeping)",
        uid=0,
        start_ticks=0,
    ) -> None:
        directory = self.root / str(pid)
        (directory / "ns").mkdir(parents=True)
        chain = "\t".join(map(str, chain))
        fields = {"name": name, "state": state, "pid": pid, "parent": parent, "uid": uid}
        (directory / "status").write_text(STATUS.format(chain=chain, caps=0, **fields))
        (directory / "cmdline").write_text(command)
        (directory / "comm").write_text(f"{name}\n")
        before = " ".join(["0"] * 18)
        (directory / "stat").write_text(f"{pid} ({name}) S {before} {start_ticks} 0 0\n")
        if pid_namespace is not None:
            for link in proc.KINDS.values():
                inode = pid_namespace if link == "pid" else 7
                (directory / "ns" / link).symlink_to(f"{link}:[{inode}]")


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def test_a_command_is_its_arguments_or_its_name(tree):
    tree.add(5, chain=(5,), command="sh\0-c\0echo hi\0")
    tree.add(6, chain=(6,), command="", name="kworker/0:1")
    assert proc.command(5, str(tree.root)) == "sh -c echo hi"
    assert proc.command(6, str(tree.root)) == "[kworker/0:1]"


def test_undecodable_bytes_survive(tree):
    tree.add(5, chain=(5,))
    (tree.root / "5" / "cmdline").write_bytes(b"caf\xe9\0")
    assert os.fsencode(proc.command(5, str(tree.root))) == b"caf\xe9"


def test_an_age_is_read_correctly_with_any_name(tree):
    ticks = os.sysconf("SC_CLK_TCK")
    tree.add(5, chain=(5,), name="evil) R 1 2 (", start_ticks=400 * ticks)
    assert proc.age(5, str(tree.root)) == pytest.approx(600.5)
    tree.add(6, chain=(6,), start_ticks=2000 * ticks)
    assert proc.age(6, str(tree.root)) == 0.0


def test_containers_are_nested_pid_namespaces_by_their_first_process(tree):
    tree.add(20, chain=(20, 1), pid_namespace=200, command="box\0", uid=1000)
    tree.add(21, chain=(21, 2), pid_namespace=200, command="in box\0")
    tree.add(30, chain=(30, 9, 1), pid_namespace=300, command="box in box\0")
    tree.add(40, chain=(40,), pid_namespace=100, command="not in a box\0")
    tree.add(50, chain=(50, 1), pid_namespace=500, state="Z (zombie)")
    found = proc.containers(str(tree.root))
    assert [(row.pid, row.owner, row.command) for row in found] == [
        (20, 1000, "box"),
        (30, 0, "box in box"),
    ]
    assert found[0].differs == ("pid",)


def test_processes_in_a_namespace_have_their_ids_of_that_namespace(tree):
    tree.add(20, chain=(20, 1), pid_namespace=200, command="first\0", parent=1)
    tree.add(25, chain=(25, 7), pid_namespace=200, command="entered\0", parent=1)
    tree.add(30, chain=(30, 9, 1), pid_namespace=300, command="nested\0", parent=20)
    tree.add(31, chain=(31, 10, 2), pid_namespace=300, command="below\0", parent=30)
    tree.add(40, chain=(40, 1), pid_namespace=400, command="other\0", parent=1)
    assert proc.processes_in(200, str(tree.root)) == [
        (20, 1, "first"),
        (25, 7, "entered"),
        (30, 9, "nested"),
        (31, 10, "below"),
    ]
    assert proc.processes_in(300, str(tree.root)) == [(30, 1, "nested"), (31, 2, "below")]
    assert proc.processes_in(999, str(tree.root)) == []


def test_a_process_that_may_not_be_inspected_is_found_by_its_parent(tree):
    tree.add(20, chain=(20, 1), pid_namespace=200, command="first\0", parent=1)
    tree.add(21, chain=(21, 2), pid_namespace=None, command="closed\0", parent=20)
    tree.add(22, chain=(22, 2), pid_namespace=None, command="closed elsewhere\0", parent=1)
    assert [row.pid for row in proc.processes_in(200, str(tree.root))] == [20, 21]


def test_a_circle_of_parents_ends(tree):
    tree.add(20, chain=(20, 1), pid_namespace=200, command="first\0", parent=1)
    tree.add(31, chain=(31, 5), command="a\0", parent=32)
    tree.add(32, chain=(32, 6), command="b\0", parent=31)
    assert [row.pid for row in proc.processes_in(200, str(tree.root))] == [20]


def test_a_missing_process_is_a_process_lookup_error(tree):
    for ask in (proc.namespace_inodes, proc.status, proc.command, proc.age, proc.mounts):
        with pytest.raises(ProcessLookupError):
            ask(4711, str(tree.root))


def test_a_kind_of_namespace_that_the_kernel_lacks_is_left_out(tree):
    tree.add(20, chain=(20,), pid_namespace=200)
    for pid in (1, 20):
        (tree.root / str(pid) / "ns" / "time").unlink()
    assert "time" not in proc.namespace_inodes(20, str(tree.root))


def test_mounts_are_read_with_their_escapes(tree):
    (tree.root / "1" / "mountinfo").write_text(
        "22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "30 22 8:1 /a\\040b /mnt/x\\040\\134y ro,nosuid master:2 propagate_from:3 - tmpfs none rw\n"
        "31 22 0:5 / /p rw - proc  rw\n"
    )
    first, second, third = proc.mounts("self", str(tree.root))
    assert first == ("/", "/dev/vda", "ext4", "/", ("rw", "relatime"), ("shared:1",), "0:21")
    assert (second.target, second.root) == ("/mnt/x \\y", "/a b")
    assert second.propagation == ("master:2", "propagate_from:3")
    assert (third.source, third.propagation) == ("", ())


def test_only_a_newline_ends_a_line_of_the_kernels(tree):
    odd = b"a\r\x0b\x1c\xc2\x85\xe2\x80\xa8\xff"
    process = tree.root / "1"
    (process / "mountinfo").write_bytes(
        b"22 1 0:21 / /" + odd + b" rw shared:1 - ext4 " + odd + b" rw\n"
        b"23 1 0:21 / /\\012\\134040 rw - ext4 /dev/vda rw\n"
    )
    (process / "cgroup").write_bytes(b"1:memory:/" + odd + b"\n0::/" + odd + b":x\n")
    (process / "status").write_bytes(b"Name:\t" + odd + b"Uid:\t7\nUid:\t1\t1\t1\t1\n")
    (process / "comm").write_bytes(odd + b"\n")
    (process / "cmdline").write_bytes(b"")
    name, root = os.fsdecode(odd), str(tree.root)
    first, second = proc.mounts("self", root)
    assert (first.target, first.source, second.target) == (f"/{name}", name, "/\n\\040")
    assert proc.cgroups("self", root) == {"memory": f"/{name}", "": f"/{name}:x"}
    assert proc.status("self", root) == {"Name": f"{name}Uid:\t7", "Uid": "1\t1\t1\t1"}
    assert proc.command("self", root) == f"[{name}]"


def test_capabilities_newer_than_the_table_have_names():
    fields = dict.fromkeys(("CapPrm", "CapInh", "CapBnd", "CapAmb"), "0")
    sets = proc.capabilities({**fields, "CapEff": f"{1 | 1 << 21 | 1 << 63:x}"})
    assert sets["effective"] == ("CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_63")
    assert sets["ambient"] == ()


def test_the_names_of_capabilities_are_the_kernels():
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert len(proc.CAPABILITIES) >= last + 1
    header = "/usr/include/linux/capability.h"
    if not os.path.exists(header):
        pytest.skip(f"{header} (package linux-libc-dev) is not installed")
    with open(header, encoding="ascii") as file:
        defined = dict(
            line.split()[1:3]
            for line in file
            if line.startswith("#define CAP_") and "_CAP" not in line
        )
    numbers = {name: int(number) for name, number in defined.items() if number.isdigit()}
    assert {
        name: number for number, name in enumerate(proc.CAPABILITIES)
    }.items() >= numbers.items()


def test_interfaces_have_the_addresses_of_their_networks(tree):
    net = tree.root / "1" / "net"
    net.mkdir()
    (net / "dev").write_text(
        "Inter-|   Receive  |  Transmit\n face |bytes ...\n"
        "    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n"
        "  eth0:3000 2 0 0 0 0 0 0 4000 2 0 0 0 0 0 0\n"
    )
    (net / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    )
    (net / "fib_trie").write_text(
        "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n"
        "     |-- 127.0.0.0\n        /8 host LOCAL\n"
        "     |-- 192.0.2.7\n        /32 host LOCAL\n"
        "     |-- 192.0.2.255\n        /32 link BROADCAST\n"
    )
    (net / "if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
    )
    assert proc.interfaces("self", str(tree.root)) == [
        ("lo", ("127.0.0.1/8", "::1/128"), 100, 200),
        ("eth0", ("192.0.2.7/24", "fe80::fc:ff:fe00:1/64"), 3000, 4000),
    ]
    for file in ("dev", "route", "if_inet6"):
        text = (net / file).read_bytes()
        (net / file).write_bytes(text.replace(b"eth0", "e\x85\u2028".encode()))
    assert proc.interfaces("self", str(tree.root))[1] == (
        ("e\x85\u2028", ("192.0.2.7/24", "fe80::fc:ff:fe00:1/64"), 3000, 4000)
    )
    (net / "if_inet6").unlink()
    assert proc.interfaces("self", str(tree.root))[0].addresses == ("127.0.0.1/8",)


# --- the real one --------------------------------------------------------------------------------


def test_the_facts_about_this_process_agree_with_the_system_calls():
    pid = os.getpid()
    assert pid in proc.pids()
    assert int(proc.status()["PPid"]) == os.getppid()
    assert proc.nested_pids(proc.status(pid))[0] == pid
    assert proc.namespace_inodes()["uts"] == os.stat("/proc/self/ns/uts").st_ino
    assert 0 < proc.age(pid) < time.clock_gettime(time.CLOCK_BOOTTIME)
    assert {name for _, name in socket.if_nameindex()} == {
        interface.name for interface in proc.interfaces()
    }
    assert "/proc" in {mount.target for mount in proc.mounts()}


def test_a_container_is_found_with_its_processes_until_its_end(survivors):
    script = "echo ready; sleep 100 & read line"
    command = ("sh", "-c", script, survivors.mark)
    with start("run", "-i", *command, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "ready\n"
        (found,) = (row for row in proc.containers() if survivors.mark in row.command)
        assert found.owner == os.geteuid()
        assert found.age < 60
        assert set(found.differs) == {"pid", "net", "mount", "uts", "ipc", "user", "cgroup"}
        inode = proc.namespace_inodes(found.pid)["pid"]
        # The shell's child is another shell until it has executed its command.
        wait_for_descendant(process.pid, "sleep", "100")
        inside = proc.processes_in(inode)
        assert sorted(row.container_pid for row in inside) == [1, 2]
        assert inside[0].pid == found.pid
        assert "sleep 100" in {row.command for row in inside}
        process.stdin.close()
        process.wait(10)
    # The kernel may have given the number of the namespace to another one.
    assert not {row.pid for row in proc.processes_in(inode)} & {row.pid for row in inside}


def test_inside_a_container_only_its_own_processes_are_visible():
    code = "from minidocker._inspect import proc; print(proc.pids(), proc.containers())"
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1] []\n"
