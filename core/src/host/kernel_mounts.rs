//! The caller's own mounts of proc and sysfs, which restrict those of its containers.
//!
//! In a mount namespace of a new user namespace the kernel refuses a proc or sysfs that is less restricted than those
//! mounted there (`mount_too_revealing` in fs/namespace.c): it has to be read-only if they are, and to treat access
//! times as they do. Container engines mount /sys read-only. A new proc or sysfs repeats these attributes of the
//! caller's.

use std::io;

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};
use rustix::io::Errno;

/// How a mount treats access times: mount(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AccessTimes {
    /// `MS_RELATIME`, the kernel's default.
    #[default]
    Relative,
    /// `MS_NOATIME`.
    Never,
    /// `MS_STRICTATIME`.
    Strict,
}

/// The attributes that a new proc or sysfs repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) read_only: bool,
    pub(crate) access_times: AccessTimes,
    /// Whether directories keep no access times: `MS_NODIRATIME`.
    pub(crate) no_directory_access_times: bool,
}

impl Attributes {
    /// The attributes of the mount at `path`, or the default ones if there is no such file.
    pub(super) fn at(path: &str) -> Self {
        statvfs(path).map_or_else(|_| Self::default(), |found| Self::of(found.f_flag))
    }

    fn of(flags: StatVfsMountFlags) -> Self {
        let access_times = if flags.contains(StatVfsMountFlags::NOATIME) {
            AccessTimes::Never
        } else if flags.contains(StatVfsMountFlags::RELATIME) {
            AccessTimes::Relative
        } else {
            AccessTimes::Strict
        };
        Self {
            read_only: flags.contains(StatVfsMountFlags::RDONLY),
            access_times,
            no_directory_access_times: flags.contains(StatVfsMountFlags::NODIRATIME),
        }
    }
}

/// Whether /sys is a sysfs, rather than an empty directory or what an outer container mounted over it.
///
/// # Errors
///
/// Those of statfs(2), for example from a seccomp filter. Without an answer the container might get the host's /sys.
pub(super) fn sys_is_mounted() -> io::Result<bool> {
    // linux/magic.h
    const SYSFS_MAGIC: u64 = 0x6265_6572;
    match statfs("/sys") {
        Ok(found) => Ok(found.f_type as u64 == SYSFS_MAGIC),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_those_that_statvfs_reports() {
        use StatVfsMountFlags as Flag;
        assert_eq!(Attributes::of(Flag::RELATIME | Flag::NOSUID), Attributes::default());
        let bare = Attributes { access_times: AccessTimes::Strict, ..Attributes::default() };
        assert_eq!(Attributes::of(Flag::NODEV), bare);
        let all = Attributes {
            read_only: true,
            access_times: AccessTimes::Never,
            no_directory_access_times: true,
        };
        assert_eq!(Attributes::of(Flag::RDONLY | Flag::NOATIME | Flag::NODIRATIME), all);
    }

    #[test]
    fn a_missing_file_has_the_default_attributes() {
        assert_eq!(Attributes::at("/no/such/directory"), Attributes::default());
    }
}
