//! The few system calls that neither `nix` nor `rustix` offers for any number a caller may name.

#![expect(unsafe_code, reason = "foreign system calls without a safe wrapper")]

pub(crate) mod fd;
pub(crate) mod kept;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// Whether /proc is one that shows this process.
pub(crate) fn has_own_proc() -> bool {
    std::fs::read_link("/proc/self")
        .is_ok_and(|pid| pid.as_os_str() == OsStr::new(&std::process::id().to_string()))
}

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

/// The environment that execve(2) would be given: lines one after the other, each with its NUL.
pub(crate) fn environment() -> Vec<u8> {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    let mut lines = Vec::with_capacity(4096);
    // SAFETY: a word of the C library's. Whoever changes it, or what it points to, sees to it that no other
    // thread is here meanwhile: see `Environment::of_caller`.
    let mut place = unsafe { environ };
    // Null after clearenv(3).
    while !place.is_null() {
        // SAFETY: not past the null pointer that ends the list.
        let line = unsafe { *place };
        if line.is_null() {
            break;
        }
        // SAFETY: the list is one of strings.
        let line = unsafe { std::ffi::CStr::from_ptr(line) };
        lines.extend_from_slice(line.to_bytes_with_nul());
        // SAFETY: the line was not the null pointer, so there is another word.
        place = unsafe { place.add(1) };
    }
    lines
}

/// CPU time and memory of a process that has ended: wait4(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time in user mode, of the process and of the children that it waited for.
    pub user: Duration,
    /// Time in the kernel, likewise.
    pub system: Duration,
    /// The largest resident set in bytes. `None` where the kernel cannot tell it from the caller's: a child
    /// that shares its caller's memory until it executes a program starts with the caller's peak.
    pub peak: Option<u64>,
}

/// Wait for the end of the child `pid` without reaping it. `None` if it still runs and `block` is false.
pub(crate) fn wait_without_reaping(
    pid: i32,
    block: bool,
) -> io::Result<Option<(ExitStatus, Usage)>> {
    waitid(pid, libc::WEXITED | libc::WNOWAIT | if block { 0 } else { libc::WNOHANG })
}

/// Reap a child that has ended.
pub(crate) fn reap(pid: i32) -> io::Result<()> {
    waitid(pid, libc::WEXITED | libc::WNOHANG).map(drop)
}

/// The kernel's waitid(2), which returns the usage too.
fn waitid(pid: i32, flags: i32) -> io::Result<Option<(ExitStatus, Usage)>> {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: likewise.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let (info_at, usage_at) = (&raw mut info, &raw mut usage);
    // SAFETY: the kernel writes to the two structures, which live on this stack.
    let result =
        unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, pid, info_at, flags, usage_at) };
    check(result as i32)?;
    // SAFETY: the kernel filled in the fields for SIGCHLD, or left zeros.
    if unsafe { info.si_pid() } == 0 {
        return Ok(None);
    }
    // SAFETY: likewise.
    let status = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    Ok(Some((ExitStatus::from_raw(status), usage_of(&usage))))
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let duration = |time: libc::timeval| {
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs() as u32 * 1000)
    };
    Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        peak: Some(usage.ru_maxrss.unsigned_abs() * 1024),
    }
}

/// The largest resident set of this process so far, in bytes.
pub(crate) fn own_peak() -> u64 {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the structure, which lives on this stack.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage_of(&usage).peak.unwrap_or_default()
}

/// The soft and the hard limit of this process: `prlimit64(2)`, by number, since the C libraries do not
/// agree on the type of the resource.
pub(crate) fn resource_limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limits = [0_u64; 2];
    let none = std::ptr::null::<u64>();
    // SAFETY: asked for no change, the kernel writes `struct rlimit64`, two 64-bit numbers, to
    // `limits`, which lives until the call returns.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, limits.as_mut_ptr()) };
    check(result as i32).map(|()| (limits[0], limits[1]))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
