//! The steps of making a container, each named by what fails.

use std::fmt;

macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal: $text:literal),+ $(,)?) => {
        /// One step of making a container. The same value feeds the report of a failure, its message
        /// and what `explain()` shows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Step { $($(#[doc = $doc])+ $variant),+ }

        impl Step {
            /// Every step, in the order in which a container is made.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The step's short name, which programs may compare with: `"mount-proc"`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What is being done, in words that follow "cannot".
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

steps! {
    /// Descriptors, pipes and memory of the caller's, before anything is created.
    Prepare = "prepare": "prepare the launch",
    /// The sealed memfd with the helper program.
    Helper = "helper": "make the helper program ready",
    /// The process that ends containers when the caller dies.
    Watchdog = "watchdog": "register with the watchdog",
    /// A pidfd of the container that is entered, and its namespaces.
    Target = "target": "look at the process whose namespaces are entered",
    /// clone(2) with the flags of the new namespaces.
    Clone = "clone": "create the namespaces",
    /// Handlers of the caller's that must not run in the child.
    Signals = "signals": "reset the signal handlers",
    /// setns(2) into an existing container.
    Enter = "enter": "enter the namespaces",
    /// The fork that brings a process into an entered PID namespace.
    Fork = "fork": "start a process in the entered namespaces",
    /// fork(3) of the calling process, for a function instead of a command.
    ForkCaller = "fork-caller": "fork the calling process",
    /// setsid(2).
    Session = "session": "start a session",
    /// setpgid(2).
    ProcessGroup = "process-group": "set the process group",
    /// `/proc/PID/setgroups`, `uid_map` and `gid_map`.
    IdMaps = "id-maps": "map user and group ids",
    /// Becoming root inside, where the caller is not mapped to it.
    Root = "root": "become root inside",
    /// Mount propagation is cut.
    PrivateMounts = "private-mounts": "make the mounts private",
    /// What is mounted from outside, opened before anything covers it.
    MountSource = "mount-source": "open what is to be mounted",
    /// The directory that becomes the root.
    MakeRoot = "make-root": "make the root directory",
    /// Copy-on-write over directories of the host's.
    Overlay = "overlay": "lay an overlay on the files",
    /// Mount points that are missing, made inside.
    MountPoint = "mount-point": "make a mount point inside",
    /// The root, or a path, becomes read-only.
    ReadOnly = "read-only": "make what is there read-only",
    /// A minimal /dev.
    Dev = "dev": "make /dev",
    /// `pivot_root(2)`.
    PivotRoot = "pivot-root": "make the new root /",
    /// A mount that the specification asks for.
    Mount = "mount": "mount",
    /// sethostname(2).
    Hostname = "hostname": "set the hostname",
    /// setdomainname(2).
    Domainname = "domainname": "set the domain name",
    /// The loopback interface.
    Loopback = "loopback": "bring loopback up",
    /// A fresh proc.
    MountProc = "mount-proc": "mount a fresh proc",
    /// A fresh sysfs.
    MountSys = "mount-sys": "mount a fresh sysfs",
    /// Directories and files that are covered.
    Hide = "hide": "hide a path",
    /// Private POSIX shared memory and message queues.
    MountShm = "mount-shm": "make shared memory private",
    /// ICMP sockets for everybody inside.
    Ping = "ping": "allow ping",
    /// The container's name in /etc/hosts.
    Hosts = "hosts": "make the hostname resolve",
    /// unshare(2) of the time namespace and its offsets.
    Time = "time": "set the clocks",
    /// dup3(2) of standard input, output and error.
    Stdio = "stdio": "set up standard input, output and error",
    /// `close_range(2)` and the descriptors that are kept.
    Descriptors = "descriptors": "close the caller's descriptors",
    /// chdir(2).
    WorkingDirectory = "chdir": "change the directory",
    /// umask(2).
    Umask = "umask": "set the file mode creation mask",
    /// The controlling terminal.
    Terminal = "terminal": "take the controlling terminal",
    /// That a copy of the caller has one thread: what confines it confines that one.
    Confine = "confine": "confine the copy of the calling process",
    /// prlimit64(2).
    Ulimits = "ulimits": "set the resource limits",
    /// The bounding set, and capset(2).
    Capabilities = "capabilities": "drop capabilities",
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges = "no-new-privileges": "forbid new privileges",
    /// setgroups(2).
    Groups = "groups": "set the supplementary groups",
    /// setresgid(2).
    Group = "group": "set the group",
    /// setresuid(2).
    User = "user": "set the user",
    /// `landlock_restrict_self(2)`.
    Landlock = "landlock": "enter the Landlock domain",
    /// seccomp(2).
    Seccomp = "seccomp": "install the system call filter",
    /// The caller's signal mask comes back.
    SignalMask = "signal-mask": "restore the signal mask",
    /// execveat(2) of the helper.
    ExecHelper = "exec-helper": "execute the helper program",
    /// execve(2) of the command.
    Exec = "exec": "execute",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.text())
    }
}

impl Step {
    /// One remedy, as a sentence: for the errors that people meet what helps, for others where to look.
    #[must_use]
    pub const fn hint(self, errno: i32) -> &'static str {
        match (self, errno) {
            (Self::Clone, libc::EPERM) => {
                "A caller without privileges needs a new user namespace (NamespaceOptions.all()), \
                 and the system must allow one: `minidocker doctor` tells what forbids it"
            }
            (Self::Clone, libc::ENOSPC) => {
                "A limit of /proc/sys/user/max_*_namespaces (or the nesting depth of 32) is reached: \
                 raise it with sysctl, or end containers that are no longer needed"
            }
            (Self::Clone | Self::Fork | Self::ForkCaller | Self::Watchdog, libc::EAGAIN) => {
                "The limit of processes (RLIMIT_NPROC, or the cgroup's pids.max) is reached: end some \
                 or raise it"
            }
            (Self::ForkCaller, errno) => fork_hint(errno),
            (Self::Clone | Self::Fork, libc::ENOMEM) => {
                "Memory is short, or the PID namespace has no live init any more"
            }
            (Self::Clone | Self::Time, libc::EINVAL) => {
                "This kernel lacks one of the namespaces asked for: `minidocker doctor` tells which"
            }
            (Self::Watchdog, libc::EPIPE | libc::ECONNREFUSED) => {
                "The watchdog of this process was killed: try again, which starts a new one"
            }
            (Self::Watchdog, libc::ETOOMANYREFS) => {
                "The user's processes are sending as many descriptors as one may have open (RLIMIT_NOFILE): \
                 raise it (ulimit -n), or try again when fewer containers are being started"
            }
            (Self::Helper | Self::ExecHelper, libc::EACCES) => {
                "Executing from a memfd is forbidden: set vm.memfd_noexec to 0 or 1"
            }
            (Self::IdMaps, libc::EPERM | libc::EACCES) => {
                "Ids other than one's own need root, or rows in /etc/subuid and /etc/subgid and the \
                 programs newuidmap and newgidmap (package uidmap)"
            }
            (Self::IdMaps, libc::EINVAL) => {
                "The rows overlap, or map ids that the caller's own user namespace does not have"
            }
            (Self::IdMaps, libc::ENOENT) => {
                "Mount /proc in the caller's own PID namespace, and install newuidmap and newgidmap \
                 (package uidmap) for subordinate ids"
            }
            (Self::MountProc, libc::EPERM) => {
                "Something hides parts of the caller's /proc (docker does): start that container with \
                 `--security-opt systempaths=unconfined`, or leave the PID namespace shared with \
                 NamespaceOptions.all().without_pid()"
            }
            (Self::MountSys, libc::EPERM) => {
                "Something hides parts of the caller's /sys (docker does): start that container with \
                 `--security-opt systempaths=unconfined`, or pass network=\"host\""
            }
            (
                Self::PrivateMounts
                | Self::MountShm
                | Self::Hosts
                | Self::Hostname
                | Self::Domainname
                | Self::Loopback,
                libc::EPERM | libc::EACCES,
            ) => {
                "The user namespace carries no capabilities here (AppArmor's restriction of \
                 unprivileged user namespaces does that): `minidocker doctor` tells what forbids it"
            }
            (Self::Enter | Self::Target, libc::EPERM | libc::EACCES) => {
                "Only root, or the user who started the container, can enter it"
            }
            (Self::Enter | Self::Target, libc::ESRCH | libc::ENOENT) => {
                "The container has ended: start it again"
            }
            (Self::Groups, libc::EPERM) => {
                "A user namespace made without privileges forbids setgroups: leave extra_groups out, \
                 or pass uid_map=\"auto\" and gid_map=\"auto\""
            }
            (Self::Groups | Self::Group | Self::User | Self::Root, libc::EINVAL) => {
                "The id is not mapped in the container's user namespace: add a row to uid_map and gid_map"
            }
            (Self::Group | Self::User, libc::EPERM) => {
                "Only root, inside or outside, becomes somebody else: use a new user namespace"
            }
            (Self::Terminal, libc::ENOTTY) => {
                "Standard input is not a terminal: make a pseudo terminal"
            }
            (Self::Exec, libc::ENOENT) => {
                "No such command inside: check the name, PATH in env, and the interpreter that a script names"
            }
            (Self::Exec, libc::EACCES) => {
                "It has to be a file that the user inside may execute (chmod +x), and the directories of PATH \
                 such that it may search them"
            }
            (Self::Exec, libc::ENOEXEC) => {
                "Not a program of this machine: a script needs a first line such as #!/bin/sh"
            }
            (Self::WorkingDirectory, libc::ENOENT | libc::ENOTDIR) => {
                "The directory has to exist inside: pass another cwd"
            }
            (Self::WorkingDirectory, libc::EACCES) => {
                "The directory is not accessible inside: pass another cwd"
            }
            _ => self.hint_about_confinement(errno),
        }
    }

    const fn hint_about_values(self, errno: i32) -> &'static str {
        match (self, errno) {
            (Self::Exec, libc::E2BIG) => {
                "Arguments and environment together are too long (a quarter of ulimit -s): pass a file"
            }
            (Self::Descriptors | Self::Stdio, libc::EBADF) => {
                "One of the descriptors for the command is not open in the calling process: open it first"
            }
            (Self::Time, libc::ERANGE) => {
                "A clock inside would be negative, or too far in the future: choose a smaller offset"
            }
            _ => general_hint(errno),
        }
    }

    const fn hint_about_confinement(self, errno: i32) -> &'static str {
        match (self, errno) {
            (Self::WorkingDirectory, libc::ELOOP) => {
                "What /proc/PID/fd and the like link to may be outside: pass the path inside as cwd"
            }
            (Self::Confine, libc::EINVAL) => {
                "A C library's at-fork handler started a thread in the copy, which would stay free: use \
                 method=\"spawn\""
            }
            (Self::Exec, libc::EPERM) => {
                "The file has a capability (getcap(8)) that the container may not have: give it with \
                 cap_add, or execute a copy of the file"
            }
            (Self::Ulimits, libc::EPERM) => {
                "Only root outside raises a hard limit: give one at or below the caller's own (ulimit -Ha)"
            }
            (Self::Seccomp, libc::ENOSYS | libc::EINVAL) => {
                "This kernel has no seccomp filters, or not these flags: pass seccomp=\"unconfined\""
            }
            (Self::Capabilities, libc::EPERM) => {
                "The caller does not have what it is to keep: use a new user namespace"
            }
            _ => self.hint_about_files(errno),
        }
    }

    const fn hint_about_files(self, errno: i32) -> &'static str {
        match (self, errno) {
            (Self::Overlay | Self::MountSource, libc::EINVAL) => {
                "An overlay refuses a directory with something mounted below it, a layer that is itself \
                 on an overlay, and file systems whose names ignore case: pass another directory"
            }
            (Self::Overlay | Self::MountSource, libc::EACCES) => {
                "The caller has to be able to write to the directory of an overlay: pass another one"
            }
            (Self::Overlay | Self::MountSource, libc::ELOOP | libc::EBUSY) => {
                "Another overlay uses that directory: end it, or pass another directory"
            }
            (Self::PivotRoot, libc::EINVAL) => {
                "The caller's own root is not a mount point, as after chroot(2): run it from one that is"
            }
            (Self::Mount | Self::MountPoint, libc::ENOENT | libc::ENOTDIR) => {
                "The target is not there inside, and cannot be made there: choose another one"
            }
            (Self::Mount, libc::EINVAL) => {
                "The file system does not take one of the options: leave it out"
            }
            (Self::Mount | Self::ReadOnly | Self::MakeRoot | Self::MountSource, libc::EPERM) => {
                "The namespace that it belongs to has to be new too (proc: pid, sysfs: net, mqueue: ipc), \
                 and mounts of the host's keep their restrictions"
            }
            _ => self.hint_about_values(errno),
        }
    }
}

/// Remedies for [`Step::ForkCaller`].
const fn fork_hint(errno: i32) -> &'static str {
    match errno {
        libc::ENOMEM => {
            "The kernel does not promise that much memory twice (vm.overcommit_memory): use \
             method=\"spawn\""
        }
        libc::EINVAL => {
            "A C library's at-fork handler starts threads in the parent, which it would lose: use \
             method=\"spawn\""
        }
        _ => general_hint(errno),
    }
}

/// The same for errors that mean the same in every step.
const fn general_hint(errno: i32) -> &'static str {
    match errno {
        libc::EMFILE => {
            "The process has too many open files: close some, or raise RLIMIT_NOFILE (ulimit -n)"
        }
        libc::ENFILE => "The system has too many open files: raise fs.file-max",
        libc::ENOMEM => "Memory is short: end something, or raise the control group's limit",
        libc::ENOSPC => {
            "The disk, or a limit such as /proc/sys/fs/mount-max, is full: free some or raise it"
        }
        libc::ENOSYS => {
            "This kernel, or a seccomp filter around the caller, lacks the call: `minidocker doctor` \
                 tells which"
        }
        libc::EPERM | libc::EACCES => "`minidocker doctor` tells what forbids it here",
        _ => "`minidocker explain` shows the calls, and `minidocker doctor` what works here",
    }
}
