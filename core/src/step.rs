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

            /// The action, in words that follow "cannot".
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

steps! {
    /// Descriptors, pipes and memory of the caller, before anything is created.
    Prepare = "prepare": "prepare the launch",
    /// The sealed memfd with the helper program.
    Helper = "helper": "make the helper program ready",
    /// The process that ends containers when the caller dies.
    Watchdog = "watchdog": "register with the watchdog",
    /// A pidfd of the container to enter, and its namespaces.
    Target = "target": "inspect the process to enter",
    /// clone(2) with the flags of the new namespaces.
    Clone = "clone": "create the namespaces",
    /// The caller's signal handlers must not run in the child.
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
    /// Change of ids to root inside, if the caller is not mapped to it.
    Root = "root": "become root inside",
    /// No mount propagates in or out.
    PrivateMounts = "private-mounts": "make the mounts private",
    /// The source of a mount, opened before anything covers it.
    MountSource = "mount-source": "open the source of a mount",
    /// The directory that becomes the root.
    MakeRoot = "make-root": "make the root directory",
    /// Copy-on-write over directories of the host.
    Overlay = "overlay": "lay an overlay on the files",
    /// Missing mount points, made inside.
    MountPoint = "mount-point": "make a mount point inside",
    /// The root, or a path, becomes read-only.
    ReadOnly = "read-only": "make a mount read-only",
    /// A minimal /dev.
    Dev = "dev": "make /dev",
    /// `pivot_root(2)`.
    PivotRoot = "pivot-root": "make the new root /",
    /// A mount that the specification asks for.
    Mount = "mount": "mount",
    /// A copy of the file that a link in /etc leads to, in a place that the container hides.
    LinkedFile = "linked-file": "copy the file that a link in /etc leads to",
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
    /// Covers over directories and files.
    Hide = "hide": "hide a path",
    /// Private POSIX shared memory and message queues.
    MountShm = "mount-shm": "make shared memory private",
    /// ICMP sockets for every user inside.
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
    /// The check that a copy of the caller has one thread: capabilities and filters apply to one thread.
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
    /// The caller's signal mask, restored.
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
