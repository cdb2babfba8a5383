//! A cache of the filters that this process has compiled.

use std::sync::{Arc, Mutex, TryLockError};

use super::{Filter, OnDenied, Platform, SeccompProfile, compile};
use crate::error::SpecError;

type CachedFilter = (Arc<SeccompProfile>, Platform, OnDenied, Arc<Filter>);

/// The maximum number of filters. A program uses only a few profiles.
const CAPACITY: usize = 16;

static CACHE: Mutex<Vec<CachedFilter>> = Mutex::new(Vec::new());

/// Return the result of [`compile()`], from the cache if it was used recently.
///
/// # Errors
///
/// Those of [`compile()`].
pub fn compiled(
    profile: &Arc<SeccompProfile>,
    target: &Platform,
    on_denied: OnDenied,
) -> Result<Arc<Filter>, SpecError> {
    // Never wait for the lock: if the process forks while another thread holds it, it stays locked in the
    // child. Ignore poisoning, because the cache is always consistent.
    let entries = || match CACHE.try_lock() {
        Ok(entries) => Some(entries),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    if let Some(mut entries) = entries() {
        let known = entries.iter().position(|(of, with, denied, _)| {
            (with, *denied) == (target, on_denied) && (Arc::ptr_eq(of, profile) || of == profile)
        });
        if let Some(place) = known {
            // Keep the least recently used entry last.
            entries[..=place].rotate_right(1);
            return Ok(Arc::clone(&entries[0].3));
        }
    }
    let filter = Arc::new(compile(profile, target, on_denied)?);
    if let Some(mut entries) = entries() {
        entries.truncate(CAPACITY - 1);
        entries.insert(0, (Arc::clone(profile), *target, on_denied, Arc::clone(&filter)));
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{CAPACITY, compiled};
    use crate::spec::capabilities::CapabilitySet;
    use crate::spec::seccomp::{
        Arch, KernelVersion, OnDenied, Platform, SeccompProfile, Syscall, compile,
    };

    #[test]
    fn a_filter_is_compiled_once_for_each_profile_target_and_answer() {
        let target = Platform {
            arch: Arch::X86_64,
            kernel: KernelVersion { major: 6, minor: 1 },
            capabilities: CapabilitySet::EMPTY,
            shares_pids: false,
        };
        let profile = Arc::new(SeccompProfile::deny(&["ptrace"]).unwrap());
        let first = compiled(&profile, &target, OnDenied::Errno).unwrap();
        let equal = Arc::new(SeccompProfile::deny(&["ptrace"]).unwrap());
        assert!(Arc::ptr_eq(&first, &compiled(&equal, &target, OnDenied::Errno).unwrap()));
        let killing = compiled(&profile, &target, OnDenied::Kill).unwrap();
        assert_eq!(*killing, compile(&profile, &target, OnDenied::Kill).unwrap());
        assert_ne!(*killing, *first);
        // Once other filters have displaced it, the same filter is compiled again.
        for call in Syscall::all().take(CAPACITY) {
            let other = Arc::new(SeccompProfile::deny(&[call.name()]).unwrap());
            compiled(&other, &target, OnDenied::Errno).unwrap();
        }
        let again = compiled(&profile, &target, OnDenied::Errno).unwrap();
        assert!(!Arc::ptr_eq(&first, &again));
        assert_eq!(first, again);
    }
}
