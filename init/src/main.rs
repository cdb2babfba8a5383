//! The static helper: PID 1, joiner and watchdog in a few kilobytes.
//!
//! The library executes it from a sealed memfd: no file has to exist in the new root, and a container cannot
//! overwrite it. Its arguments are the numbers of two descriptors: one holds a program (see
//! [`minidocker_init::program`]), whose header names the role, and one is for the report that the program cannot be
//! read.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the helper makes raw system calls, and the kernel enters it")]

mod file;
mod memory;
mod reaper;
mod rehearsal;
mod session;
mod watchdog;

// Cargo's profiles unwind, and only std can unwind. Cargo builds this program to check it, never to run it.
#[cfg(panic = "unwind")]
extern crate std;

use minidocker_init::child;
use minidocker_init::program::{Header, MAGIC, relocate, role};
use minidocker_init::raw::{exit, nr, refused, syscall};

/// The exit status if something other than the library started the helper.
const MISUSED: i32 = 125;

const PR_SET_DUMPABLE: u64 = 4;
const PR_SET_NAME: u64 = 15;

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(MISUSED)
}

// At entry the stack holds argc, argv and envp; nothing else is set up.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);
#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x0, sp",
    "bl {main}",
    "brk 1",
    main = sym main,
);

/// Map the program that the argument names and play its role.
///
/// # Safety
///
/// `stack` is the stack as the kernel sets it up: argc, then argc pointers, then a null pointer.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: argc is the first word.
    if unsafe { *stack } < 3 {
        exit(MISUSED);
    }
    // SAFETY: argc is at least 3.
    let descriptor = unsafe { argument(stack, 1) };
    // SAFETY: as above.
    let report = unsafe { argument(stack, 2) };
    let program = map(descriptor, report);
    // SAFETY: `map` checked that this is a program, and the mapping is private to this process.
    unsafe { relocate(program) };
    // SAFETY: the header is valid.
    let (role, control, report, caller) = unsafe {
        let header = &*program;
        (header.role, header.control, header.report, header.caller)
    };
    let report = if report >= 0 { report } else { control };
    // Make init non-dumpable so that the container cannot read its memory.
    // SAFETY: takes no pointer.
    if let Err(errno) = unsafe { syscall(nr::PRCTL, [PR_SET_DUMPABLE, 0, 0, 0, 0, 0]) } {
        rehearsal::give_up(report, nr::PRCTL, errno);
    }
    let calls = match role {
        role::WATCHDOG => rehearsal::WATCHDOG,
        role::WALK => rehearsal::WALK,
        _ => rehearsal::INIT,
    };
    if let Some((number, errno)) = refused(calls) {
        rehearsal::give_up(report, number, errno);
    }
    match role {
        role::WALK => {
            name(c"minidocker-walk");
            // SAFETY: relocated, and private to this process.
            unsafe { child::run(program) }
        }
        role::INIT | role::IDLE => {
            name(c"minidocker-init");
            // SAFETY: as above.
            unsafe { reaper::run(program, caller) }
        }
        role::WATCHDOG => {
            name(c"minidocker-dog");
            watchdog::run(control, caller)
        }
        _ => exit(MISUSED),
    }
}

/// Set the name that ps(1) shows. For a process executed from a descriptor it would be a number.
fn name(name: &core::ffi::CStr) {
    // SAFETY: the name is a string of at most 16 bytes, its NUL included.
    let _ = unsafe { syscall(nr::PRCTL, [PR_SET_NAME, name.as_ptr() as u64, 0, 0, 0, 0]) };
}

/// Return the decimal number in an argument.
///
/// # Safety
///
/// `stack` is as for [`main`], and there are more than `index` arguments.
unsafe fn argument(stack: *const usize, index: usize) -> i32 {
    // SAFETY: the arguments follow argc.
    let place = unsafe { stack.add(1 + index) };
    // SAFETY: as above.
    let text = unsafe { *place } as *const u8;
    // SAFETY: arguments are strings that end in a NUL.
    unsafe { number(text) }
}

/// Return the decimal number at the start of `text`.
///
/// # Safety
///
/// `text` points to a string that ends in a NUL.
unsafe fn number(mut text: *const u8) -> i32 {
    let mut value: i32 = 0;
    loop {
        // SAFETY: the loop ends at the NUL at the latest.
        let byte = unsafe { *text };
        if !byte.is_ascii_digit() {
            return value;
        }
        value = value.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
        // SAFETY: a byte follows every byte but the NUL.
        text = unsafe { text.add(1) };
    }
}

/// Map the program in `descriptor` privately, and close the descriptor. Report a refused call, and exit.
fn map(descriptor: i32, report: i32) -> *mut Header {
    const SEEK_END: u64 = 2;
    const READ_WRITE: u64 = 3;
    const MAP_PRIVATE: u64 = 2;
    let fd = descriptor as u64;
    let demand = |number: usize, args: [u64; 6]| {
        // SAFETY: of the two calls below, one takes no pointer, and the kernel chooses the address for the other.
        match unsafe { syscall(number, args) } {
            Ok(result) => result,
            Err(errno) => rehearsal::give_up(report, number, errno),
        }
    };
    let length = demand(nr::LSEEK, [fd, 0, SEEK_END, 0, 0, 0]);
    if length < size_of::<Header>() {
        exit(MISUSED);
    }
    let mapped = demand(nr::MMAP, [0, length as u64, READ_WRITE, MAP_PRIVATE, fd, 0]);
    // SAFETY: takes no pointer.
    let _ = unsafe { syscall(nr::CLOSE, [fd, 0, 0, 0, 0, 0]) };
    let program = mapped as *mut Header;
    // SAFETY: at least a header is mapped, at the start of a page.
    let header = unsafe { &*program };
    if header.magic != MAGIC || header.length as usize > length {
        exit(MISUSED);
    }
    program
}

/// Close every descriptor except those in `keep`, some of which may be equal or -1.
fn close_all_but<const N: usize>(mut keep: [i32; N]) {
    let mut first = 0;
    for _ in 0..N {
        let mut lowest = i32::MAX;
        for kept in &keep {
            lowest = if *kept >= 0 && *kept < lowest { *kept } else { lowest };
        }
        if lowest == i32::MAX {
            break;
        }
        if i64::from(lowest) > first {
            close_range(first as u64, lowest as u64 - 1);
        }
        first = i64::from(lowest) + 1;
        for kept in &mut keep {
            *kept = if *kept == lowest { -1 } else { *kept };
        }
    }
    close_range(first as u64, u64::from(u32::MAX));
}

fn close_range(first: u64, last: u64) {
    // SAFETY: takes no pointer; the descriptors belong to this process.
    let _ = unsafe { syscall(nr::CLOSE_RANGE, [first, last, 0, 0, 0, 0]) };
}
