//! System calls without libc: the child shares the caller's memory, and so its errno.

#![expect(unsafe_code, reason = "a system call is inline assembly")]

use core::arch::asm;

/// Makes system call `number`; a result from -4095 to -1 is a negated errno.
///
/// # Safety
///
/// Every argument that the kernel takes for an address must be valid for what the call does with
/// it, for as long as the call lasts, and the call must not break an invariant of the program
/// (such as unmapping memory that is in use).
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn call(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 convention: the number in rax, six arguments, rcx and r11 clobbered; what
    // the call itself does is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
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
    result
}

/// Makes system call `number`; a result from -4095 to -1 is a negated errno.
///
/// # Safety
///
/// As on x86-64: addresses valid for the call, and no invariant of the program broken.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn call(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the AArch64 convention: the number in x8, six arguments from x0 on, nothing else
    // clobbered; what the call itself does is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}
