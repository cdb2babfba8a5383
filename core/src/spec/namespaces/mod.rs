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

/// Define [`Kind`] and the methods for each kind, from the one list of the kinds.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $flag:expr, $set:ident $with:ident $without:ident;)*) => {
        /// One kind of namespace, as namespaces(7) lists them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds, in display order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Return the name in options and tables: `"mount"`, for example.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Return the flag for clone(2), unshare(2) and setns(2).
            #[must_use]
            pub const fn flag(self) -> CloneFlags {
                match self {
                    $(Self::$kind => $flag,)*
                }
            }
        }

        impl NamespaceOptions {
            $(
                #[doc = concat!("Return this set with a new ", $name, " namespace.")]
                #[must_use]
                pub const fn $with(self) -> Self {
                    self.with(Kind::$kind)
                }

                #[doc = concat!("Return this set with the caller's ", $name, " namespace.")]
                #[must_use]
                pub const fn $without(self) -> Self {
                    self.without(Kind::$kind)
                }
            )*
        }

        impl NamespaceOptionsBuilder {
            $(
                #[doc = concat!("Set whether the ", $name, " namespace is new.")]
                pub const fn $set(self, new: bool) -> Self {
                    self.set(Kind::$kind, new)
                }
            )*
        }
    };
}

kinds! {
    /// Process ids: a separate tree of processes that begins with 1.
    Pid = "pid", CloneFlags::CLONE_NEWPID, pid with_pid without_pid;
    /// Network: interfaces, addresses, routes, ports, firewall rules.
    Net = "net", CloneFlags::CLONE_NEWNET, net with_net without_net;
    /// Mount points: the tree of file systems.
    Mount = "mount", CloneFlags::CLONE_NEWNS, mount with_mount without_mount;
    /// The hostname and the NIS domain name.
    Uts = "uts", CloneFlags::CLONE_NEWUTS, uts with_uts without_uts;
    /// System V IPC objects and POSIX message queues.
    Ipc = "ipc", CloneFlags::CLONE_NEWIPC, ipc with_ipc without_ipc;
    /// User and group ids, and the capabilities over the other namespaces.
    User = "user", CloneFlags::CLONE_NEWUSER, user with_user without_user;
    /// The root of the control group tree that /proc/PID/cgroup shows.
    Cgroup = "cgroup", CloneFlags::CLONE_NEWCGROUP, cgroup with_cgroup without_cgroup;
    /// The clocks that count from boot.
    Time = "time", CLONE_NEWTIME, time with_time without_time;
}

impl Kind {
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
}
