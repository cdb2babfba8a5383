//! Whether other processes of the caller's user may trace it: `PR_SET_DUMPABLE`.
//!
//! A change of ids clears that, also one by a child that shares the caller's memory. So a launch may clear it for a
//! moment, and what another thread reads then is not the caller's choice.

use std::process;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use nix::sys::prctl::{get_dumpable, set_dumpable};

/// The numbers of such launches of this process that have begun, and that have ended.
static BEGUN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
/// The process that the numbers are about: a fork inherits them, but no thread that would end a launch.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Return whether the caller is dumpable when no launch is under way.
pub(crate) fn is_dumpable() -> bool {
    loop {
        let begun = BEGUN.load(SeqCst);
        if PROCESS.load(SeqCst) == process::id() && ENDED.load(SeqCst) != begun {
            // Only the launches of dumpable callers count.
            return true;
        }
        let dumpable = get_dumpable().unwrap_or(false);
        if BEGUN.load(SeqCst) == begun {
            return dumpable;
        }
    }
}

/// Make the caller dumpable if it is not.
pub(crate) fn make_dumpable() {
    if get_dumpable() == Ok(false) {
        let made = set_dumpable(true);
        debug_assert!(made.is_ok(), "a process may always make itself dumpable");
    }
}

/// A launch of a dumpable caller that may clear it. When this is dropped, the caller is dumpable again.
pub(crate) struct EndangeredDumpable(());

impl EndangeredDumpable {
    pub(crate) fn begin() -> Self {
        let before = PROCESS.swap(process::id(), SeqCst);
        if before != 0 && before != process::id() {
            ENDED.store(BEGUN.load(SeqCst), SeqCst);
        }
        BEGUN.fetch_add(1, SeqCst);
        Self(())
    }
}

impl Drop for EndangeredDumpable {
    fn drop(&mut self) {
        make_dumpable();
        ENDED.fetch_add(1, SeqCst);
    }
}
