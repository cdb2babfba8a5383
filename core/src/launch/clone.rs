//! One clone: the child walks a program in the caller's memory, the parent does its part meanwhile.

#![expect(unsafe_code, reason = "clone(2), and memory shared with the child")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::fork::Side;
use super::maps;
use super::stack::Stack;
use super::wait::Wait;
use crate::error::{LaunchError, SpawnError};
use crate::program::{Header, NOTHING_FAILED, go, relocate};
use crate::raw::{nr, syscall};
use crate::step::Step;
use crate::{child, sys};

/// How long a killed child may take to die before its memory is given up instead of freed.
const DEATH: Duration = Duration::from_secs(5);

/// How the walk of the first stage ended.
pub(super) struct Outcome {
    pub(super) pid: i32,
    /// The call that failed, and its error number; `None` where the walk ended in exec, or somebody
    /// killed the child.
    pub(super) failed: Option<(u32, i32)>,
    /// The process that this is: with [`Side::Copy`] the rest says nothing.
    pub(super) side: Side,
}

extern "C" fn start_child(program: *mut c_void) -> c_int {
    // SAFETY: `clone_and_wait` hands over its relocated program, which it keeps until this process
    // has executed something else or has ended.
    unsafe { child::run(program.cast()) }
}

/// Clones a child that walks `program`, does the parent's part, and waits until the child has
/// executed something else or has ended. It is the caller's to reap where this succeeds.
pub(super) fn clone_and_wait(
    program: Box<[u64]>,
    namespaces: u64,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
) -> Result<Outcome, LaunchError> {
    let fork = &mut |_: &Shared, _: &mut Wait<'_>| Ok(Side::Caller);
    clone_and_fork(program, namespaces, parents_part, wait, fork)
}

/// The same, with something between the parent's part and the wait: it may make a copy of the caller, which
/// returns as soon as it is made.
pub(super) fn clone_and_fork(
    program: Box<[u64]>,
    namespaces: u64,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
    fork: &mut dyn FnMut(&Shared, &mut Wait<'_>) -> Result<Side, LaunchError>,
) -> Result<Outcome, LaunchError> {
    let stack = Stack::take().map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
    let shared = Shared::new(program);
    let pid = match clone(&stack, namespaces, &shared) {
        Ok(pid) => pid,
        Err(error) => {
            // SAFETY: no child came to be, so the program is this function's own again.
            unsafe { shared.free() };
            stack.give_back();
            return Err(SpawnError::from_io(Step::Clone, &error).into());
        }
    };
    let ended = finish(pid, &shared, parents_part, wait, fork);
    if matches!(ended, Ok(Outcome { side: Side::Copy, .. })) {
        // What the child uses is in another process's memory: this is a copy of it.
        // SAFETY: no child of this process's uses the program.
        unsafe { shared.free() };
        stack.give_back();
        return ended;
    }
    if !shared.is_left() {
        // A child that not even SIGKILL ends yet (it waits for a dead network file system, say) still
        // uses this memory, so that is given up. The child stays to be reaped by whoever can.
        return ended;
    }
    // SAFETY: the child no longer uses the program.
    unsafe { shared.free() };
    stack.give_back();
    if ended.is_err() {
        reap(pid);
    }
    ended
}

/// clone(2) of a child that shares this memory and walks the program.
fn clone(stack: &Stack, namespaces: u64, shared: &Shared) -> io::Result<i32> {
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD | namespaces as c_int;
    // A handler of the caller's would run in the child too, in this memory.
    let mask = block_signals();
    // SAFETY: the stack is not in use; `start_child` keeps to raw system calls and never returns; stack
    // and program outlive the child's use of them, since they are only given back once the kernel has
    // cleared `tid`, which it does when the child has left this memory by exec or by its end.
    let pid = unsafe {
        libc::clone(
            start_child,
            stack.top(),
            flags,
            shared.header.cast(),
            std::ptr::null_mut::<c_int>(),
            std::ptr::null_mut::<c_void>(),
            shared.tid().as_ptr().cast::<c_int>(),
        )
    };
    let error = io::Error::last_os_error();
    restore_signals(mask);
    if pid < 0 { Err(error) } else { Ok(pid) }
}

/// The parent's part, and the wait for the child. After an error the child has been killed.
fn finish(
    pid: i32,
    shared: &Shared,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
    fork: &mut dyn FnMut(&Shared, &mut Wait<'_>) -> Result<Side, LaunchError>,
) -> Result<Outcome, LaunchError> {
    let kill = |error| {
        // Not reaped yet, so the pid still means the child.
        let _ = sys::kill(pid, libc::SIGKILL);
        let _ = shared.wait(&mut Wait::at_most(DEATH));
        Err(error)
    };
    let written = parents_part(pid, wait);
    shared.tell(if written.is_ok() { go::ON } else { go::ABORT });
    match written {
        Ok(()) => match fork(shared, wait) {
            Ok(Side::Copy) => Ok(Outcome { pid, failed: None, side: Side::Copy }),
            Ok(side) => match shared.wait(wait) {
                // The child may have gone on meanwhile, and have started others that the launch has to
                // know of before it can end them.
                Err(error) if !shared.is_left() => kill(error),
                _ => Ok(Outcome { pid, failed: shared.failure(), side }),
            },
            Err(error) => kill(error),
        },
        Err(LaunchError::Spawn(error)) => {
            // Nothing can be written for a child that has gone already: then its end is the reason.
            let left = shared.wait(&mut Wait::at_most(DEATH)).is_ok();
            match shared.failure() {
                Some((_, libc::ECANCELED)) => Err(error.into()),
                // Where the caller has no /proc of its own, what the child failed at may be for want of it too.
                Some(_) if !maps::has_own_proc() => Err(error.into()),
                failed @ Some(_) => Ok(Outcome { pid, failed, side: Side::Caller }),
                None if left && was_killed(pid) => {
                    Ok(Outcome { pid, failed: None, side: Side::Caller })
                }
                None if left => Err(error.into()),
                None => kill(error.into()),
            }
        }
        Err(error) => kill(error),
    }
}

/// Whether a signal has ended the child; it stays to be waited for.
fn was_killed(pid: i32) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return false };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) => {}
            result => {
                return matches!(result, Ok(Some(status)) if status.killed() || status.dumped());
            }
        }
    }
}

/// The program that parent and child both look at.
pub(super) struct Shared {
    pub(super) header: *mut Header,
    /// In words.
    length: usize,
}

impl Shared {
    /// The same, for the child, which does not free it.
    pub(super) const fn borrowed(header: *mut Header) -> Self {
        Self { header, length: 0 }
    }

    fn new(program: Box<[u64]>) -> Self {
        let length = program.len();
        let header: *mut Header = Box::into_raw(program).cast();
        // SAFETY: a whole program, just encoded, in words, which nobody else has.
        unsafe { relocate(header) };
        Self { header, length }
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offset of a member, inside the header.
        let word = unsafe { self.header.cast::<u8>().add(offset) };
        // SAFETY: aligned as the member is, alive until `free`, and after the clone only accessed
        // atomically here and by the kernel, or by the child before it ends.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// Not zero while the child is in this memory.
    fn tid(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, tid))
    }

    pub(super) fn tid_value(&self) -> u32 {
        // Acquire: what the child wrote before it left is seen. The kernel's store follows the child's own
        // in its program order, and a system call of the child's lies between them.
        self.tid().load(Ordering::Acquire)
    }

    /// Tells the child to go on, or to end.
    pub(super) fn tell(&self, state: u32) {
        let word = self.word(offset_of!(Header, go));
        word.store(state, Ordering::Release);
        // FUTEX_WAKE, not private: parent and child are two processes.
        // SAFETY: a valid futex word.
        let _ = unsafe { syscall(nr::FUTEX, [word.as_ptr() as u64, 1, 1, 0, 0, 0]) };
    }

    /// Whether the child has left this memory.
    fn is_left(&self) -> bool {
        self.tid_value() == 0
    }

    /// Waits until the child has left this memory.
    fn wait(&self, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        loop {
            match self.tid_value() {
                0 => return Ok(()),
                value => self.wait_while(value, wait)?,
            }
        }
    }

    /// Waits while `tid` has this value.
    pub(super) fn wait_while(&self, value: u32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        while self.tid_value() == value {
            let slice = wait.slice();
            let slice = [slice.as_secs(), u64::from(slice.subsec_nanos())];
            let word = self.tid().as_ptr() as u64;
            // FUTEX_WAIT, not private: the kernel wakes it on behalf of another process.
            // SAFETY: the word is an aligned u32 that lives on, and the timeout lives on this stack.
            let slept =
                unsafe { syscall(nr::FUTEX, [word, 0, value.into(), slice.as_ptr() as u64, 0, 0]) };
            // EAGAIN: it has another value by now.
            if slept.is_err_and(|errno| errno != libc::EAGAIN) {
                wait.check()?;
            }
        }
        Ok(())
    }

    /// What the child says about itself; complete once it [is left](Self::is_left).
    fn failure(&self) -> Option<(u32, i32)> {
        let index = self.word(offset_of!(Header, failed_at)).load(Ordering::Acquire);
        let errno = self.word(offset_of!(Header, failed_errno)).load(Ordering::Relaxed);
        (index != NOTHING_FAILED).then_some((index, errno as i32))
    }

    /// Frees the program.
    ///
    /// # Safety
    ///
    /// No child uses it any more.
    unsafe fn free(self) {
        let words = std::ptr::slice_from_raw_parts_mut(self.header.cast::<u64>(), self.length);
        // SAFETY: `new` took it out of a box of that length, and this gives up the only pointer to it.
        drop(unsafe { Box::from_raw(words) });
    }
}

/// The calling thread's signal mask, as the kernel has it.
pub(super) fn signal_mask() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the eight bytes of the mask.
    let read = unsafe { syscall(nr::RT_SIGPROCMASK, [0, 0, &raw mut mask as u64, 8, 0, 0]) };
    debug_assert!(read.is_ok(), "reading the signal mask cannot fail");
    mask
}

/// Blocks every signal, those that libc keeps for itself included, and returns the mask before.
pub(super) fn block_signals() -> u64 {
    static EVERY: u64 = u64::MAX;
    let mut before = 0_u64;
    let args = [2, &raw const EVERY as u64, &raw mut before as u64, 8, 0, 0];
    // SAFETY: the kernel reads and writes the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
    before
}

pub(super) fn restore_signals(mask: u64) {
    let args = [2, &raw const mask as u64, 0, 8, 0, 0];
    // SAFETY: the kernel reads the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
}

/// Waits for a child that has ended or is about to, and returns its wait status; `None` where somebody
/// else has reaped it, a handler of SIGCHLD for example.
pub(super) fn reap(pid: i32) -> Option<i32> {
    let pid = nix::unistd::Pid::from_raw(pid);
    loop {
        match nix::sys::wait::waitpid(pid, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(nix::sys::wait::WaitStatus::Exited(_, status)) => return Some(status << 8),
            Ok(nix::sys::wait::WaitStatus::Signaled(_, signal, _)) => return Some(signal as i32),
            _ => return None,
        }
    }
}

pub(super) fn kill_and_reap(pid: i32) {
    let _ = sys::kill(pid, libc::SIGKILL);
    reap(pid);
}
