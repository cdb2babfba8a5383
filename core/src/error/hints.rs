//! Remedies for steps that the kernel refuses.

use super::remedy::{Remedy, Setting};
use crate::step::Step;

/// Returns the remedy for an error of a step; for an uncommon error, a command that shows more.
pub(super) fn hint(step: Step, errno: i32) -> Remedy {
    // Remedies with a setting, which each binding spells in its own language.
    match (step, errno) {
        (Step::MountProc, libc::EPERM) => Remedy::with(
            "Something hides parts of the caller's /proc (docker does): start that container with \
             `--security-opt systempaths=unconfined`, or {}",
            Setting::SharedNamespace("pid"),
        ),
        (Step::MountSys, libc::EPERM) => Remedy::with(
            "Something hides parts of the caller's /sys (docker does): start that container with \
             `--security-opt systempaths=unconfined`, or {}",
            Setting::HostNetwork,
        ),
        (Step::Groups, libc::EPERM) => Remedy::with(
            "A user namespace made without privileges forbids setgroups: {}",
            Setting::SubordinateIds,
        ),
        (Step::WorkingDirectory, libc::ENOENT | libc::ENOTDIR) => Remedy::with(
            "The directory does not exist inside: pass another {}",
            Setting::Option("working_directory"),
        ),
        (Step::WorkingDirectory, libc::EACCES) => Remedy::with(
            "The directory is not accessible inside: pass another {}",
            Setting::Option("working_directory"),
        ),
        (Step::WorkingDirectory, libc::ELOOP) => Remedy::with(
            "A link in /proc/PID may lead to a directory outside: pass the path inside as {}",
            Setting::Option("working_directory"),
        ),
        (Step::Seccomp, libc::ENOSYS | libc::EINVAL) => Remedy::with(
            "This kernel does not support seccomp filters with these flags: {}",
            Setting::NoFilter,
        ),
        (Step::Confine, libc::EINVAL) => Remedy::with(
            "A C library's at-fork handler started a thread in the copy, which would run unconfined: use {}",
            Setting::NewProgram,
        ),
        (Step::ForkCaller, libc::ENOMEM) => Remedy::with(
            "The kernel does not commit memory for a copy of the caller (vm.overcommit_memory): use {}",
            Setting::NewProgram,
        ),
        (Step::ForkCaller, libc::EINVAL) => Remedy::with(
            "A C library's at-fork handler starts a thread in the parent, which would be lost: use {}",
            Setting::NewProgram,
        ),
        _ => common(step, errno).into(),
    }
}

const fn common(step: Step, errno: i32) -> &'static str {
    match (step, errno) {
        (Step::Clone, libc::EPERM) => {
            "A caller without privileges needs a new user namespace, and the system must allow one: \
             `minidocker doctor` shows what forbids it"
        }
        (Step::Clone, libc::ENOSPC) => {
            "A limit of /proc/sys/user/max_*_namespaces (or the nesting depth of 32) is reached: \
             raise it with sysctl, or end containers that are no longer needed"
        }
        (Step::Clone | Step::Fork | Step::ForkCaller, libc::EAGAIN) => {
            "The limit of processes (RLIMIT_NPROC, or the cgroup's pids.max) is reached: end some \
             processes, or raise it"
        }
        (Step::Fork | Step::ExecHelper | Step::ForkCaller, libc::ESRCH) => {
            "A signal ended the helper at its start: look in the kernel's log (dmesg) for a seccomp filter around \
             the caller, or the out-of-memory killer"
        }
        (Step::ForkCaller, errno) => in_any_step(errno),
        (Step::Clone | Step::Fork, libc::ENOMEM) => {
            "Memory is short, or the init of the PID namespace has ended: free memory, or enter another \
             container"
        }
        (Step::Clone | Step::Time, libc::EINVAL) => {
            "This kernel lacks one of the requested namespaces: `minidocker doctor` shows which"
        }
        (Step::Watchdog, libc::EPIPE | libc::ECONNREFUSED) => {
            "The watchdog of this process was killed again and again: try again, which starts a new one"
        }
        (Step::Watchdog, libc::EAGAIN) => {
            "The watchdog of this process has as many containers as it can have descriptors: end some \
             containers, or raise RLIMIT_NOFILE (ulimit -Hn)"
        }
        (Step::Watchdog, libc::ETOOMANYREFS) => {
            "The user has as many descriptors in flight on sockets as RLIMIT_NOFILE allows: raise it \
             (ulimit -n), or try again when fewer containers are starting"
        }
        (Step::Helper | Step::ExecHelper, libc::EACCES) => {
            "Executing from a memfd is forbidden: set vm.memfd_noexec to 0 or 1"
        }
        (Step::IdMaps, libc::EPERM | libc::EACCES) => {
            "To map ids other than the caller's own takes root, or rows in /etc/subuid and /etc/subgid and \
             the programs newuidmap and newgidmap (package uidmap)"
        }
        (Step::IdMaps, libc::EINVAL) => {
            "The rows overlap, or map ids that the caller's own user namespace does not have"
        }
        (Step::IdMaps, libc::ENOENT) => {
            "Mount /proc in the caller's own PID namespace, and install newuidmap and newgidmap \
             (package uidmap) for subordinate ids"
        }
        (
            Step::PrivateMounts
            | Step::MountShm
            | Step::Hosts
            | Step::Hostname
            | Step::Domainname
            | Step::Loopback,
            libc::EPERM | libc::EACCES,
        ) => {
            "The new user namespace gives no capabilities (AppArmor may restrict unprivileged user \
             namespaces): `minidocker doctor` shows what forbids it"
        }
        (Step::Enter | Step::Target, libc::EPERM | libc::EACCES) => {
            "Only root, or the user who started the container, can enter it"
        }
        (Step::Enter | Step::Target, libc::ESRCH | libc::ENOENT) => {
            "The container has ended: start it again"
        }
        (Step::Groups | Step::Group | Step::User | Step::Root, libc::EINVAL) => {
            "The id is not mapped in the container's user namespace: add a row to uid_map and gid_map"
        }
        (Step::Group | Step::User, libc::EPERM) => {
            "Only root, inside or outside, may change the user: use a new user namespace"
        }
        (Step::Terminal, libc::ENOTTY) => {
            "Standard input is not a terminal: open a pseudoterminal for it"
        }
        (Step::Exec, libc::ENOENT) => {
            "There is no such command inside: check the name, PATH, and the interpreter of a script"
        }
        (Step::Exec, libc::EACCES) => {
            "The user inside may not execute the file, or not search a directory on its path: change their \
             modes (chmod +x)"
        }
        (Step::Exec, libc::ENOEXEC) => {
            "The file is not a program for this machine: a script needs a first line such as #!/bin/sh"
        }
        _ => about_confinement(step, errno),
    }
}

const fn about_values(step: Step, errno: i32) -> &'static str {
    match (step, errno) {
        (Step::Exec, libc::E2BIG) => {
            "Arguments and environment together are too long (a quarter of ulimit -s): pass a file"
        }
        (Step::Prepare | Step::Descriptors | Step::Stdio, libc::EBADF) => {
            "One of the descriptors for the command is not open in the calling process: open it first"
        }
        (Step::Time, libc::ERANGE) => {
            "A clock inside would be negative, or too far in the future: choose a smaller offset"
        }
        _ => in_any_step(errno),
    }
}

const fn about_confinement(step: Step, errno: i32) -> &'static str {
    match (step, errno) {
        (Step::Exec, libc::EPERM) => {
            "The file has a capability (getcap(8)) that the container may not have: add it with cap_add, \
             or execute a copy of the file"
        }
        (Step::Ulimits, libc::EROFS) => {
            "The caller's /proc/sys is mounted read-only, and a shared PID namespace shares it: use a new one"
        }
        (Step::Ulimits, libc::EACCES) => {
            "A security module forbids writes to /proc/sys/user: let its policy allow them"
        }
        (Step::Ulimits, libc::EPERM) => {
            "Only root outside may raise a hard limit: give one at or below the caller's own (ulimit -Ha)"
        }
        (Step::Landlock, errno) if !matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM) => {
            "A seccomp filter around the caller answers for Landlock: let it allow the calls landlock_* and \
             lsm_list_modules (in a systemd unit: SystemCallFilter=@sandbox lsm_list_modules)"
        }
        (Step::Capabilities, libc::EPERM) => {
            "The caller lacks a capability that the command should keep: use a new user namespace"
        }
        _ => about_files(step, errno),
    }
}

const fn about_files(step: Step, errno: i32) -> &'static str {
    match (step, errno) {
        (Step::Overlay, libc::EROFS) => {
            "That directory is on a read-only file system: pass another directory"
        }
        (Step::Overlay | Step::MountSource, libc::EINVAL) => {
            "An overlay refuses a directory with something mounted below it, a layer that is itself \
             on an overlay, and file systems whose names ignore case: pass another directory"
        }
        (Step::Overlay | Step::MountSource, libc::EACCES) => {
            "The caller may not write to the directory of the overlay: pass another one"
        }
        (Step::Overlay | Step::MountSource, libc::EBUSY) => {
            "Another container uses that directory: end it, or pass another directory"
        }
        (Step::Overlay | Step::MountSource, libc::ELOOP | libc::ENOTDIR) => {
            "Another overlay uses a directory around it, or another user has put a link or a file there: pass a \
             directory of the caller's own"
        }
        (Step::MakeRoot, libc::ELOOP) => {
            "Another process has put a link there while the container started: keep the command and its interpreter in \
             directories that only the caller can write in"
        }
        (Step::Dev, libc::EPERM) => {
            "The caller's /dev is mounted with nodev, so its devices do not work inside: give the container \
             around the caller a /dev that does (bwrap: `--dev /dev`)"
        }
        (Step::IdMaps, libc::EROFS) => {
            "The caller's /proc is mounted read-only: give the container around the caller a writable one \
             (bwrap: `--bind /proc /proc`)"
        }
        (Step::PivotRoot | Step::PrivateMounts, libc::EINVAL) => {
            "The caller's root directory is not a mount point (after chroot(2), for example): make it one before \
             the chroot (mount --bind DIR DIR)"
        }
        (Step::Mount | Step::MountPoint, libc::ENOENT | libc::ENOTDIR) => {
            "The target does not exist inside and cannot be made there: choose another one"
        }
        (Step::Mount, libc::EINVAL) => {
            "The file system does not accept one of the options: leave it out"
        }
        (Step::Mount | Step::ReadOnly | Step::MakeRoot | Step::MountSource, libc::EPERM) => {
            "A file system of a namespace needs a new one (proc: pid, sysfs: net, mqueue: ipc), and mounts \
             of the host keep their restrictions: change the mount or the namespaces"
        }
        _ => about_values(step, errno),
    }
}

/// The remedies for errors that mean the same in every step.
const fn in_any_step(errno: i32) -> &'static str {
    match errno {
        libc::EMFILE => {
            "The process has too many open files: close some, or raise RLIMIT_NOFILE (ulimit -n)"
        }
        libc::ENFILE => "The system has too many open files: raise fs.file-max",
        libc::ENOMEM => {
            "Memory is short, or the caller's RLIMIT_AS or RLIMIT_DATA (ulimit -v, -d) is too low: free \
             memory, or raise the limit"
        }
        libc::EFBIG => {
            "The caller's limit of file sizes, RLIMIT_FSIZE (ulimit -f), is too low: raise it"
        }
        libc::ENOSPC => {
            "The disk is full, or a limit such as /proc/sys/fs/mount-max is reached: free space, or raise it"
        }
        libc::ENOSYS => {
            "This kernel lacks the call, or a seccomp filter around the caller refuses it: \
             `minidocker doctor` shows which"
        }
        libc::EPERM | libc::EACCES => "`minidocker doctor` shows what forbids it here",
        _ => "`minidocker explain` shows the calls, and `minidocker doctor` what works here",
    }
}
