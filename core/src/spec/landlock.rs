//! What Landlock is asked for, as the bytes that its three system calls take.
//!
//! Only [`Abi::probe`] makes a system call, and it changes nothing. A plan makes the others, after
//! the last mount: a process with a Landlock domain can change no mount.

use std::io;

use crate::sys;

/// The version of Landlock in this kernel, from 1 to the newest that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abi(u8);

impl Abi {
    /// The newest version whose rights have names here (Linux 6.15).
    pub const NEWEST: Self = Self(7);

    /// What a kernel that answers `version` can do of what is known here; `None` below 1.
    #[must_use]
    pub fn of_version(version: i64) -> Option<Self> {
        (version > 0).then(|| Self(version.min(i64::from(Self::NEWEST.0)) as u8))
    }

    /// The number of the version.
    #[must_use]
    pub const fn version(self) -> u8 {
        self.0
    }

    /// Asks the kernel, which costs one system call; `None` where Landlock was not built in or is
    /// switched off at boot.
    ///
    /// # Errors
    ///
    /// What `landlock_create_ruleset(2)` answers otherwise: EPERM, for example, from a seccomp filter
    /// that does not know it.
    pub fn probe() -> io::Result<Option<Self>> {
        match sys::landlock_version() {
            Ok(version) => Ok(Self::of_version(version)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOSYS | libc::EOPNOTSUPP) => Ok(None),
                _ => Err(error),
            },
        }
    }
}

/// Rights to files and directories: `LANDLOCK_ACCESS_FS_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccessFs(u64);

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
    /// Link or rename from one directory to another (version 2; before, nobody may).
    pub const REFER: Self = Self(1 << 13);
    /// Truncate a file (version 3).
    pub const TRUNCATE: Self = Self(1 << 14);
    /// ioctl(2) on a device that was opened after (version 5).
    pub const IOCTL_DEV: Self = Self(1 << 15);

    /// Look, and execute.
    pub const READ: Self = Self(Self::EXECUTE.0 | Self::READ_FILE.0 | Self::READ_DIR.0);

    /// Everything but device files.
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

    /// Use what is there: for `/dev` and `/proc`.
    pub const USE: Self = Self(
        Self::READ_FILE.0
            | Self::READ_DIR.0
            | Self::WRITE_FILE.0
            | Self::TRUNCATE.0
            | Self::IOCTL_DEV.0,
    );

    /// What can be said of something that is not a directory; of one, the kernel refuses the rest.
    pub const OF_FILE: Self = Self(
        Self::EXECUTE.0
            | Self::WRITE_FILE.0
            | Self::READ_FILE.0
            | Self::TRUNCATE.0
            | Self::IOCTL_DEV.0,
    );

    /// Every right that this version knows.
    #[must_use]
    pub const fn all(abi: Abi) -> Self {
        Self(match abi.0 {
            0 | 1 => 0x1fff,
            2 => 0x3fff,
            3 | 4 => 0x7fff,
            _ => 0xffff,
        })
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The bits, as the kernel takes them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Rights to TCP ports: `LANDLOCK_ACCESS_NET_*` (version 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccessNet(u64);

impl AccessNet {
    /// None is asked for: every port may be used.
    pub const NONE: Self = Self(0);
    /// Bind a socket to a port.
    pub const BIND_TCP: Self = Self(1);
    /// Connect to a port.
    pub const CONNECT_TCP: Self = Self(1 << 1);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits, as the kernel takes them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// What ends at the border of the domain: `LANDLOCK_SCOPE_*` (version 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope(u64);

impl Scope {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Connections to the abstract unix sockets of others.
    pub const ABSTRACT_UNIX_SOCKET: Self = Self(1);
    /// Signals to others.
    pub const SIGNAL: Self = Self(1 << 1);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits, as the kernel takes them.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// What a domain restricts: all that no rule gives back is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handled {
    /// Rights to files.
    pub fs: AccessFs,
    /// Rights to TCP ports.
    pub net: AccessNet,
    /// What ends at the border.
    pub scope: Scope,
}

impl Handled {
    /// Every right to files that this version knows, and nothing said of the network.
    #[must_use]
    pub const fn files(abi: Abi) -> Self {
        Self { fs: AccessFs::all(abi), net: AccessNet::NONE, scope: Scope::NONE }
    }

    /// `struct landlock_ruleset_attr` as far as this version has it: the pointer and size of
    /// `landlock_create_ruleset(2)`. What the version does not know is left out.
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

/// `LANDLOCK_RULE_PATH_BENEATH`: the type of the rule for `landlock_add_rule(2)`.
pub const RULE_PATH_BENEATH: u64 = 1;
/// `LANDLOCK_RULE_NET_PORT`: the type of the rule for `landlock_add_rule(2)`.
pub const RULE_NET_PORT: u64 = 2;

/// Where in [`path_beneath`] the descriptor stands, for who knows it only later.
pub const PARENT_FD_OFFSET: usize = 8;

/// Rights to a path and all beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// A path inside the container; where it does not exist, nothing is given.
    pub path: &'static str,
    /// The rights.
    pub access: AccessFs,
}

/// `struct landlock_path_beneath_attr`, which is packed: 12 bytes. `fd` was opened with `O_PATH`.
///
/// A right that this version does not know is left out, and so is, of what is not a directory, one
/// that only a directory has: the kernel refuses both with EINVAL.
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

/// `struct landlock_net_port_attr`: 16 bytes.
#[must_use]
pub fn net_port(access: AccessNet, port: u16) -> [u8; 16] {
    let mut attr = [0; 16];
    attr[..8].copy_from_slice(&access.0.to_ne_bytes());
    attr[8..].copy_from_slice(&u64::from(port).to_ne_bytes());
    attr
}

/// The flags of `landlock_restrict_self(2)`: with `log`, what is denied after the next execve(2) is
/// written to the audit log, where the version can (7).
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
                "to read is to read and to execute"
            );
        }
        assert_eq!(AccessFs::OF_FILE.bits(), Theirs::from_file(landlock::ABI::V6).bits());
        let net = landlock::AccessNet::from_all(landlock::ABI::V4).bits();
        assert_eq!(AccessNet::BIND_TCP.union(AccessNet::CONNECT_TCP).bits(), net);
        let scope = landlock::Scope::from_all(landlock::ABI::V6).bits();
        assert_eq!(Scope::SIGNAL.union(Scope::ABSTRACT_UNIX_SOCKET).bits(), scope);
    }

    #[test]
    fn an_older_kernel_is_asked_for_what_it_knows() {
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
    fn a_rule_says_of_a_file_only_what_a_file_has() {
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
    fn nobody_may_make_device_files() {
        let devices = AccessFs::MAKE_CHAR.union(AccessFs::MAKE_BLOCK);
        for access in [AccessFs::READ, AccessFs::WRITE, AccessFs::USE] {
            assert_eq!(access.intersection(devices).bits(), 0);
        }
    }

    #[test]
    fn versions_below_one_are_none_and_newer_ones_are_the_newest_known() {
        assert_eq!(Abi::of_version(0), None);
        assert_eq!(Abi::of_version(-1), None);
        assert_eq!(Abi::of_version(3).map(Abi::version), Some(3));
        assert_eq!(Abi::of_version(99), Some(Abi::NEWEST));
    }
}
