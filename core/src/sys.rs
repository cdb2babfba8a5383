//! The few system calls that neither `nix` nor `rustix` offers for any number a caller may name.

#![expect(unsafe_code, reason = "foreign functions that take numbers only")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// kill(2). Real-time signals have no name in `nix`.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two numbers, which the kernel checks; no memory of ours is involved.
    check(unsafe { libc::kill(pid, signal) })
}

/// `pidfd_send_signal(2)`, with every signal.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: without information about the signal the kernel makes up that of kill(2).
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    check(result as i32)
}

/// The version of Landlock in this kernel: `landlock_create_ruleset(2)`, which then makes none.
pub(crate) fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: asked for the version, the kernel wants a null pointer and the size 0, reads no memory
    // and opens nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    if version >= 0 { Ok(version) } else { Err(io::Error::last_os_error()) }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
