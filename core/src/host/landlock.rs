//! Whether the kernel has Landlock, even where a seccomp filter around the caller answers in its place.
//!
//! A kernel without Landlock answers ENOSYS, and one that switched it off at boot EOPNOTSUPP. A filter may give the same
//! answers for a kernel that has it. Then a container would start with less confinement than its profile promises.

use std::fs;
use std::io;

use rustix::thread::{SecureComputingMode, secure_computing_mode};

use crate::error::SpawnError;
use crate::spec::landlock::Abi;
use crate::spec::seccomp::KernelVersion;
use crate::step::Step;
use crate::sys;

/// The first kernel that has Landlock.
const FIRST: KernelVersion = KernelVersion { major: 5, minor: 13 };

/// `LSM_ID_LANDLOCK` of linux/lsm.h.
const LSM_ID_LANDLOCK: u64 = 110;

/// Returns the version of Landlock; `None` if the kernel has none.
///
/// # Errors
///
/// [`SpawnError`] with [`Step::Landlock`] if a filter refuses `landlock_create_ruleset(2)`, or may do so.
pub(crate) fn version(kernel: KernelVersion) -> Result<Option<Abi>, SpawnError> {
    probe(kernel).map_err(|error| SpawnError::from_io(Step::Landlock, &error))
}

/// Like [`version`], with the error of the call.
pub(crate) fn probe(kernel: KernelVersion) -> io::Result<Option<Abi>> {
    let error = match sys::landlock_version() {
        Ok(version) => return Ok(Abi::of_version(version)),
        Err(error) => error,
    };
    let absent = match error.raw_os_error() {
        Some(errno @ (libc::ENOSYS | libc::EOPNOTSUPP)) => {
            !is_filtered() || is_absent(errno, kernel, is_active())
        }
        _ => false,
    };
    if absent { Ok(None) } else { Err(error) }
}

/// Whether this thread has a seccomp filter.
fn is_filtered() -> bool {
    // EINVAL: a kernel without seccomp.
    !matches!(
        secure_computing_mode(),
        Ok(SecureComputingMode::Disabled) | Err(rustix::io::Errno::INVAL)
    )
}

/// Whether an answer to a filtered thread is the kernel's own. Without a list of the security modules, ENOSYS is
/// believed only of a kernel that is too old for Landlock. EOPNOTSUPP is believed, because no filter of an engine or of
/// systemd gives this answer by default.
fn is_absent(errno: i32, kernel: KernelVersion, active: Option<bool>) -> bool {
    match active {
        Some(active) => !active,
        None => errno == libc::EOPNOTSUPP || kernel < FIRST,
    }
}

/// Whether Landlock is among the active security modules; `None` if neither securityfs nor `lsm_list_modules(2)`
/// (Linux 6.8) shows them.
fn is_active() -> Option<bool> {
    match fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(names) => Some(names.trim_end().split(',').any(|name| name == "landlock")),
        Err(_) => sys::security_modules().ok().map(|ids| ids.contains(&LSM_ID_LANDLOCK)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: KernelVersion = KernelVersion { major: 6, minor: 1 };

    #[test]
    fn the_list_of_modules_tells_the_answer_of_a_filter_from_that_of_the_kernel() {
        for errno in [libc::ENOSYS, libc::EOPNOTSUPP] {
            assert!(!is_absent(errno, NEW, Some(true)));
            assert!(is_absent(errno, NEW, Some(false)));
        }
    }

    #[test]
    fn without_that_list_enosys_is_believed_only_of_an_old_kernel() {
        assert!(!is_absent(libc::ENOSYS, NEW, None));
        assert!(!is_absent(libc::ENOSYS, FIRST, None));
        assert!(is_absent(libc::ENOSYS, KernelVersion { major: 5, minor: 12 }, None));
        assert!(is_absent(libc::EOPNOTSUPP, NEW, None));
    }
}
