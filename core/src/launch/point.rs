//! The point at which a thread stands still while it is forked, and the state that its copy restores.

#![expect(unsafe_code, reason = "saves and restores registers in assembly")]

use std::ffi::c_void;

use minidocker_init::program::Header;
use minidocker_init::raw::syscall;

/// The place where a thread stands still, for its copy in another process.
#[repr(C)]
pub(super) struct Point {
    /// The stack pointer below the saved registers.
    stack: usize,
    program: *mut Header,
}

impl Point {
    pub(super) const fn new(program: *mut Header) -> Self {
        Self { stack: 0, program }
    }

    pub(super) const fn program(&self) -> *mut Header {
        self.program
    }

    /// Saves the place of this thread, and calls `wait`. Returns `false` when `wait` returns. If a process with a copy
    /// of the memory, made during `wait`, calls [`resume`], this returns `true` there.
    pub(super) fn stand(&mut self, wait: extern "C" fn(*mut c_void), context: *mut c_void) -> bool {
        // SAFETY: `self` outlives the call, which returns at most once in each process.
        unsafe { stand(self, wait, context) != 0 }
    }
}

/// Returns `true` from the [`Point::stand`] in progress in the memory of this process.
///
/// # Safety
///
/// The memory is a copy, made while a thread was in the `wait` of that call, and this process has the thread pointer
/// of that thread. Above the frames of `wait`, the stack of the thread has not changed since.
pub(super) unsafe fn resume(point: &Point) -> ! {
    // SAFETY: the caller's promise.
    unsafe { switch(point.stack) }
}

// `stand` pushes the callee-saved registers, and on x86-64 the control words of both floating point units, so
// the stack pointer is all that a point has to save.

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn stand(
    point: *mut Point,
    wait: extern "C" fn(*mut c_void),
    context: *mut c_void,
) -> u32 {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // Also aligns the stack to sixteen bytes.
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "mov rdi, rdx",
        "call rsi",
        "xor eax, eax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(stack: usize) -> ! {
    core::arch::naked_asm!(
        "mov rsp, rdi",
        "ldmxcsr [rsp]",
        "fldcw [rsp + 4]",
        "mov eax, 1",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn stand(
    point: *mut Point,
    wait: extern "C" fn(*mut c_void),
    context: *mut c_void,
) -> u32 {
    core::arch::naked_asm!(
        "stp x29, x30, [sp, #-160]!",
        "stp x19, x20, [sp, #16]",
        "stp x21, x22, [sp, #32]",
        "stp x23, x24, [sp, #48]",
        "stp x25, x26, [sp, #64]",
        "stp x27, x28, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0]",
        "mov x0, x2",
        "blr x1",
        "mov w0, wzr",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn switch(stack: usize) -> ! {
    core::arch::naked_asm!(
        "mov sp, x0",
        "mov w0, #1",
        "ldp x19, x20, [sp, #16]",
        "ldp x21, x22, [sp, #32]",
        "ldp x23, x24, [sp, #48]",
        "ldp x25, x26, [sp, #64]",
        "ldp x27, x28, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "ldp x29, x30, [sp], #160",
        "ret",
    )
}

/// Per-thread state in the kernel that the copy lacks: the child that forks in the thread's place does not have
/// it.
pub(super) struct ThreadState {
    alternate_stack: libc::stack_t,
    /// The address of the C library's `struct rseq` for this thread; 0 if none is registered.
    rseq: u64,
}

impl ThreadState {
    pub(super) fn of_this_thread() -> Self {
        let mut alternate_stack =
            libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the kernel writes the structure, which lives on this stack.
        let _ = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut alternate_stack) };
        Self { alternate_stack, rseq: rseq_area() }
    }

    /// Restores the state. Call it in the copy.
    pub(super) fn restore(&self) {
        /// `RSEQ_SIG` of the C library: the signature before each abort handler.
        #[cfg(target_arch = "x86_64")]
        const SIGNATURE: u64 = 0x5305_3053;
        #[cfg(target_arch = "aarch64")]
        const SIGNATURE: u64 = 0xd428_bc00;
        /// A size that every kernel with rseq(2) accepts.
        const SIZE: u64 = 32;
        if self.alternate_stack.ss_flags & libc::SS_DISABLE == 0 {
            // SAFETY: the alternate stack of this thread, at the same address in the copy.
            let _ =
                unsafe { libc::sigaltstack(&raw const self.alternate_stack, std::ptr::null_mut()) };
        }
        if self.rseq != 0 {
            let number = libc::SYS_rseq as usize;
            // Without it sched_getcpu(3) would always return the CPU that the caller ran on.
            // SAFETY: the C library's own area for this thread, as it registered it.
            let _ = unsafe { syscall(number, [self.rseq, SIZE, 0, SIGNATURE, 0, 0]) };
        }
    }
}

/// The address of the C library's `struct rseq` for this thread; 0 if there is none. The two variables exist since
/// glibc 2.35: "Restartable Sequences" in its manual.
fn rseq_area() -> u64 {
    let variable = |name: &std::ffi::CStr| {
        // SAFETY: a C string, and the handle for all loaded libraries.
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
    };
    let (size, offset) = (variable(c"__rseq_size"), variable(c"__rseq_offset"));
    if size.is_null() || offset.is_null() {
        return 0;
    }
    // SAFETY: `const unsigned int __rseq_size`, by the C library's documentation.
    let size = unsafe { *size.cast::<u32>() };
    // SAFETY: `const ptrdiff_t __rseq_offset`, likewise.
    let offset = unsafe { *offset.cast::<isize>() };
    if size == 0 { 0 } else { thread_pointer().wrapping_add_signed(offset) as u64 }
}

fn thread_pointer() -> usize {
    let pointer: usize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the first word that fs points to is its own address, by the ABI of thread-local storage.
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, nomem, preserves_flags));
    }
    pointer
}
