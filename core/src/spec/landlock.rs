//! Landlock rules, encoded as the arguments of its three system calls.
//!
//! A plan makes the calls after the last mount, because a process in a Landlock domain cannot change mounts.

/// A version of Landlock, from 1 to [`Abi::NEWEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abi(u8);

impl Abi {
    /// The newest version that this module supports (Linux 6.15).
    pub const NEWEST: Self = Self(7);

    /// Return the version to use on a kernel that reports `version`; `None` below 1.
    #[must_use]
    pub fn of_version(version: i64) -> Option<Self> {
        (version > 0).then(|| Self(version.min(i64::from(Self::NEWEST.0)) as u8))
    }

    /// Return the number of the version.
    #[must_use]
    pub const fn version(self) -> u8 {
        self.0
    }
}

/// Define a set of bits as the kernel has them.
macro_rules! bit_set {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Return the bits of either.
            #[must_use]
            pub const fn union(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Return the bits for the kernel.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }
        }
    };
}

bit_set! {
    /// Rights to files and directories: `LANDLOCK_ACCESS_FS_*`.
    AccessFs
}

impl AccessFs {
    /// Execute a file.
    pub const EXECUTE: Self = Self(1);
    /// Open a file for writing.
    pub const WRITE_FILE: Self = Self(1 << 1);
    /// Open a file for reading.
    pub const READ_FILE: Self = Self(1 << 2);
    /// List a directory.
    pub const READ_DIR: Self = Self(1 << 3);
    /// Remove a directory.
    pub const REMOVE_DIR: Self = Self(1 << 4);
    /// Remove a file.
    pub const REMOVE_FILE: Self = Self(1 << 5);
    /// Make a character device.
    pub const MAKE_CHAR: Self = Self(1 << 6);
    /// Make a directory.
    pub const MAKE_DIR: Self = Self(1 << 7);
    /// Make a plain file.
    pub const MAKE_REG: Self = Self(1 << 8);
    /// Make a socket.
    pub const MAKE_SOCK: Self = Self(1 << 9);
    /// Make a named pipe.
    pub const MAKE_FIFO: Self = Self(1 << 10);
    /// Make a block device.
    pub const MAKE_BLOCK: Self = Self(1 << 11);
    /// Make a symbolic link.
    pub const MAKE_SYM: Self = Self(1 << 12);
    /// Link or rename from one directory to another (version 2; version 1 always denies it).
    pub const REFER: Self = Self(1 << 13);
    /// Truncate a file (version 3).
    pub const TRUNCATE: Self = Self(1 << 14);
    /// Call ioctl(2) on a device that was opened in the domain (version 5).
    pub const IOCTL_DEV: Self = Self(1 << 15);

    /// Read and execute.
    pub const READ: Self = Self(Self::EXECUTE.0 | Self::READ_FILE.0 | Self::READ_DIR.0);

    /// Every right except making device files and ioctl(2) on devices.
    pub const WRITE: Self = Self(
        Self::READ.0
            | Self::WRITE_FILE.0
            | Self::REMOVE_DIR.0
            | Self::REMOVE_FILE.0
            | Self::MAKE_DIR.0
            | Self::MAKE_REG.0
            | Self::MAKE_SOCK.0
            | Self::MAKE_FIFO.0
            | Self::MAKE_SYM.0
            | Self::REFER.0
            | Self::TRUNCATE.0,
    );

    /// Use the existing files: for `/dev` and `/proc`.
    pub const USE: Self = Self(
        Self::READ_FILE.0
            | Self::READ_DIR.0
            | Self::WRITE_FILE.0
            | Self::TRUNCATE.0
            | Self::IOCTL_DEV.0,
    );

    /// The rights to a file that is not a directory. For such a file the kernel refuses all others.
    pub const OF_FILE: Self = Self(
        Self::EXECUTE.0
            | Self::WRITE_FILE.0
            | Self::READ_FILE.0
            | Self::TRUNCATE.0
            | Self::IOCTL_DEV.0,
    );

    /// Return every right that this version has.
    #[must_use]
    pub const fn all(abi: Abi) -> Self {
        Self(match abi.0 {
            0 | 1 => 0x1fff,
            2 => 0x3fff,
            3 | 4 => 0x7fff,
            _ => 0xffff,
        })
    }

    /// Return the rights that are in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

bit_set! {
    /// Rights to TCP ports: `LANDLOCK_ACCESS_NET_*` (version 4).
    AccessNet
}

impl AccessNet {
    /// The domain restricts no port.
    pub const NONE: Self = Self(0);
    /// Bind a socket to a port.
    pub const BIND_TCP: Self = Self(1);
    /// Connect to a port.
    pub const CONNECT_TCP: Self = Self(1 << 1);
}

bit_set! {
    /// Actions that cannot reach processes outside the domain: `LANDLOCK_SCOPE_*` (version 6).
    Scope
}

impl Scope {
    /// The domain restricts none.
    pub const NONE: Self = Self(0);
    /// Connections to abstract unix sockets.
    pub const ABSTRACT_UNIX_SOCKET: Self = Self(1);
    /// Signals.
    pub const SIGNAL: Self = Self(1 << 1);
}

/// The rights that a domain restricts. It denies each of them except where a rule grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handled {
    /// Rights to files.
    pub fs: AccessFs,
    /// Rights to TCP ports.
    pub net: AccessNet,
    /// Actions that cannot reach outside.
    pub scope: Scope,
}

impl Handled {
    /// Return a restriction of every right to files that this version has, and of nothing else.
    #[must_use]
    pub const fn files(abi: Abi) -> Self {
        Self { fs: AccessFs::all(abi), net: AccessNet::NONE, scope: Scope::NONE }
    }

    /// Return the fields of `struct landlock_ruleset_attr` that this version has.
    ///
    /// They are the first argument of `landlock_create_ruleset(2)`, and their length is the second. Rights
    /// that the version does not have are omitted.
    #[must_use]
    pub fn attr(self, abi: Abi) -> Vec<u8> {
        let fs = self.fs.intersection(AccessFs::all(abi)).0;
        let fields = [fs, self.net.0, self.scope.0];
        let known = match abi.0 {
            0..=3 => 1,
            4 | 5 => 2,
            _ => 3,
        };
        fields[..known].iter().flat_map(|field| field.to_ne_bytes()).collect()
    }
}

/// `LANDLOCK_RULE_PATH_BENEATH`: the rule type of [`path_beneath`] for `landlock_add_rule(2)`.
pub const RULE_PATH_BENEATH: u64 = 1;
/// `LANDLOCK_RULE_NET_PORT`: the rule type of [`net_port`] for `landlock_add_rule(2)`.
pub const RULE_NET_PORT: u64 = 2;

/// The offset of the descriptor in [`path_beneath`], for callers that fill it in later.
pub const PARENT_FD_OFFSET: usize = 8;

/// Rights to a path and everything beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// A path inside the container. If it does not exist, the rule is skipped.
    pub path: &'static str,
    /// The rights.
    pub access: AccessFs,
}

/// Return the 12 bytes of the packed `struct landlock_path_beneath_attr`.
///
/// `fd` was opened with `O_PATH`. Rights that this version does not have are omitted, and for a file that is
/// not a directory also the rights that only directories have: the kernel refuses both with EINVAL.
#[must_use]
pub fn path_beneath(access: AccessFs, abi: Abi, is_directory: bool, fd: i32) -> [u8; 12] {
    let mut allowed = access.intersection(AccessFs::all(abi));
    if !is_directory {
        allowed = allowed.intersection(AccessFs::OF_FILE);
    }
    let mut attr = [0; 12];
    attr[..PARENT_FD_OFFSET].copy_from_slice(&allowed.0.to_ne_bytes());
    attr[PARENT_FD_OFFSET..].copy_from_slice(&fd.to_ne_bytes());
    attr
}

/// Return the 16 bytes of `struct landlock_net_port_attr`.
#[must_use]
pub fn net_port(access: AccessNet, port: u16) -> [u8; 16] {
    let mut attr = [0; 16];
    attr[..8].copy_from_slice(&access.0.to_ne_bytes());
    attr[8..].copy_from_slice(&u64::from(port).to_ne_bytes());
    attr
}

/// Return the flags of `landlock_restrict_self(2)`.
///
/// With `log`, version 7 writes denials after the next execve(2) to the audit log.
#[must_use]
pub const fn restrict_flags(abi: Abi, log: bool) -> u32 {
    const LOG_NEW_EXEC_ON: u32 = 1 << 1;
    if log && abi.0 >= 7 { LOG_NEW_EXEC_ON } else { 0 }
}

#[cfg(test)]
mod tests {
    use landlock::{Access as _, AccessFs as Theirs};

    use super::{Abi, AccessFs, AccessNet, Handled, Scope, net_port, path_beneath, restrict_flags};

    #[test]
    fn the_rights_are_those_of_the_landlock_crate() {
        for (abi, theirs) in [
            (1, landlock::ABI::V1),
            (2, landlock::ABI::V2),
            (3, landlock::ABI::V3),
            (4, landlock::ABI::V4),
            (5, landlock::ABI::V5),
            (6, landlock::ABI::V6),
        ] {
            assert_eq!(AccessFs::all(Abi(abi)).bits(), Theirs::from_all(theirs).bits(), "{abi}");
            assert_eq!(
                AccessFs::READ.bits(),
                Theirs::from_read(theirs).bits(),
                "their reading includes executing"
            );
        }
        assert_eq!(AccessFs::OF_FILE.bits(), Theirs::from_file(landlock::ABI::V6).bits());
        let net = landlock::AccessNet::from_all(landlock::ABI::V4).bits();
        assert_eq!(AccessNet::BIND_TCP.union(AccessNet::CONNECT_TCP).bits(), net);
        let scope = landlock::Scope::from_all(landlock::ABI::V6).bits();
        assert_eq!(Scope::SIGNAL.union(Scope::ABSTRACT_UNIX_SOCKET).bits(), scope);
    }

    #[test]
    fn an_older_kernel_gets_only_the_fields_that_it_has() {
        let handled = |abi| {
            Handled {
                fs: AccessFs::all(Abi::NEWEST),
                net: AccessNet::BIND_TCP,
                scope: Scope::SIGNAL,
            }
            .attr(Abi(abi))
        };
        assert_eq!(handled(1), 0x1fff_u64.to_ne_bytes());
        assert_eq!(handled(3), 0x7fff_u64.to_ne_bytes());
        assert_eq!(handled(4).len(), 16);
        assert_eq!(handled(6).len(), 24);
        assert_eq!(handled(7)[8..], [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat());
        assert_eq!(restrict_flags(Abi(6), true), 0);
        assert_eq!(restrict_flags(Abi(7), true), 2);
        assert_eq!(Handled::files(Abi(2)).attr(Abi(2)), 0x3fff_u64.to_ne_bytes());
    }

    #[test]
    fn a_rule_for_a_file_has_only_rights_to_files() {
        let directory = path_beneath(AccessFs::WRITE, Abi(7), true, 7);
        assert_eq!(directory[..8], AccessFs::WRITE.bits().to_ne_bytes());
        assert_eq!(directory[8..], 7_i32.to_ne_bytes());
        let file = path_beneath(AccessFs::WRITE, Abi(7), false, 7);
        assert_eq!(file[..8], 0x4007_u64.to_ne_bytes());
        let old = path_beneath(AccessFs::USE, Abi(1), true, 7);
        assert_eq!(old[..8], 0x000e_u64.to_ne_bytes());
        assert_eq!(net_port(AccessNet::CONNECT_TCP, 443)[8..], 443_u64.to_ne_bytes());
    }

    #[test]
    fn no_set_of_rights_allows_making_device_files() {
        let devices = AccessFs::MAKE_CHAR.union(AccessFs::MAKE_BLOCK);
        for access in [AccessFs::READ, AccessFs::WRITE, AccessFs::USE] {
            assert_eq!(access.intersection(devices).bits(), 0);
        }
    }

    #[test]
    fn a_version_below_one_is_none_and_a_newer_one_is_the_newest_supported() {
        assert_eq!(Abi::of_version(0), None);
        assert_eq!(Abi::of_version(-1), None);
        assert_eq!(Abi::of_version(3).map(Abi::version), Some(3));
        assert_eq!(Abi::of_version(99), Some(Abi::NEWEST));
    }
}
