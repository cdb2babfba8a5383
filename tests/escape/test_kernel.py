"""Attempts to reach parts of the kernel through which containers have been escaped."""

import json
import subprocess
import sys

import pytest

import minidocker
from support.attack import (
    PRELUDE,
    PROFILES,
    assert_escapes,
    assert_held,
    attack,
    interpreter,
)

pytestmark = pytest.mark.parametrize("profile", PROFILES)

WITHOUT_USER = minidocker.NamespaceOptions.all().without_user()

NEW_MOUNT_CALLS = """
reaches("fsopen", text("tmpfs"), 1)
reaches("open_tree", -100, text("/"), 1)
reaches("mount_setattr", -100, text("/"), 0x8000, (ctypes.c_uint64 * 4)(), 32)
reaches("move_mount", -1, text(""), -1, text(""), 0)
reaches("fsconfig", -1, 0, 0, 0, 0)
reaches("fsmount", -1, 0, 0)
"""


def test_cve_2021_41133_new_mount_calls_do_not_go_past_the_filter(profile):
    assert_escapes(NEW_MOUNT_CALLS, profile="namespaces")
    assert_held(NEW_MOUNT_CALLS, profile=profile)


NESTED = """
NEW_USER = 0x10000000
def child():
    pid = call("clone", NEW_USER | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
attempt("clone", child)
# struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, ...
arguments = (ctypes.c_uint64 * 8)(NEW_USER, 0, 0, 0, 17)
def child3():
    pid = call("clone3", arguments, 64)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
attempt("clone3", child3)
reaches("unshare", NEW_USER)
"""


def test_cve_2021_41133_nested_user_namespaces_cannot_be_made_by_any_call(profile):
    assert_escapes(NESTED, profile="namespaces")
    assert_held(NESTED, profile=profile)


JUNK = """
# The kernel reads the lower 32 bits of these; a filter that compares 64 bits could be bypassed.
NEW_USER = 0x10000000
reaches("unshare", NEW_USER | 1 << 63)
reaches("setns", (1 << 40) | 0xffffffff, NEW_USER)
"""


def test_junk_above_32_bits_does_not_go_past_the_filter(profile):
    assert attack(JUNK, profile="namespaces").escaped
    assert_held(JUNK, profile=profile)


SURFACE = """
reaches("userfaultfd", 1)
reaches("io_uring_setup", 1, 0)
reaches("perf_event_open", 0, 0, -1, -1, 0)
reaches("add_key", 0, 0, 0, 0, 0)
reaches("request_key", 0, 0, 0, 0)
reaches("open_by_handle_at", -1, 0, 0)
reaches("mount", 0, 0, 0, 0, 0)
reaches("umount2", 0, 0)
reaches("pivot_root", 0, 0)
"""


def test_system_calls_used_in_past_escapes_are_refused(profile):
    assert_escapes(SURFACE, profile="namespaces")
    assert_held(SURFACE, profile=profile)


BPF = "reaches('bpf', 9999, 0, 0)"


@pytest.mark.root(reason="without privileges the kernel refuses bpf(2) itself")
def test_cve_2020_8835_bpf_is_refused(profile):
    assert_escapes(BPF, profile="namespaces", namespaces=WITHOUT_USER)
    assert_held(BPF, profile=profile, namespaces=WITHOUT_USER)
    assert_held(BPF, profile=profile)


SHOCKER = """
# open_by_handle_at(2) names a file by its inode, which mounts cannot cover.
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
mount_id = ctypes.c_int()
def reopen():
    call("name_to_handle_at", -100, text("/etc/passwd"), handle, ctypes.byref(mount_id), 0)
    root = os.open("/", os.O_RDONLY)
    os.close(call("open_by_handle_at", root, handle, os.O_RDONLY))
"""
SHOCKER = SHOCKER.replace("ctypes.byref(mount_id)", "ctypes.c_void_p(ctypes.addressof(mount_id))")
SHOCKER += "attempt('open_by_handle_at', reopen)"


@pytest.mark.root(reason="takes CAP_DAC_READ_SEARCH outside")
def test_shocker_files_are_not_opened_by_handle(profile):
    assert_escapes(SHOCKER, profile="namespaces", namespaces=WITHOUT_USER)
    assert_held(SHOCKER, profile=profile, namespaces=WITHOUT_USER)
    assert_held(SHOCKER, profile=profile)


CAPABILITIES = """
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
full = (ctypes.c_uint32 * 6)(*[0xffffffff, 0xffffffff, 0, 0x1ff, 0x1ff, 0])
attempt("capset", call, "capset", header, full)
PR_CAPBSET_READ, PR_CAP_AMBIENT, PR_SET_SECUREBITS, SYS_ADMIN = 23, 47, 28, 21
(escaped if call("prctl", PR_CAPBSET_READ, SYS_ADMIN, 0, 0, 0) else held)("the bounding set")
attempt("ambient", call, "prctl", PR_CAP_AMBIENT, 2, SYS_ADMIN, 0, 0)
"""
RAISE = CAPABILITIES.replace('attempt("ambient"', 'False and attempt("ambient"')


def test_capabilities_do_not_come_back(profile):
    assert_escapes(RAISE, profile="namespaces")
    assert_held(CAPABILITIES, profile=profile)


KEYS = """
KEYCTL_SEARCH, KEYCTL_READ, SESSION = 10, 11, -3
content = ctypes.create_string_buffer(64)
def read():
    key = call("keyctl", KEYCTL_SEARCH, SESSION, text("user"), text("minidocker-test"), 0)
    length = call("keyctl", KEYCTL_READ, key, content, 64)
    assert content.value[:length] == b"secret"
attempt("the key", read)
"""
# Join a new session keyring and add a key; then make the attempt in a container.
HOLDER = (
    PRELUDE
    + """
import json, subprocess
KEYCTL_JOIN_SESSION_KEYRING = 1
call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0)
call("add_key", text("user"), text("minidocker-test"), text("secret"), 6, -3)
import minidocker
done = minidocker.run(json.loads(sys.argv[1]), profile=sys.argv[2])
"""
)


def test_the_callers_keyrings_cannot_be_read(profile):
    words = json.dumps([interpreter(), "-I", "-S", "-c", PRELUDE + KEYS])

    def outcome(profile):
        holder = [sys.executable, "-c", HOLDER, words, profile]
        return subprocess.check_output(holder, text=True).split()[0]

    assert outcome("namespaces") == "escaped:"
    assert outcome(profile) == "held:"


NETLINK = """
AF_NETLINK, NETLINK_NETFILTER, AF_PACKET, AF_ALG, AF_VSOCK = 16, 12, 17, 38, 40
def make(*args):
    socket.socket(*args).close()
attempt("AF_ALG", make, AF_ALG, socket.SOCK_SEQPACKET, 0)
attempt("AF_VSOCK", make, AF_VSOCK, socket.SOCK_STREAM, 0)
if sys.argv[1:] == ["untrusted"]:
    attempt("NETLINK_NETFILTER", make, AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    attempt("AF_PACKET", make, AF_PACKET, socket.SOCK_RAW, 0)
"""


def test_cve_2021_22555_2023_32233_sockets_of_rare_families_are_refused(profile):
    control = attack(NETLINK, profile="namespaces")
    # The kernel may have been built without these families.
    unknown = {"AF_ALG EAFNOSUPPORT", "AF_VSOCK EAFNOSUPPORT"}
    assert set(control.held) <= unknown, str(control)
    code = NETLINK.replace("sys.argv[1:]", f"[{profile!r}]")
    if profile == "untrusted":
        assert "AF_PACKET" in attack(code, profile="namespaces").escaped
    assert_held(code, profile=profile)
