//! Clone, walk the plan, exec, wait: one iteration.
#![expect(unsafe_code, reason = "clone on a stack of its own, and raw system calls in the child")]

use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::plan::{Action, Plan, SLOTS};
use crate::{raw, watchdog};

const STACK: usize = 64 * 1024;

/// What parent and child share.
struct Shared<'plan> {
    plan: &'plan Plan,
    /// 1 once the parent has written the maps.
    mapped: AtomicU32,
    /// The kernel clears it when the child has left the shared memory, by exec or exit.
    alive: AtomicU32,
    /// 1 + the index of the action that failed, and its errno.
    failed: AtomicU32,
    errno: AtomicU32,
}

/// Runs a plan again and again on the same stack.
pub(crate) struct Launcher<'plan> {
    plan: &'plan Plan,
    pidfd: bool,
    stack: Box<[u128]>,
}

impl<'plan> Launcher<'plan> {
    pub(crate) fn new(plan: &'plan Plan, pidfd: bool) -> Self {
        Self { plan, pidfd, stack: vec![0; STACK / size_of::<u128>()].into_boxed_slice() }
    }

    /// One iteration, from before the clone until the child has been reaped.
    ///
    /// # Errors
    ///
    /// What the kernel refused, with the call that it refused.
    pub(crate) fn run(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        let shared = Shared {
            plan: self.plan,
            mapped: AtomicU32::new(0),
            alive: AtomicU32::new(1),
            failed: AtomicU32::new(0),
            errno: AtomicU32::new(0),
        };
        let before = block_signals();
        let clone = self.clone(&shared);
        restore_signals(&before);
        let (pid, pidfd) = clone?;
        let mapped = match &self.plan.maps {
            Some(maps) => write_maps(pid, maps),
            None => Ok(()),
        };
        if mapped.is_err() {
            // SAFETY: kill takes no address; the child has not been reaped, so the id is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        shared.mapped.store(1, Ordering::Release);
        futex(&shared.mapped, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
        while !self.plan.vfork && shared.alive.load(Ordering::Acquire) != 0 {
            // The kernel's own wake at exec is not a private one.
            futex(&shared.alive, libc::FUTEX_WAIT, 1);
        }
        let status = reap(pid)?;
        if self.pidfd {
            // SAFETY: the clone made this descriptor, and nothing else holds its number.
            unsafe { libc::close(pidfd) };
        }
        let taken = start.elapsed();
        mapped?;
        match shared.failed.load(Ordering::Acquire) {
            0 if status == 0 => Ok(taken),
            0 => Err(io::Error::other(format!("the program's wait status is {status:#x}"))),
            index => {
                let why = io::Error::from_raw_os_error(
                    shared.errno.load(Ordering::Acquire).cast_signed(),
                );
                let action = &self.plan.actions[index as usize - 1];
                Err(io::Error::new(why.kind(), format!("{action}: {why}")))
            }
        }
    }

    fn clone(&mut self, shared: &Shared<'_>) -> io::Result<(libc::pid_t, c_int)> {
        let how = if self.plan.vfork { libc::CLONE_VFORK } else { libc::CLONE_CHILD_CLEARTID };
        let pidfd_flag = if self.pidfd { libc::CLONE_PIDFD } else { 0 };
        let flags = libc::CLONE_VM | how | pidfd_flag | libc::SIGCHLD | self.plan.flags;
        let top = self.stack.as_mut_ptr_range().end;
        let mut pidfd: c_int = -1;
        // SAFETY: the stack is ours, 16-aligned, and used by no other process: `run` does not
        // return before the child has left the memory that they share, so `shared` and `pidfd`
        // outlive it as well. `child` neither unwinds nor uses thread-local storage. Without
        // CLONE_SETTLS the tls argument is not read.
        let pid = unsafe {
            libc::clone(
                child,
                top.cast(),
                flags,
                ptr::from_ref(shared).cast_mut().cast(),
                &raw mut pidfd,
                ptr::null_mut::<c_void>(),
                shared.alive.as_ptr(),
            )
        };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok((pid, pidfd)) }
    }
}

/// The child: from the clone to the exec, or to its report.
extern "C" fn child(shared: *mut c_void) -> c_int {
    // SAFETY: `clone` passed a reference to a `Shared` that outlives the child.
    let shared = unsafe { &*shared.cast::<Shared<'_>>() };
    let mut slots = [0; SLOTS];
    for (index, action) in shared.plan.actions.iter().enumerate() {
        let (result, slot) = match action {
            Action::Call(call) => {
                let mut words = [0; 6];
                for (word, argument) in words.iter_mut().zip(&call.arguments) {
                    *word = argument.word(&slots);
                }
                // SAFETY: addresses among the words point into the plan, which outlives the child;
                // the kernel only reads there, and none of the calls changes the memory map.
                (unsafe { raw::call(call.number, words) }, call.result)
            }
            Action::SendDescriptor(socket) => (watchdog::send(*socket, slots[0]), None),
            Action::WaitForMap => {
                while shared.mapped.load(Ordering::Acquire) == 0 {
                    futex(&shared.mapped, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0);
                }
                continue;
            }
        };
        if result < 0 {
            shared.errno.store(result.unsigned_abs() as u32, Ordering::Release);
            shared.failed.store(index as u32 + 1, Ordering::Release);
            return 127;
        }
        if let Some(slot) = slot {
            slots[slot] = result.cast_unsigned();
        }
    }
    127
}

fn futex(word: &AtomicU32, operation: c_int, value: u32) {
    let words = [word.as_ptr().addr(), operation as usize, value as usize, 0, 0, 0];
    // SAFETY: the word is borrowed for the length of the call, and the kernel only reads it.
    unsafe { raw::call(libc::SYS_futex as usize, words) };
}

fn write_maps(pid: libc::pid_t, maps: &[Vec<u8>; 2]) -> io::Result<()> {
    for (name, map) in ["uid_map", "gid_map"].iter().zip(maps) {
        OpenOptions::new().write(true).open(format!("/proc/{pid}/{name}"))?.write_all(map)?;
    }
    Ok(())
}

fn reap(pid: libc::pid_t) -> io::Result<c_int> {
    let mut status = 0;
    loop {
        // SAFETY: the status is ours to be written, and the child is ours to be reaped.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid {
            return Ok(status);
        }
        let why = io::Error::last_os_error();
        if why.kind() != io::ErrorKind::Interrupted {
            return Err(why);
        }
    }
}

/// No handler of the parent may run in the child, which shares its memory.
fn block_signals() -> libc::sigset_t {
    // SAFETY: all zeroes is a valid signal set.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut before = all;
    // SAFETY: the set is ours and initialised.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets are ours; the mask of one thread changes, which `restore_signals` undoes.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    before
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set was filled in by the kernel; no old set is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
}
