//! What may have been made ahead of a launch, and which calls depend on that.
//!
//! See [`caller::Spare`](crate::caller::Spare). A plan is the same with and without; a launch makes some of its
//! calls only where something has been made, and others only where it has not.

use crate::program::ahead;

/// File systems that may have been made, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// For /dev/shm.
    Memory,
    /// Another of that kind: it covers the first, or is the first one that the specification asks for.
    Scratch,
    /// For /sys.
    Sys,
    /// For a /dev of the container's own.
    Devices,
    /// For /dev/pts.
    Terminals,
    /// For /dev/mqueue.
    Queues,
}

impl FileSystem {
    pub(crate) const ALL: [Self; ahead::FILE_SYSTEMS] =
        [Self::Memory, Self::Scratch, Self::Sys, Self::Devices, Self::Terminals, Self::Queues];
}

/// Something that may have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The user, network and IPC namespace, with loopback up.
    Namespaces,
    /// The id maps and the file systems too.
    All,
    /// Who may use ICMP sockets.
    Ping,
}

/// What has been made ahead of this launch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MadeAhead {
    pub(crate) namespaces: bool,
    pub(crate) all: bool,
    pub(crate) ping: bool,
}

impl MadeAhead {
    const fn contains(self, what: What) -> bool {
        match what {
            What::Namespaces => self.namespaces,
            What::All => self.all,
            What::Ping => self.ping,
        }
    }
}

/// In which launches a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Where this has not been made ahead.
    Without(What),
    /// Where this has been made ahead.
    With(What),
}

impl When {
    pub(super) const fn applies(self, made: MadeAhead) -> bool {
        match self {
            Self::Always => true,
            Self::Without(what) => !made.contains(what),
            Self::With(what) => made.contains(what),
        }
    }

    /// Whether a plan shows the call: it is the one that makes everything itself.
    pub(super) const fn is_shown(self) -> bool {
        !matches!(self, Self::With(_))
    }
}
