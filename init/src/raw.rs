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

/// Declares the numbers of system calls: on `x86_64`, and on `aarch64`.
macro_rules! numbers {
    ($($name:ident = $x86_64:literal, $aarch64:literal;)+) => {
        /// Numbers of the system calls that the child and the helper make on their own.
        #[expect(missing_docs, reason = "each constant is named after its system call")]
        pub mod nr {
            $(pub const $name: usize =
                if cfg!(target_arch = "x86_64") { $x86_64 } else { $aarch64 };)+

            /// Every number, and its name in capital letters.
            pub const ALL: &[(usize, &str)] = &[$(($name, stringify!($name))),+];
        }
    };
}

numbers! {
    CHDIR = 80, 49;
    CLONE = 56, 220;
    CLOSE = 3, 57;
    CLOSE_RANGE = 436, 436;
    EPOLL_CREATE1 = 291, 20;
    EPOLL_CTL = 233, 21;
    EPOLL_PWAIT = 281, 22;
    EXIT = 60, 93;
    EXIT_GROUP = 231, 94;
    FCNTL = 72, 25;
    FSTAT = 5, 80;
    FUTEX = 202, 98;
    GETDENTS64 = 217, 61;
    GETPID = 39, 172;
    KILL = 62, 129;
    LSEEK = 8, 62;
    MMAP = 9, 222;
    OPENAT = 257, 56;
    PIDFD_OPEN = 434, 434;
    PIDFD_SEND_SIGNAL = 424, 424;
    PPOLL = 271, 73;
    PRCTL = 157, 167;
    PRLIMIT64 = 302, 261;
    READ = 0, 63;
    RECVMSG = 47, 212;
    RT_SIGACTION = 13, 134;
    RT_SIGPROCMASK = 14, 135;
    RT_SIGTIMEDWAIT = 128, 137;
    SENDMSG = 46, 211;
    SETSID = 112, 157;
    SIGNALFD4 = 289, 74;
    WAIT4 = 61, 260;
    WRITE = 1, 64;
    WRITEV = 20, 66;
}

/// Return a call's name as in its man page, in capital letters; `None` if the number is not in [`nr`].
#[must_use]
pub fn name(number: usize) -> Option<&'static str> {
    nr::ALL.iter().find(|&&(found, _)| found == number).map(|&(_, name)| name)
}

/// Calls with arguments that have no effect, and the error that the kernel then returns.
pub type Rehearsal = [(usize, [u64; 6], Errno)];

/// Make each call of a rehearsal, and return the first that has another result, with its error number: the kernel
/// lacks the call, or a seccomp filter refuses it.
#[must_use]
pub fn refused(rehearsal: &Rehearsal) -> Option<(usize, Errno)> {
    const ENOSYS: Errno = 38;
    rehearsal.iter().find_map(|&(number, args, expected)| {
        // SAFETY: the kernel refuses these arguments before it has any effect.
        match unsafe { syscall(number, args) } {
            Err(errno) if errno == expected => None,
            Err(errno) => Some((number, errno)),
            Ok(_) => Some((number, ENOSYS)),
        }
    })
}

/// End this process with all its threads, with `status`.
pub fn exit(status: i32) -> ! {
    for number in [nr::EXIT_GROUP, nr::EXIT] {
        // SAFETY: takes no pointer and does not return unless a seccomp filter refuses it.
        let _ = unsafe { syscall(number, [status as u64, 0, 0, 0, 0, 0]) };
    }
    // A filter refuses both. An invalid instruction ends the process even if it blocks the signal.
    // SAFETY: the instruction does not return.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("ud2", options(noreturn, nomem, nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("udf #0", options(noreturn, nomem, nostack));
    }
}
