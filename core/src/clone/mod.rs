//! One clone: the child walks a program in the caller's memory while the parent does its part.
//!
//! The clone shares the caller's memory (`CLONE_VM`, as `posix_spawn(3)` does), so its cost does not depend on
//! the caller's size. It does not suspend the caller (no `CLONE_VFORK`): the calling thread writes the id maps,
//! then waits on the futex that the kernel clears at exec. A signal can interrupt that wait. All memory that the
//! child uses stays valid until then.

#![expect(unsafe_code, reason = "clone(2), and memory shared with the child")]

mod creator;
pub(crate) mod shared;
pub(crate) mod signal_mask;
mod stack;
pub(crate) mod wait;

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use minidocker_init::child;
use minidocker_init::program::go;
use rustix::process::{WaitId, WaitIdOptions, waitid};

pub(crate) use creator::Creator;
use creator::Disguise;
use shared::SharedProgram;
use signal_mask::{block_signals, restore_signals};
use stack::Stack;
use wait::Wait;

use crate::error::{LaunchError, SpawnError};
use crate::step::Step;
use crate::sys::{self, WaitTarget, fd};

/// The time limit for a killed child to die. After that, the parent leaks the child's memory.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The process that returns from a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that called it.
    Caller,
    /// The copy of that process, in the container.
    Copy,
}

/// The end of the first stage's walk.
pub(crate) struct Outcome {
    pub(crate) pid: i32,
    /// The index of the call that failed, and its error number; `None` if the walk ended by exec or by a signal.
    pub(crate) failed: Option<(u32, i32)>,
    /// The process that received this value. With [`Side::Copy`] the other fields mean nothing.
    pub(crate) side: Side,
}

/// The namespaces of a child.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewNamespaces {
    /// The flags of clone(2).
    pub(crate) flags: u64,
    /// The creator of a new user namespace; `None`: the caller.
    pub(crate) creator: Option<Creator>,
}

extern "C" fn start_child(program: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a relocated program, which `clone_and_fork` keeps until this process has executed
    // another program or has ended.
    unsafe { child::run(program.cast()) }
}

/// Clones a child that walks `program`, calls `parents_part`, and waits until the child has executed another
/// program or has ended. After success the caller must reap the child.
pub(crate) fn clone_and_wait(
    program: Box<[u64]>,
    namespaces: NewNamespaces,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
) -> Result<Outcome, LaunchError> {
    let fork = &mut |_: &SharedProgram, _: &mut Wait<'_>| Ok(Side::Caller);
    clone_and_fork(program, namespaces, parents_part, wait, fork)
}

/// Like [`clone_and_wait`], but calls `fork` between the parent's part and the wait. `fork` may make a copy of the
/// caller; in the copy this function returns at once.
pub(crate) fn clone_and_fork(
    program: Box<[u64]>,
    namespaces: NewNamespaces,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
    fork: &mut dyn FnMut(&SharedProgram, &mut Wait<'_>) -> Result<Side, LaunchError>,
) -> Result<Outcome, LaunchError> {
    let stack = Stack::take().map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
    let shared = SharedProgram::new(program);
    let pid = match clone(&stack, namespaces, &shared) {
        Ok(pid) => pid,
        Err(error) => {
            // SAFETY: there is no child, so nothing else uses the program.
            unsafe { shared.free() };
            stack.give_back();
            return Err(SpawnError::from_io(Step::Clone, &error).into());
        }
    };
    shared.set_child(pid);
    let ended = finish(pid, &shared, parents_part, wait, fork);
    if matches!(ended, Ok(Outcome { side: Side::Copy, .. })) {
        // SAFETY: this process is a copy and has no child: the child uses the program in the caller's memory.
        unsafe { shared.free() };
        stack.give_back();
        return ended;
    }
    if !shared.child_has_left() {
        // SIGKILL has not ended the child yet (it may wait for a dead network file system), and the child still
        // uses this memory: leak the memory, and leave the child unreaped.
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
fn clone(stack: &Stack, namespaces: NewNamespaces, shared: &SharedProgram) -> io::Result<i32> {
    let NewNamespaces { flags, creator } = namespaces;
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD | flags as c_int;
    // A signal handler of the caller could run in the child, in this memory.
    let mask = block_signals();
    let disguise = match creator.map(Disguise::of).transpose() {
        Ok(disguise) => disguise.flatten(),
        Err(error) => {
            restore_signals(mask);
            return Err(error);
        }
    };
    // SAFETY: the stack is not in use; `start_child` makes only raw system calls and never returns; stack and
    // program outlive the child's use of them, since they are given back only once the kernel has cleared `tid`,
    // when the child has left this memory by exec or by its end.
    let pid = unsafe {
        libc::clone(
            start_child,
            stack.top(),
            flags,
            shared.header().cast(),
            std::ptr::null_mut::<c_int>(),
            std::ptr::null_mut::<c_void>(),
            shared.tid().as_ptr().cast::<c_int>(),
        )
    };
    let error = io::Error::last_os_error();
    drop(disguise);
    restore_signals(mask);
    if pid < 0 { Err(error) } else { Ok(pid) }
}

/// Does the parent's part, and waits for the child. Kills the child before it returns an error.
fn finish(
    pid: i32,
    shared: &SharedProgram,
    parents_part: &mut dyn FnMut(i32, &mut Wait<'_>) -> Result<(), LaunchError>,
    wait: &mut Wait<'_>,
    fork: &mut dyn FnMut(&SharedProgram, &mut Wait<'_>) -> Result<Side, LaunchError>,
) -> Result<Outcome, LaunchError> {
    let kill = |error| {
        // The child is not reaped yet, so the pid is still its own.
        let _ = sys::kill(pid, libc::SIGKILL);
        let _ = shared.wait_until_child_has_left(&mut Wait::at_most(KILL_TIMEOUT));
        Err(error)
    };
    let written = parents_part(pid, wait);
    shared.tell_child(if written.is_ok() { go::ON } else { go::ABORT });
    match written {
        Ok(()) => match fork(shared, wait) {
            Ok(Side::Copy) => Ok(Outcome { pid, failed: None, side: Side::Copy }),
            Ok(side) => match shared.wait_until_child_has_left(wait) {
                // A child that has left this memory may have started other processes. Return success for it: the
                // launch then finds these processes and can end them.
                Err(error) if !shared.child_has_left() => kill(error),
                _ => Ok(Outcome { pid, failed: shared.failure(), side }),
            },
            Err(error) => kill(error),
        },
        Err(LaunchError::Spawn(error)) => {
            // Writing an id map also fails if the child has ended already. Then the child's failure is the cause.
            let left = shared.wait_until_child_has_left(&mut Wait::at_most(KILL_TIMEOUT)).is_ok();
            match shared.failure() {
                Some((_, libc::ECANCELED)) => Err(error.into()),
                // If /proc is not that of the caller's PID namespace, the child's call may have failed for that reason.
                Some(_) if !sys::has_own_proc() => Err(error.into()),
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

/// Whether a signal has ended the child. Does not reap it.
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

/// A memfd with an encoded program, for the helper to map.
pub(crate) fn program_memfd(program: &[u64]) -> io::Result<OwnedFd> {
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_ne_bytes()).collect();
    fd::memfd(c"minidocker-program", &bytes, false)
}

/// Waits for a child, reaps it, and returns its wait status; `None` if other code of the caller has reaped it, a
/// SIGCHLD handler for example.
pub(crate) fn reap(pid: i32) -> Option<i32> {
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

/// Does the same as [`reap`] until the wait is interrupted, or its deadline has passed. A child that a signal has stopped
/// goes on.
pub(crate) fn reap_within(pid: i32, wait: &mut Wait<'_>) -> Result<Option<i32>, LaunchError> {
    let pidfd = fd::pidfd_open(pid);
    loop {
        match sys::wait_without_reaping(WaitTarget::Pid(pid), false) {
            Ok(None) => {}
            // It has ended, or other code of the caller has reaped it.
            _ => return Ok(reap(pid)),
        }
        wait.check()?;
        wait.until_readable(pidfd.as_ref().ok());
        let _ = sys::kill(pid, libc::SIGCONT);
    }
}

/// Kills a child and reaps it. Leaves it unreaped if it does not die, because it waits in the kernel for a dead file
/// system, for example.
pub(crate) fn kill_and_reap(pid: i32) {
    let _ = sys::kill(pid, libc::SIGKILL);
    let _ = reap_within(pid, &mut Wait::at_most(KILL_TIMEOUT));
}
