//! The kinds of namespaces, and the set that is new in a container.
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
    /// Process ids: a separate tree of processes that begins with 1.
    Pid,
    /// Network: interfaces, addresses, routes, ports, firewall rules.
    Net,
    /// Mount points: the tree of file systems.
    Mount,
    /// The hostname and the NIS domain name.
    Uts,
    /// System V IPC objects and POSIX message queues.
    Ipc,
    /// User and group ids, and the capabilities over the other namespaces.
    User,
    /// The root of the control group tree that /proc/PID/cgroup shows.
    Cgroup,
    /// The clocks that count from boot.
    Time,
}

impl Kind {
    /// All eight kinds, in display order.
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

    /// Return the name in options and tables: `"mount"`, for example.
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

    /// Return the setting that makes this namespace new, for a remedy.
    pub(crate) const fn made_new(self) -> Setting {
        Setting::NewNamespace(self.name())
    }

    /// Return the name of its file in `/proc/PID/ns`, where mount is `mnt`.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            _ => self.name(),
        }
    }

    /// Return the flag for clone(2), unshare(2) and setns(2).
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
