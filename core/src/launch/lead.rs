//! The way into spare namespaces: a process that goes ahead.
//!
//! clone(2) makes namespaces, but enters none. So the caller clones a *lead*, which enters the spare
//! ones, clones the child from there, with the rest of the flags and as a child of the caller's
//! (`CLONE_PARENT`), and ends. All three share the caller's memory, and the law of [`child`] holds for the
//! lead too. That is safe here, as it is not where a container's processes may be inside: only a process of
//! the caller's user could have entered what was just made, and it may look into the caller anyway.

#![expect(unsafe_code, reason = "clone(2), on a stack that two processes have")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use crate::child;
use crate::program::{Header, SPARE_REFUSED};
use crate::raw::{Errno, exit, nr, syscall};

/// What of clone(2)'s flags the spare namespaces stand for.
pub(super) const SPARED: u64 =
    (libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWIPC) as u64;

/// What the child is cloned with beside its namespaces.
pub(super) const CHILD: u64 = (libc::CLONE_VM
    | libc::CLONE_PARENT
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID
    | libc::SIGCHLD) as u64;

/// What the lead does.
pub(super) extern "C" fn start(program: *mut c_void) -> c_int {
    let program = program.cast::<Header>();
    // SAFETY: the launch's relocated program, which it keeps until lead and child have left this memory.
    match unsafe { enter_and_clone(program) } {
        // SAFETY: this is the child now; the promise is the same.
        Ok(()) => unsafe { child::run(program) },
        Err(errno) => {
            // SAFETY: as above; what others write of the header is atomic.
            let header = unsafe { &*program };
            header.failed_errno.store(errno, Ordering::Relaxed);
            header.failed_at.store(SPARE_REFUSED, Ordering::Release);
            exit(127)
        }
    }
}

/// Returns in the child, or with an error in the lead.
///
/// # Safety
///
/// `program` is a relocated program whose [`lead`](Header::lead) is filled in.
unsafe fn enter_and_clone(program: *const Header) -> Result<(), Errno> {
    // SAFETY: the caller's promise.
    let header = unsafe { &*program };
    let lead = &header.lead;
    for (descriptor, kind) in [
        (lead.user, libc::CLONE_NEWUSER),
        (lead.net, libc::CLONE_NEWNET),
        (lead.ipc, libc::CLONE_NEWIPC),
    ] {
        if lead.enters & kind as u64 != 0 {
            // SAFETY: takes no pointer; what changes is this process's.
            unsafe { syscall(nr::SETNS, [descriptor as u64, kind as u64, 0, 0, 0, 0]) }?;
        }
        // The child has no use for it.
        // SAFETY: takes no pointer; the table of descriptors is this process's own.
        unsafe { syscall(nr::CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]) }?;
    }
    // SAFETY: the flags are `CHILD` and namespaces; both words live in the program.
    let result = unsafe {
        clone_and_end(lead.flags, lead.child.as_ptr() as u64, header.tid.as_ptr() as u64)
    };
    if result == 0 { Ok(()) } else { Err(-result as Errno) }
}

/// clone(2): returns 0 in the child, or the negative error number in the parent, which otherwise ends.
/// The child goes on where its parent was, on its parent's stack: the parent executes nothing
/// that touches the stack afterwards.
///
/// # Safety
///
/// `flags` have `CLONE_VM` and no `CLONE_THREAD` or `CLONE_SETTLS`; `child` and `tid` are words that live
/// as long as either process; nothing but the result of this call tells the two apart.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_and_end(flags: u64, child: u64, tid: u64) -> i64 {
    let result: i64;
    // SAFETY: the system call convention, as in `raw::syscall`; the parent does not leave the block.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jle 2f",
            "mov eax, {exit}",
            "xor edi, edi",
            "syscall",
            "ud2",
            "2:",
            exit = const nr::EXIT,
            inlateout("rax") nr::CLONE as i64 => result,
            inlateout("rdi") flags => _,
            in("rsi") 0_u64,
            in("rdx") child,
            in("r10") tid,
            in("r8") 0_u64,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// As on x86-64.
///
/// # Safety
///
/// As on x86-64.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_and_end(flags: u64, child: u64, tid: u64) -> i64 {
    let result: i64;
    // SAFETY: the system call convention, as in `raw::syscall`; the parent does not leave the block.
    unsafe {
        core::arch::asm!(
            "svc 0",
            "cmp x0, #0",
            "b.le 2f",
            "mov x0, #0",
            "mov x8, #{exit}",
            "svc 0",
            "brk 1",
            "2:",
            exit = const nr::EXIT,
            inlateout("x8") nr::CLONE as u64 => _,
            inlateout("x0") flags as i64 => result,
            in("x1") 0_u64,
            in("x2") child,
            in("x3") 0_u64,
            in("x4") tid,
            options(nostack),
        );
    }
    result
}
