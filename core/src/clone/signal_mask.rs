//! The calling thread's signal mask.

#![expect(unsafe_code, reason = "libc's wrappers leave out the signals that it keeps for itself")]

use minidocker_init::raw::{nr, syscall};

/// Reads the signal mask of the calling thread.
pub(crate) fn signal_mask() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the eight bytes of the mask.
    let read = unsafe { syscall(nr::RT_SIGPROCMASK, [0, 0, &raw mut mask as u64, 8, 0, 0]) };
    debug_assert!(read.is_ok(), "reading the signal mask cannot fail");
    mask
}

/// Blocks every signal, including those that libc reserves, and returns the previous mask.
pub(crate) fn block_signals() -> u64 {
    static EVERY: u64 = u64::MAX;
    let mut before = 0_u64;
    let args = [2, &raw const EVERY as u64, &raw mut before as u64, 8, 0, 0];
    // SAFETY: the kernel reads and writes the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
    before
}

pub(crate) fn restore_signals(mask: u64) {
    let args = [2, &raw const mask as u64, 0, 8, 0, 0];
    // SAFETY: the kernel reads the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
}
