#!/usr/bin/env python3
"""A container built by hand, one system call of minidocker.linux after the other.

A forked child makes the calls, because unshare(2) changes the calling process. The child does what
`minidocker.run` does by itself.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from both_sides import BothSides

import minidocker
from minidocker import linux
from minidocker.linux import CloneFlags, MountFlags, UmountFlags

HOSTNAME = "byhand"
NEW = (
    CloneFlags.NEWUSER
    | CloneFlags.NEWPID
    | CloneFlags.NEWNS
    | CloneFlags.NEWUTS
    | CloneFlags.NEWNET
    | CloneFlags.NEWIPC
)
# The host's directories that the new root needs for a shell.
BORROWED = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")

# Print what the shell sees in the finished container, one value a line.
LOOK = "echo $$; uname -n; id -u; echo /*; set -- /proc/[0-9]*; echo $#"


def step(call: str, why: str) -> None:
    print(f"  {call:<46}{why}".rstrip(), flush=True)


def become_root_inside(uid: int, gid: int) -> None:
    """Map root inside to the caller outside, as a process may for itself."""
    step('write "deny" to /proc/self/setgroups', "an unprivileged map of groups requires this")
    Path("/proc/self/setgroups").write_text("deny")
    step(f'write "0 {uid} 1" to /proc/self/uid_map', "root inside is the caller outside")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    step(f'write "0 {gid} 1" to /proc/self/gid_map', "and its group likewise")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def assemble_root(root: Path) -> None:
    """Mount a root of its own at `root`: an empty file system with the host's programs in it."""
    step('mount(None, "/", None, REC | PRIVATE)', "mounts from here on are invisible to the host")
    linux.mount(None, "/", None, MountFlags.REC | MountFlags.PRIVATE)
    step('mount("tmpfs", root, "tmpfs")', "the new root: empty, in memory")
    linux.mount("tmpfs", root, "tmpfs", data="mode=755")
    for name in BORROWED:
        source = Path("/") / name
        if source.is_symlink():
            (root / name).symlink_to(source.readlink())
        elif source.is_dir():
            (root / name).mkdir()
            step(f'mount("/{name}", root / "{name}", None, REC | BIND)', "the host's programs")
            linux.mount(source, root / name, None, MountFlags.REC | MountFlags.BIND)
    (root / "proc").mkdir()
    step('mount("proc", root / "proc", "proc")', "the processes of the new PID namespace")
    linux.mount("proc", root / "proc", "proc")


def enter_root(root: Path) -> None:
    """Make `root` the root, and detach the old one."""
    step("chdir(root)", "")
    linux.chdir(root)
    step('pivot_root(".", ".")', "swap the roots; the old one lies on top")
    linux.pivot_root(".", ".")
    step('umount2(".", DETACH)', "detach the old root")
    linux.umount2(".", UmountFlags.DETACH)
    step('chdir("/")', "")
    linux.chdir("/")


def first_process(root: Path, output: int) -> None:
    """Build the root and execute the command, as PID 1. Never returns."""
    step("getpid() = " + str(linux.getpid()), "the first process of the new PID namespace")
    assemble_root(root)
    enter_root(root)
    step('execv("/bin/sh", ["sh", "-c", ...])', "the command takes over")
    os.dup2(output, 1)
    linux.execv("/bin/sh", ["sh", "-c", LOOK])


def build(root: Path, uid: int, gid: int, output: int) -> int:
    """Make the namespaces, start PID 1, wait for it, and return the exit status."""
    step("unshare(NEWUSER | NEWPID | NEWNS | ...)", "new namespaces for this process")
    linux.unshare(NEW)
    become_root_inside(uid, gid)
    step(f'sethostname("{HOSTNAME}")', "in the new UTS namespace")
    linux.sethostname(HOSTNAME)
    # A new PID namespace is for the children; the calling process stays in the old one.
    step("fork()", "")
    pid = linux.fork()
    if pid == 0:
        in_child(first_process, root, output)
    returncode = linux.waitpid(pid).returncode
    step(f"waitpid({pid}) → {returncode}", "not 1: the pid out here")
    return 1 if returncode else 0


def in_child(function, *arguments) -> None:
    """Call a function in a forked child, and exit with its result."""
    status = 1
    try:
        status = function(*arguments) or 0
    except OSError as error:
        print(f"step_by_step.py: {error} {' '.join(error.__notes__)}", file=sys.stderr)
    finally:
        # The parent's own code must not continue in the child.
        sys.stdout.flush()
        os._exit(status)


def main() -> int:
    sides = BothSides("\nThe result:")
    before, name = minidocker.namespaces(), os.uname().nodename
    root = Path(tempfile.mkdtemp(prefix="root-"))
    reader, writer = os.pipe()

    print(f"{__doc__.splitlines()[0]}\n")
    sys.stdout.flush()
    child = linux.fork()
    if child == 0:
        in_child(build, root, os.geteuid(), os.getegid(), writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        answers = pipe.read().splitlines()
    status = linux.waitpid(child).returncode
    seen = str(root) in Path("/proc/self/mountinfo").read_text() or any(root.iterdir())
    shutil.rmtree(root)
    if status != 0:
        return 1

    pid, hostname, uid, files, processes = answers
    sides.row("own pid", os.getpid(), pid)
    sides.row("hostname", os.uname().nodename, hostname)
    sides.row("user", os.geteuid(), uid)
    sides.row("files of the root", f"{len(os.listdir('/'))} entries", files)
    sides.row("processes", sum(entry.isdigit() for entry in os.listdir("/proc")), processes)

    sides.shows("the command was PID 1, and alone", pid == "1" == processes)
    sides.shows("with a hostname of its own", hostname == HOSTNAME != os.uname().nodename)
    sides.shows("as root inside", uid == "0")
    sides.shows("in a root of its own", "/proc" in files.split() and "/home" not in files.split())
    sides.shows("the host's name is unchanged", os.uname().nodename == name)
    sides.shows("the host sees none of the mounts", not seen)
    sides.shows(
        "this process is in the same namespaces as before", minidocker.namespaces() == before
    )
    return sides.print()


if __name__ == "__main__":
    sys.exit(main())
