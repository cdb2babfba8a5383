//! The law of the child, between clone and exec.
//!
//! The child shares the caller's memory while the caller's threads run on. So here there is **no
//! allocation, no lock, no panic, no `errno`, no libc, and no return into Python**: only raw system
//! calls with arguments that the parent prepared. The plan computes everything that must be computed.
//! The static helper contains this code too, without `std` and without an allocator, so code that breaks
//! the law does not compile.

#![expect(unsafe_code, reason = "makes the plan's system calls")]

use core::sync::atomic::{AtomicU32, Ordering};

use crate::program::{EncodedCall, Header, Message, go, message, on_error, pseudo};
use crate::raw::{Errno, exit, nr, syscall};

const ENOENT: Errno = 2;
const EINTR: Errno = 4;
const EBADF: Errno = 9;
const EAGAIN: Errno = 11;
const EACCES: Errno = 13;
const ENOTDIR: Errno = 20;
const ENOSYS: Errno = 38;
const ECANCELED: Errno = 125;
const ETIMEDOUT: Errno = 110;
/// The error of a walk that ends without an exec.
const ENOEXEC: Errno = 8;

/// The number of mount(2), which only a plan makes.
pub const MOUNT: u32 = if cfg!(target_arch = "x86_64") { 165 } else { 40 };
/// The number of `mount_setattr(2)`, likewise.
pub const MOUNT_SETATTR: u32 = 442;

/// Where and why a walk ended.
pub struct Failure {
    /// The index of the failed call; the number of calls if none of the files could be executed.
    pub index: u32,
    /// The error number.
    pub errno: Errno,
}

/// Make the calls of a program in order, and return only if one fails.
///
/// A complete walk ends in exec.
///
/// # Safety
///
/// `program` must point to a relocated program (see `relocate`), which stays in place and which only
/// this walk writes, except for `go`. The calling process must be one that these calls may change and
/// replace.
pub unsafe fn walk(program: *mut Header) -> Failure {
    // SAFETY: the program is valid, and the header's fields that others write are atomic.
    let header = unsafe { &*program };
    let (count, trace, report) = (header.calls, header.trace, header.report);
    // SAFETY: the calls follow the header, inside the same buffer.
    let calls = unsafe { program.add(1) }.cast::<EncodedCall>();
    let mut not_executed = Failure { index: count, errno: ENOEXEC };
    let mut index = 0;
    while index < count {
        // SAFETY: `index` is below the number of calls.
        let call = unsafe { calls.add(index as usize) };
        // SAFETY: a call of the program, which is not written during the walk.
        let call = unsafe { &*call };
        if call.on_error == on_error::EXEC {
            // A successful exec does not return, so write the line first.
            write_line(trace, call);
        }
        let outcome = if index == header.inject_at {
            Err(header.inject_errno)
        } else {
            // SAFETY: the program's calls are valid, by the caller's promise.
            unsafe { perform(call, report) }
        };
        let outcome = match outcome {
            Ok(low @ 0..3) if call.opens != 0 => above_stdio(low),
            outcome => outcome,
        };
        match outcome {
            Ok(value) => {
                if call.result != 0 {
                    // SAFETY: a result address points to a cell inside the program.
                    unsafe { (call.result as *mut i32).write_unaligned(value as i32) };
                }
                write_line(trace, call);
                if call.on_error != on_error::GONE {
                    index += u32::from(call.skip);
                }
            }
            Err(errno) => match call.on_error {
                on_error::IGNORE => {}
                on_error::GONE if errno == ENOENT && index != header.inject_at => {
                    index += u32::from(call.skip);
                }
                // SAFETY: the program's calls are valid, by the caller's promise.
                on_error::ABSENT if index != header.inject_at && unsafe { absent(call, errno) } => {
                }
                on_error::EXEC if index != header.inject_at => {
                    let missing = |errno| errno == ENOENT || errno == ENOTDIR;
                    if not_executed.index == count
                        || (missing(not_executed.errno) && !missing(errno))
                    {
                        not_executed = Failure { index, errno };
                    } else if missing(not_executed.errno) {
                        not_executed.errno = errno;
                    }
                }
                _ => return Failure { index, errno },
            },
        }
        index += 1;
    }
    not_executed
}

/// Return whether a path of a failed call does not exist or is out of reach even for root inside, or nothing was opened.
///
/// A security module or a seccomp filter answers a mount with EACCES, too. Then every path of the call can be opened.
///
/// # Safety
///
/// As for [`walk`].
unsafe fn absent(call: &EncodedCall, errno: Errno) -> bool {
    let paths = match call.nr {
        MOUNT => &call.args[..2],
        MOUNT_SETATTR => &call.args[1..2],
        _ => &[],
    };
    // SAFETY: these arguments are strings inside the program.
    let refused = || !paths.is_empty() && paths.iter().all(|&path| unsafe { can_be_opened(path) });
    matches!(errno, ENOENT | ENOTDIR | EBADF) || (errno == EACCES && !refused())
}

/// Return whether a path leads to a file, relative to the working directory.
///
/// # Safety
///
/// `path` must be the address of a string.
unsafe fn can_be_opened(path: u64) -> bool {
    const AT_FDCWD: u64 = -100_i64 as u64;
    const O_PATH_CLOEXEC: u64 = 0o12_000_000;
    // SAFETY: the caller's promise.
    let opened = unsafe { syscall(nr::OPENAT, [AT_FDCWD, path, O_PATH_CLOEXEC, 0, 0, 0]) };
    // SAFETY: takes no pointer; no other code has the descriptor.
    opened.map(|file| unsafe { syscall(nr::CLOSE, [file as u64, 0, 0, 0, 0, 0]) }).is_ok()
}

/// Make one call, or carry out a pseudo call.
///
/// # Safety
///
/// As for [`walk`].
unsafe fn perform(call: &EncodedCall, report: i32) -> Result<usize, Errno> {
    let mut args = call.args;
    for (position, arg) in args.iter_mut().enumerate() {
        if call.cells & (1 << position) != 0 {
            // SAFETY: a cell's address lies inside the program.
            *arg = unsafe { (*arg as *const i32).read_unaligned() } as u64;
        }
    }
    match call.nr {
        pseudo::RESET_SIGNALS => {
            reset_signals(args[0]);
            Ok(0)
        }
        // SAFETY: the argument is the address of the program's futex word.
        pseudo::AWAIT_PARENT => unsafe { await_parent(args[0] as *const AtomicU32) },
        pseudo::FORK => fork(args[0], report),
        // SAFETY: the argument is the address of the program's header.
        pseudo::FORK_CALLER => unsafe { fork_caller(args[0] as *const Header) },
        pseudo::DROP_BOUNDING => drop_bounding(args[0], args[1]),
        // SAFETY: a call of the plan, with the arguments that the plan prepared for it.
        real => unsafe { syscall(real as usize, args) },
    }
}

/// Move a descriptor of this process above the three standard streams.
///
/// A closed standard stream has to stay closed for the command, and dup3(2) onto it must not replace the descriptor.
fn above_stdio(low: usize) -> Result<usize, Errno> {
    const F_DUPFD_CLOEXEC: u64 = 1030;
    // SAFETY: takes no pointer.
    let moved = unsafe { syscall(nr::FCNTL, [low as u64, F_DUPFD_CLOEXEC, 3, 0, 0, 0]) };
    // SAFETY: likewise; no other code of this process has the descriptor.
    let _ = unsafe { syscall(nr::CLOSE, [low as u64, 0, 0, 0, 0, 0]) };
    moved
}

/// Write the line that describes a call to the trace.
fn write_line(trace: i32, call: &EncodedCall) {
    if trace >= 0 && call.line_length != 0 {
        // Ignore errors: the launch must not fail because the reader has gone.
        // SAFETY: the line is text inside the program.
        let _ = unsafe { syscall(nr::WRITE, [trace as u64, call.line, call.line_length, 0, 0, 0]) };
    }
}

/// The kernel's `struct sigaction`.
#[repr(C)]
pub struct KernelSigaction {
    /// The address of the function, or 0 (`SIG_DFL`), or [`SIG_IGN`].
    pub handler: u64,
    flags: u64,
    #[cfg(target_arch = "x86_64")]
    restorer: u64,
    mask: u64,
}

const SIG_DFL: u64 = 0;
/// Ignore the signal.
pub const SIG_IGN: u64 = 1;

impl KernelSigaction {
    /// Return the action `SIG_DFL`.
    #[must_use]
    pub const fn default_action() -> Self {
        Self {
            handler: SIG_DFL,
            flags: 0,
            #[cfg(target_arch = "x86_64")]
            restorer: 0,
            mask: 0,
        }
    }
}

/// Reset every signal that has a handler, and those in `also`, to the default action.
///
/// Otherwise a handler of the caller could run here, in the caller's memory, once the mask is restored.
fn reset_signals(also: u64) {
    let default = KernelSigaction::default_action();
    for signal in 1..=64_u64 {
        let forced = also & (1 << (signal - 1)) != 0;
        let mut current = KernelSigaction::default_action();
        let place = &raw mut current as u64;
        // SAFETY: the kernel writes the current action to `current`, which lives on this stack.
        let read = unsafe { syscall(nr::RT_SIGACTION, [signal, 0, place, 8, 0, 0]) };
        let has_handler = read.is_ok() && current.handler != SIG_DFL && current.handler != SIG_IGN;
        if forced || has_handler {
            let place = &raw const default as u64;
            // SAFETY: the kernel reads the new action from `default`.
            let _ = unsafe { syscall(nr::RT_SIGACTION, [signal, place, 0, 8, 0, 0]) };
        }
    }
}

/// How long a child waits for its parent to write the id maps. The parent writes them at once or runs
/// newuidmap(1), so a child that still waits after this time has lost its parent.
const PARENT_SECONDS: u32 = 60;

/// Wait until the parent has written the id maps.
///
/// # Safety
///
/// `word` must point to the `go` word of a program.
unsafe fn await_parent(word: *const AtomicU32) -> Result<usize, Errno> {
    // SAFETY: valid and aligned, and only accessed atomically.
    let state = unsafe { &*word };
    for _ in 0..PARENT_SECONDS {
        match state.load(Ordering::Acquire) {
            go::ON => return Ok(0),
            go::ABORT => return Err(ECANCELED),
            _ => {}
        }
        let second = [1_u64, 0];
        // FUTEX_WAIT without the private flag: parent and child are two processes that share memory.
        // SAFETY: `word` is a valid futex word, and the timeout lives on this stack.
        let slept = unsafe {
            syscall(nr::FUTEX, [word as u64, 0, u64::from(go::WAIT), second.as_ptr() as u64, 0, 0])
        };
        match slept {
            // EAGAIN: the word has changed.
            Ok(_) | Err(EAGAIN | EINTR | ETIMEDOUT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(ETIMEDOUT)
}

/// Drop each capability in `set` from the bounding set; `operation` is `PR_CAPBSET_DROP`.
fn drop_bounding(operation: u64, set: u64) -> Result<usize, Errno> {
    for capability in (0..64_u64).filter(|bit| set & (1 << bit) != 0) {
        // SAFETY: takes no pointer.
        unsafe { syscall(nr::PRCTL, [operation, capability, 0, 0, 0, 0]) }?;
    }
    Ok(0)
}

/// Fork and return in the child only; the first process sends the child's pid on `report` and exits.
fn fork(flags: u64, report: i32) -> Result<usize, Errno> {
    // SAFETY: no CLONE_VM: the child gets a copy of this process, this stack included, so this
    // returns in both.
    let pid = unsafe { syscall(nr::CLONE, [flags, 0, 0, 0, 0, 0]) }?;
    if pid == 0 {
        return Ok(0);
    }
    send(report, &Message::new(message::PID, pid as u32));
    exit(0)
}

/// Fork the caller with the function that the launch put in the header.
///
/// Only here does this process run the caller's code. The caller waits meanwhile.
///
/// # Safety
///
/// `program` must point to a program whose `fork` may be called with its `fork_context`.
unsafe fn fork_caller(program: *const Header) -> Result<usize, Errno> {
    // SAFETY: the caller's promise.
    let header = unsafe { &*program };
    let Some(fork) = header.fork else { return Err(ENOSYS) };
    // SAFETY: the caller's promise.
    let pid = unsafe { fork(header.fork_context) };
    if pid < 0 { Err(-pid as Errno) } else { Ok(pid as usize) }
}

/// Send a message to the caller; ignore that the caller has gone.
///
/// If a seccomp filter refuses write(2), writev(2) can still report that.
pub fn send(to: i32, message: &Message) {
    let part = [core::ptr::from_ref(message) as u64, size_of::<Message>() as u64];
    let parts = part.as_ptr() as u64;
    for (number, buffer, length) in [(nr::WRITE, part[0], part[1]), (nr::WRITEV, parts, 1)] {
        loop {
            // SAFETY: the message is valid for its own size, and so is the one part. SIGPIPE is blocked.
            match unsafe { syscall(number, [to as u64, buffer, length, 0, 0, 0]) } {
                Ok(_) => return,
                Err(EINTR) => {}
                Err(_) => break,
            }
        }
    }
}

/// Walk a program; if a call fails, report which one and exit.
///
/// # Safety
///
/// As for [`walk`].
pub unsafe fn run(program: *mut Header) -> ! {
    // SAFETY: the caller's promise.
    let failure = unsafe { walk(program) };
    // SAFETY: the header is valid.
    let header = unsafe { &*program };
    if header.report >= 0 {
        let message = Message::failed(header.stage, failure.index, failure.errno);
        send(header.report, &message);
    } else {
        // The parent reads both after the kernel has cleared `tid`.
        header.failed_errno.store(failure.errno, Ordering::Relaxed);
        header.failed_at.store(failure.index, Ordering::Release);
    }
    exit(127)
}
