//! System calls without libc: no `errno`, no thread-local storage, no cancellation points.
//!
//! Between clone and exec the child runs in its parent's memory while the parent runs too. The C library's
//! wrappers write `errno` into thread-local storage, which would corrupt the caller's. The static helper has
//! no libc at all, so this module uses only `core`. A test of minidocker-core checks the system call numbers
//! below against libc.

#![expect(unsafe_code, reason = "system calls are made with inline assembly")]

/// An error number as the kernel returned it, for example 2 for `ENOENT`.
pub type Errno = i32;

/// Make system call `nr` with six arguments.
///
/// # Errors
///
/// The error number that the kernel returns.
///
/// # Safety
///
/// The kernel checks little: every pointer among `args` must be valid for the call's reads and writes, for
/// as long as the call uses it; the caller must own the descriptors that the call closes or replaces; and
/// the call must return once, in this thread.
#[cfg(target_arch = "x86_64")]
#[inline]
pub unsafe fn syscall(nr: usize, args: [u64; 6]) -> Result<usize, Errno> {
    let ret: isize;
    // SAFETY: the x86-64 system call convention: the number in rax, arguments in rdi, rsi, rdx, r10, r8
    // and r9; rcx and r11 are clobbered, the stack is not touched. The caller vouches for the effects of
    // the call.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") nr as isize => ret,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    check(ret)
}

/// Make system call `nr` with six arguments.
///
/// # Errors
///
/// The error number that the kernel returns.
///
/// # Safety
///
/// As on x86-64: the arguments must be valid for the call, which must return once, in this thread.
#[cfg(target_arch = "aarch64")]
#[inline]
pub unsafe fn syscall(nr: usize, args: [u64; 6]) -> Result<usize, Errno> {
    let ret: isize;
    // SAFETY: the AArch64 system call convention: the number in x8, arguments in x0 to x5, the
    // result in x0. The caller vouches for the effects of the call.
    unsafe {
        core::arch::asm!(
            "svc 0",
            in("x8") nr,
            inlateout("x0") args[0] as isize => ret,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    check(ret)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("minidocker makes raw system calls, and supports only x86_64 and aarch64");

fn check(ret: isize) -> Result<usize, Errno> {
    // The kernel returns -4095 to -1 for an error. Every other value, even a high address, is a result.
    if (-4095..0).contains(&ret) { Err(-ret as Errno) } else { Ok(ret as usize) }
}

/// Numbers of the system calls that the child and the helper make on their own.
#[cfg(target_arch = "x86_64")]
#[expect(missing_docs, reason = "each constant is named after its system call")]
pub mod nr {
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const FSTAT: usize = 5;
    pub const MMAP: usize = 9;
    pub const RT_SIGACTION: usize = 13;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const SENDMSG: usize = 46;
    pub const RECVMSG: usize = 47;
    pub const CLONE: usize = 56;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const CHDIR: usize = 80;
    pub const LSEEK: usize = 8;
    pub const READ: usize = 0;
    pub const GETDENTS64: usize = 217;
    pub const OPENAT: usize = 257;
    pub const FCNTL: usize = 72;
    pub const PRCTL: usize = 157;
    pub const SETSID: usize = 112;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const FUTEX: usize = 202;
    pub const EXIT_GROUP: usize = 231;
    pub const EPOLL_CTL: usize = 233;
    pub const EPOLL_PWAIT: usize = 281;
    pub const EPOLL_CREATE1: usize = 291;
    pub const PRLIMIT64: usize = 302;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const PIDFD_OPEN: usize = 434;
    pub const CLOSE_RANGE: usize = 436;
}

/// Numbers of the system calls that the child and the helper make on their own.
#[cfg(target_arch = "aarch64")]
#[expect(missing_docs, reason = "each constant is named after its system call")]
pub mod nr {
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const FSTAT: usize = 80;
    pub const MMAP: usize = 222;
    pub const RT_SIGACTION: usize = 134;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const SENDMSG: usize = 211;
    pub const RECVMSG: usize = 212;
    pub const CLONE: usize = 220;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const CHDIR: usize = 49;
    pub const LSEEK: usize = 62;
    pub const READ: usize = 63;
    pub const GETDENTS64: usize = 61;
    pub const OPENAT: usize = 56;
    pub const FCNTL: usize = 25;
    pub const PRCTL: usize = 167;
    pub const SETSID: usize = 157;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const FUTEX: usize = 98;
    pub const EXIT_GROUP: usize = 94;
    pub const EPOLL_CTL: usize = 21;
    pub const EPOLL_PWAIT: usize = 22;
    pub const EPOLL_CREATE1: usize = 20;
    pub const PRLIMIT64: usize = 261;
    pub const PIDFD_SEND_SIGNAL: usize = 424;
    pub const PIDFD_OPEN: usize = 434;
    pub const CLOSE_RANGE: usize = 436;
}

/// End this process with all its threads, with `status`.
pub fn exit(status: i32) -> ! {
    loop {
        // SAFETY: takes no pointer and does not return.
        let _ = unsafe { syscall(nr::EXIT_GROUP, [status as u64, 0, 0, 0, 0, 0]) };
    }
}
