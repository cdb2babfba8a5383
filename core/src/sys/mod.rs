//! System calls for which `nix` and `rustix` do not accept every value that a caller may pass.

#![expect(unsafe_code, reason = "foreign system calls without a safe wrapper")]

pub(crate) mod dumpable;
pub(crate) mod fd;
pub(crate) mod kept;
pub(crate) mod kernel_text;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// Call `mount_setattr(2)` on the mounts of a detached tree: make them private, and with `namespace` map the ids of
/// their files as that user namespace does.
pub(crate) fn set_up_tree(
    tree: BorrowedFd<'_>,
    namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: if namespace.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: namespace.map_or(0, |namespace| namespace.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    let (path, place) = (c"".as_ptr(), &raw const attributes);
    let size = size_of_val(&attributes);
    // SAFETY: the kernel reads the path and `size` bytes of the structure, which outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), path, flags, place, size)
    };
    check(result as i32)
}

/// Return whether /proc shows this process.
pub(crate) fn has_own_proc() -> bool {
    std::fs::read_link("/proc/self")
        .is_ok_and(|pid| pid.as_os_str() == OsStr::new(&std::process::id().to_string()))
}

/// Call kill(2), with any signal: `nix` has no real-time signals.
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two numbers, which the kernel checks, and accesses no memory of this process.
    check(unsafe { libc::kill(pid, signal) })
}

/// Call `pidfd_send_signal(2)`, with any signal.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the siginfo pointer may be null; the kernel then fills in siginfo as for kill(2).
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    check(result as i32)
}

/// Return the number of bytes that were sent on a socket and not received yet: `SIOCOUTQ`, `unix(7)`.
pub(crate) fn unreceived(socket: BorrowedFd<'_>) -> io::Result<i32> {
    let mut count = 0_i32;
    // SAFETY: the kernel writes one number to `count`, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    check(result).map(|()| count)
}

/// Return the version of Landlock in this kernel; `landlock_create_ruleset(2)` then creates no ruleset.
pub(crate) fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel expects a null pointer and the size 0, accesses no memory and
    // opens nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    if version >= 0 { Ok(version) } else { Err(io::Error::last_os_error()) }
}

/// Return the ids of the kernel's active security modules: `lsm_list_modules(2)`, Linux 6.8.
pub(crate) fn security_modules() -> io::Result<Vec<u64>> {
    /// The number of the call on every architecture; libc has no name for it yet.
    const LSM_LIST_MODULES: libc::c_long = 461;
    // The kernel has about a dozen.
    let mut ids = vec![0_u64; 64];
    let mut size = size_of_val(ids.as_slice()) as u32;
    let (at, size_at) = (ids.as_mut_ptr(), &raw mut size);
    // SAFETY: the kernel writes at most `size` bytes to `ids`, and the number that it needs to `size`; both outlive
    // the call.
    let count = unsafe { libc::syscall(LSM_LIST_MODULES, at, size_at, 0) };
    ids.truncate(usize::try_from(count).map_err(|_| io::Error::last_os_error())?);
    Ok(ids)
}

/// Return the environment of this process: its lines in sequence, each with its NUL.
pub(crate) fn environment() -> Vec<u8> {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    let mut lines = Vec::with_capacity(4096);
    // SAFETY: a variable of the C library. Code that changes it, or the memory that it points to, must ensure
    // that no other thread reads it meanwhile: see `Environment::of_caller`.
    let mut place = unsafe { environ };
    // Null after clearenv(3).
    while !place.is_null() {
        // SAFETY: `place` is not past the null pointer that ends the list.
        let line = unsafe { *place };
        if line.is_null() {
            break;
        }
        // SAFETY: every pointer before the null pointer is a string.
        let line = unsafe { std::ffi::CStr::from_ptr(line) };
        lines.extend_from_slice(line.to_bytes_with_nul());
        // SAFETY: the line was not the null pointer, so another pointer follows.
        place = unsafe { place.add(1) };
    }
    lines
}

/// The CPU time and memory that a process used until it ended, as from wait4(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The time in user mode of the process and of the children that it waited for.
    pub user: Duration,
    /// The time in the kernel of the same processes.
    pub system: Duration,
    /// The largest resident set in bytes. `None` if it may be the caller's: a child that shares its caller's
    /// memory until it executes a program starts with the caller's peak.
    pub peak: Option<u64>,
}

/// The child that a wait is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitTarget<'a> {
    /// Only this process: no other one gets its descriptor.
    Pidfd(BorrowedFd<'a>),
    /// Without a descriptor: a process that must not have been reaped.
    Pid(i32),
}

/// Wait for the end of a child without reaping it; `None` if it still runs and `block` is false.
pub(crate) fn wait_without_reaping(
    child: WaitTarget<'_>,
    block: bool,
) -> io::Result<Option<(ExitStatus, Usage)>> {
    waitid(child, libc::WEXITED | libc::WNOWAIT | if block { 0 } else { libc::WNOHANG })
}

/// Reap a child that has ended.
pub(crate) fn reap(child: WaitTarget<'_>) -> io::Result<()> {
    waitid(child, libc::WEXITED | libc::WNOHANG).map(drop)
}

/// Call the kernel's waitid(2), which also returns the usage.
fn waitid(child: WaitTarget<'_>, flags: i32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let (kind, id) = match child {
        WaitTarget::Pidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        WaitTarget::Pid(pid) => (libc::P_PID, pid),
    };
    // SAFETY: the structure consists of integers, for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: likewise.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let (info_at, usage_at) = (&raw mut info, &raw mut usage);
    // SAFETY: the kernel writes to the two structures, which live on this stack.
    let result = unsafe { libc::syscall(libc::SYS_waitid, kind, id, info_at, flags, usage_at) };
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

/// Return how a process ended that has been reaped, from Linux 6.15 on; `None` if it has not been reaped yet.
pub(crate) fn status_after_reaping(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    /// The first version of the kernel's `struct pidfd_info`.
    #[derive(Default)]
    #[repr(C)]
    struct Info {
        mask: u64,
        control_group: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`
    const PIDFD_GET_INFO: u64 = 3 << 30 | (size_of::<Info>() as u64) << 16 | 0xFF << 8 | 0x0B;
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    let place = &raw mut info;
    // SAFETY: the number contains the size of the structure, which the kernel reads and writes.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, place) };
    check(result)?;
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code)))
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

/// Return the largest resident set of this process so far, in bytes.
pub(crate) fn own_peak() -> u64 {
    // SAFETY: the structure consists of integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the structure, which lives on this stack.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage_of(&usage).peak.unwrap_or_default()
}

/// Return the soft and the hard limit of this process: `prlimit64(2)`.
///
/// The resource is a number, because the C libraries disagree on its type.
pub(crate) fn resource_limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limits = [0_u64; 2];
    let none = std::ptr::null::<u64>();
    // SAFETY: without new limits, the kernel only writes `struct rlimit64`, two 64-bit numbers, to
    // `limits`, which outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, limits.as_mut_ptr()) };
    check(result as i32).map(|()| (limits[0], limits[1]))
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
