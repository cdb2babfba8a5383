//! Which namespaces a container gets of its own.
//!
//! ```
//! use minidocker_core::spec::namespaces::{Kind, NamespaceOptions};
//!
//! let options = NamespaceOptions::all().without_net();
//! assert!(options.contains(Kind::Pid) && !options.contains(Kind::Net));
//! assert_eq!(options, NamespaceOptions::builder().net(false).build());
//! ```

mod options;

use nix::sched::CloneFlags;

pub use options::{NamespaceOptions, NamespaceOptionsBuilder};

use crate::error::Setting;
use crate::linux::CLONE_NEWTIME;

/// One kind of namespace, as namespaces(7) lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Process ids: a tree of processes of its own, beginning with 1.
    Pid,
    /// Network: interfaces, addresses, routes, ports, firewall rules.
    Net,
    /// Mount points: the tree of file systems that a path leads through.
    Mount,
    /// Host name and NIS domain name.
    Uts,
    /// System V IPC objects and POSIX message queues.
    Ipc,
    /// User and group ids, and the capabilities that hold for all the others.
    User,
    /// The root of the control group tree, as /proc/PID/cgroup shows it.
    Cgroup,
    /// The clocks that count since the machine was started.
    Time,
}

impl Kind {
    /// All eight, in the order in which they are always shown.
    pub const ALL: [Self; 8] = [
        Self::Pid,
        Self::Net,
        Self::Mount,
        Self::Uts,
        Self::Ipc,
        Self::User,
        Self::Cgroup,
        Self::Time,
    ];

    /// The name that options and tables use: `"mount"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Mount => "mount",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// What a remedy says that makes it new.
    pub(crate) const fn made_new(self) -> Setting {
        Setting::NewNamespace(self.name())
    }

    /// The file in `/proc/PID/ns`, where the kernel says `mnt` for mount.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            _ => self.name(),
        }
    }

    /// The flag of clone(2), unshare(2) and setns(2).
    #[must_use]
    pub const fn flag(self) -> CloneFlags {
        match self {
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::User => CloneFlags::CLONE_NEWUSER,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Self::Time => CLONE_NEWTIME,
        }
    }
}
