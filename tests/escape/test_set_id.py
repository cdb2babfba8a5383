"""Attempts to make set-user-ID and set-group-ID files, and files with capabilities."""

import os
import stat
from pathlib import Path

import pytest

import minidocker
from minidocker import Mount, Seccomp
from support.attack import assert_held, attack

MAKE = """
import itertools
NUMBERS.update(
    chmod=(90, None), fchmod=(91, 52), fchmodat=(268, 53), fchmodat2=(452, 452), creat=(85, None),
    mkdir=(83, None), mkdirat=(258, 34), mknod=(133, None), mknodat=(259, 33), open=(2, None),
    openat=(257, 56), openat2=(437, 437), linkat=(265, 37), setxattrat=(463, 463),
)
AT_FDCWD, AT_SYMLINK_FOLLOW, JUNK = -100, 0x400, 0xabc << 32
os.umask(0)
names = map("{:03}".format, itertools.count())

def existing():
    name = next(names)
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o755))
    return name

def make(name, *args):
    if NUMBERS[name][COLUMN] is None:
        return
    def act():
        descriptor = call(name, *args)
        if "open" in name or name == "creat":
            os.close(descriptor)
    attempt(name, act)

def unnamed(mode):
    # An O_TMPFILE gets its name at the end.
    descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, mode)
    source = text(f"/proc/self/fd/{descriptor}")
    call("linkat", AT_FDCWD, source, AT_FDCWD, text(next(names)), AT_SYMLINK_FOLLOW)
    os.close(descriptor)

for mode in (0o4755, 0o2755):
    make("chmod", text(existing()), mode)
    make("chmod", text(existing()), mode | JUNK)
    with open(existing()) as file:
        make("fchmod", file.fileno(), mode)
    make("fchmodat", AT_FDCWD, text(existing()), mode)
    make("fchmodat2", AT_FDCWD, text(existing()), mode, 0)
    make("creat", text(next(names)), mode)
    make("mkdir", text(next(names)), mode)
    make("mkdirat", AT_FDCWD, text(next(names)), mode)
    make("mknod", text(next(names)), stat.S_IFREG | mode, 0)
    make("mknodat", AT_FDCWD, text(next(names)), mode, 0)
    make("open", text(next(names)), os.O_CREAT | os.O_WRONLY, mode)
    make("openat", AT_FDCWD, text(next(names)), os.O_CREAT | os.O_WRONLY | JUNK, mode)
    how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, mode, 0)
    make("openat2", AT_FDCWD, text(next(names)), how, 24)
    attempt("O_TMPFILE", unnamed, mode)
"""

# The effective and permitted CAP_SETUID, as `setcap cap_setuid+ep` writes them.
CAPABILITY = """
value = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
KEY = "security.capability"
attempt("setxattr", lambda: os.setxattr(existing(), KEY, value))
attempt("lsetxattr", lambda: os.setxattr(existing(), KEY, value, follow_symlinks=False))
with open(existing()) as file:
    attempt("fsetxattr", lambda: os.setxattr(file.fileno(), KEY, value))
content = ctypes.create_string_buffer(value, len(value))
args = struct.pack("QII", ctypes.addressof(content), len(value), 0)
args = ctypes.create_string_buffer(args, len(args))
make("setxattrat", AT_FDCWD, text(existing()), 0, text(KEY), args, 16)
"""


def making(directory: str) -> str:
    """Return an attempt to make such files in a directory of the container."""
    return f"os.chdir({directory!r})" + MAKE + CAPABILITY


def privileged(directory: Path) -> list[str]:
    """Return the entries of a directory that give a program another user, group or capability."""
    return [
        entry.name
        for entry in directory.iterdir()
        if entry.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
        or "security.capability" in os.listxattr(entry)
    ]


def test_untrusted_code_leaves_no_file_in_a_mount_that_lends_its_owners_rights(tmp_path):
    control, held = (tmp_path / name for name in ("control", "held"))
    for directory in (control, held):
        directory.mkdir()
    outcome = attack(making("/out"), profile="namespaces", mounts=[Mount("/out", control)])
    # Kernels and file systems may lack the newer calls.
    assert {line.split()[1] for line in outcome.held} <= {"ENOSYS", "EOPNOTSUPP"}, str(outcome)
    attempts = len(outcome.escaped) + len(outcome.held)
    assert len(privileged(control)) > attempts / 2
    outcome = attack(making("/out"), profile="untrusted", mounts=[Mount("/out", held)])
    assert not outcome.escaped, str(outcome)
    assert len(outcome.held) == attempts, str(outcome)
    assert any(held.iterdir())
    assert privileged(held) == []


@pytest.mark.root(reason="a plain user needs the user namespace")
def test_without_a_user_namespace_untrusted_code_leaves_no_such_file_either(tmp_path):
    namespaces = minidocker.NamespaceOptions.all().without_user()
    mounts = [Mount("/out", tmp_path)]
    assert_held(making("/out"), profile="untrusted", namespaces=namespaces, mounts=mounts)
    assert any(tmp_path.iterdir())
    assert privileged(tmp_path) == []


def test_untrusted_code_makes_no_such_file_in_memory():
    assert_held(making("/tmp"), profile="untrusted")


INHERIT = """
mkdir /out/below
echo x > /out/below/file
chmod 750 /out/below/file
cp -a /out/below/file /out/copy
"""


def test_a_directory_below_a_set_group_id_one_still_inherits_the_group(tmp_path):
    """The kernel sets the bit of the new directory, where it gives no program a group."""
    tmp_path.chmod(0o2775)
    mounts = [Mount("/out", tmp_path)]
    minidocker.run(["sh", "-ec", INHERIT], profile="untrusted", mounts=mounts, check=True)
    assert (tmp_path / "below").stat().st_mode & stat.S_ISGID
    for name in ("below/file", "copy"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o750


PROGRAMS = """
cd /tmp && umask 022
mkdir source && echo x > source/file && chmod 1777 source && chmod 750 source/file
tar -cf archive.tar source && mkdir extracted && tar -xf archive.tar -C extracted
cp -a source copied && install -m 755 source/file installed && mkdir -p -m 700 a/b
python3 -c 'import os, tempfile; os.makedirs("c/d"); tempfile.mkstemp()'
stat -c %a extracted/source/file copied copied/file installed a/b
for refused in 'chmod u+s source/file' 'chmod g+s source' 'install -m 4755 installed x' \\
    'mkdir -m 2775 y'
do
    $refused 2>> errors && exit 1
done
grep -c 'Operation not permitted' errors
"""


def test_programs_get_an_error_for_these_bits_and_no_others():
    done = minidocker.run(
        ["sh", "-ec", PROGRAMS], profile="untrusted", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["750", "1777", "750", "755", "700", "4"]


def test_a_filter_that_allows_these_calls_allows_the_bits(tmp_path):
    """Another filter replaces the profile's; docs/profiles.md says so."""
    mounts = [Mount("/out", tmp_path)]
    script = "umask 022 && echo x > /out/$0 && chmod 4755 /out/$0"
    calls = Seccomp(allow=["chmod", "fchmod", "fchmodat", "fchmodat2"])
    for name, seccomp in (("calls", calls), ("none", "unconfined")):
        command = ["sh", "-c", script, name]
        minidocker.run(command, profile="untrusted", mounts=mounts, seccomp=seccomp, check=True)
    assert set(privileged(tmp_path)) == {"calls", "none"}
