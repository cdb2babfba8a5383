//! A copy of the caller in a container of its own: fork(3) across namespaces, with one copy of the
//! page tables.
//!
//! Three processes take part. The *caller* clones a *child* that shares its memory and makes the
//! container, as for a command. Then the caller stands still, all signals blocked, and the child
//! calls the C library's `fork()` in the caller's place: it has the caller's thread pointer, so locks,
//! at-fork handlers and thread-local storage are what they would be had the caller called it. The
//! *copy* that this makes switches to the stack of the caller's thread, to the point where the caller
//! went to stand still, and returns from [`fork`] there. The child executes init.
//!
//! The copy has the descriptors of the child, which has those of the caller at the clone: what other
//! threads open and close while the container is being made is not seen.
//!
//! While the child is in `fork()` it may hold locks of the caller's allocator, so it is not killed
//! then; that time is as long as the kernel takes to copy page tables.

#![expect(
    unsafe_code,
    reason = "memory and descriptors of a process that was forked in the middle of a call"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::encoder::StageEncoder;
use super::point::{self, Point, ThreadState};
use super::report::read_message;
use super::{LaunchParams, restore_dumpable, write_id_maps};
use crate::clone::shared::SharedProgram;
use crate::clone::signals::{block_signals, restore_signals};
use crate::clone::wait::Wait;
use crate::clone::{Outcome, Side, clone_and_fork, program_memfd, reap};
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::process::Process;
use crate::program::{Header, Message, go, message, relocate, tid};
use crate::raw::{exit, nr, syscall};
use crate::step::Step;
use crate::sys::{self, fd};
use crate::{caller, child, watchdog};

/// What [`fork`] returns, in either process.
#[derive(Debug)]
pub enum Forked {
    /// In the caller: the container, and a stream socket to the copy.
    Caller(Process, OwnedFd),
    /// In the copy: a stream socket to the caller.
    Copy(OwnedFd),
}

/// Executes a plan for [`Payload::Fork`](crate::spec::Payload::Fork). Returns twice: in the caller, and
/// in a copy of it that is the command of a new container. The copy returns once the container is whole.
///
/// `around` is called when the container is ready, and has to call what it is given: the fork itself.
/// What an interpreter does before and after a fork, in either process, goes around that.
///
/// # Errors
///
/// As for [`launch`](super::launch); only in the caller.
pub fn fork(
    plan: &Plan,
    params: LaunchParams<'_>,
    around: &mut dyn FnMut(&mut dyn FnMut() -> Side) -> Side,
) -> Result<Forked, LaunchError> {
    debug_assert!(plan.forks, "the plan was made for a fork");
    let mut wait = Wait::new(params.interrupted.map(|ask| ask as _), params.deadline);
    let failed = |error: std::io::Error| SpawnError::from_io(Step::Prepare, &error);
    let helper = caller::helper()?;
    let watchdog = plan.watched.then(watchdog::socket).transpose()?;
    let (control, inits_control) = fd::socket_pair().map_err(failed)?;
    let (channel, copys_channel) = fd::stream_pair().map_err(failed)?;
    let mut handles = Handles {
        helper: helper.raw(),
        watchdog: watchdog.as_ref().map_or(-1, |kept| kept.raw()),
        control: inits_control.as_raw_fd(),
        ..Handles::NONE
    };
    let encoder = StageEncoder::new(plan, params.trace, params.inject);
    let mut copys_program = encoder.encode(2, handles, copys_channel.as_raw_fd());
    let memfd = program_memfd(&encoder.encode(1, handles, -1)).map_err(failed)?;
    handles.programs[0] = memfd.as_raw_fd();
    let mut program = encoder.encode(0, handles, -1);
    encoder.trace_caller();
    let mut point = Point::new(program.as_mut_ptr().cast());
    // SAFETY: a whole program, which only this function has yet.
    let header = unsafe { &mut *program.as_mut_ptr().cast::<Header>() };
    header.fork = Some(fork_for_the_caller);
    header.fork_context = (&raw mut point) as u64;

    let mut copys = CallerCopy {
        channel: copys_channel.as_raw_fd(),
        others: vec![
            control.as_raw_fd(),
            inits_control.as_raw_fd(),
            channel.as_raw_fd(),
            memfd.as_raw_fd(),
        ],
    };
    let copys = std::cell::RefCell::new(&mut copys);
    // Until the clone, so that the list is that of the descriptors which the child gets; and no longer, since
    // who waits for the child may run handlers of signals, which use containers too.
    let mut held = Some(caller::held());
    let mut childs = Some((copys_channel, inits_control, memfd));
    let mut parents_part = |pid, wait: &mut Wait<'_>| {
        if let Some(held) = held.take() {
            copys.borrow_mut().others.extend(held.iter());
        }
        // The child has copies. The caller's own would keep the sockets open, and the id maps need a
        // descriptor where few are left.
        childs = None;
        write_id_maps(plan, pid, wait)
    };
    let mut forking = |shared: &SharedProgram, wait: &mut Wait<'_>| {
        shared.wait_while(tid::HERE, wait)?;
        if shared.child_state() != tid::AWAITS_FORK {
            return Ok(Side::Caller);
        }
        let state = ThreadState::of_this_thread();
        Ok(around(&mut || {
            let side = stand_still(shared, &mut point);
            if side == Side::Copy {
                state.restore();
                copys.borrow().become_the_command(&mut copys_program);
            }
            side
        }))
    };
    let flags = plan.clone_flags;
    let outcome = clone_and_fork(program, flags, &mut parents_part, &mut wait, &mut forking);
    // Where there was no clone.
    drop(held);
    if plan.endangers_dumpable && !matches!(outcome, Ok(Outcome { side: Side::Copy, .. })) {
        restore_dumpable();
    }
    let outcome = outcome?;
    if outcome.side == Side::Copy {
        // Closed already.
        std::mem::forget((control, channel));
        return Ok(Forked::Copy(copys.borrow().await_the_caller()));
    }
    let container = UnfinishedContainer(outcome.pid);
    if let Some((index, errno)) = outcome.failed {
        return Err(plan.failure(0, index, errno).into());
    }
    await_the_copy(plan, channel.as_fd(), &mut wait)?;
    if let Some(error) = wait.given_up {
        return Err(error);
    }
    std::mem::forget(container);
    Ok(Forked::Caller(Process::new(outcome.pid, plan, Some(control)), channel))
}

/// Descriptors of the copy. It has those that the child was cloned with, whatever has become of the
/// caller's since.
struct CallerCopy {
    channel: RawFd,
    /// What belongs to this launch, and to other uses of containers.
    others: Vec<RawFd>,
}

impl CallerCopy {
    /// Makes the copy what the plan says about the command, closes what is not the command's, and tells
    /// the caller.
    fn become_the_command(&self, program: &mut [u64]) {
        let header = program.as_mut_ptr().cast::<Header>();
        // SAFETY: a whole program, that nobody else has and that was not relocated before.
        unsafe { relocate(header) };
        // SAFETY: relocated, and its calls are those that the plan has for this process.
        let failure = unsafe { child::walk(header) };
        for fd in &self.others {
            // A pipe of another use would not seem to end until the copy does, and with init's socket
            // the inside could speak for init.
            // SAFETY: nobody in the copy knows of it: the launch of this thread gives up its own.
            let _ = unsafe { syscall(nr::CLOSE, [*fd as u64, 0, 0, 0, 0, 0]) };
        }
        // SAFETY: the header is valid.
        let header = unsafe { &*header };
        if failure.index == header.calls {
            child::send(self.channel, &Message::new(message::PID, std::process::id()));
            return;
        }
        let failed = Message::failed(header.stage, failure.index, failure.errno);
        child::send(self.channel, &failed);
        exit(127)
    }

    /// Waits for the byte that says that the container is whole; a caller that has gone means the end.
    fn await_the_caller(&self) -> OwnedFd {
        let mut byte = 0_u8;
        loop {
            // SAFETY: the kernel writes one byte, which lives on this stack.
            let read = unsafe { libc::read(self.channel, (&raw mut byte).cast(), 1) };
            match read {
                1 => break,
                -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {
                }
                _ => exit(127),
            }
        }
        // SAFETY: the copy's own, that nobody else in it knows of.
        unsafe { OwnedFd::from_raw_fd(self.channel) }
    }
}

/// A container that is not whole yet. Dropped: it is killed and reaped.
struct UnfinishedContainer(i32);

impl Drop for UnfinishedContainer {
    fn drop(&mut self) {
        // Without a PID namespace the copy does not end with init; both are in one process group,
        // whose leader has not been reaped, so the number is theirs.
        let _ = sys::kill(-self.0, libc::SIGKILL);
        let _ = sys::kill(self.0, libc::SIGKILL);
        reap(self.0);
    }
}

/// What the child calls: waits until the caller stands still, and forks it. In the copy, goes to where
/// the caller stands.
///
/// # Safety
///
/// `context` is the address of the launch's [`Point`], whose program is the one that the calling
/// process walks.
unsafe extern "C" fn fork_for_the_caller(context: u64) -> i64 {
    // SAFETY: the caller's promise; the launch does not touch it while this process is here.
    let point = unsafe { &*(context as *const Point) };
    let shared = SharedProgram::borrowed(point.program());
    shared.tell_parent(tid::AWAITS_FORK);
    if let Err(errno) = shared.await_fork() {
        return -i64::from(errno);
    }
    // SAFETY: the one thread whose identity this process has stands still, so nobody else uses its
    // thread-local storage, nor the locks that it would be known by.
    let pid = unsafe { libc::fork() };
    match pid {
        // SAFETY: the launch filled the point in before it let this process go on, and its stack is
        // here as it was then.
        0 => unsafe { point::resume(point) },
        // The thread's errno, which stands still as well.
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)),
        pid => i64::from(pid),
    }
}

/// Stands still until the child has executed init, or has ended. The copy returns from here, too.
fn stand_still(shared: &SharedProgram, point: &mut Point) -> Side {
    // Nothing of this process may use the thread's state meanwhile: no handler either.
    let mask = block_signals();
    let copied = point.stand(go_on_and_wait, shared.header().cast());
    if copied {
        // The mask comes back with the command's other settings.
        return Side::Copy;
    }
    restore_signals(mask);
    Side::Caller
}

/// Lets the child fork, and waits for its exec or its end with nothing but system calls.
extern "C" fn go_on_and_wait(header: *mut std::ffi::c_void) {
    let shared = SharedProgram::borrowed(header.cast());
    shared.tell_child(go::FORK);
    shared.wait_still_while(tid::AWAITS_FORK);
}

/// Waits for the copy's word, and lets it go on.
fn await_the_copy(
    plan: &Plan,
    channel: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<(), LaunchError> {
    let failed = |error: &std::io::Error| SpawnError::from_io(Step::ForkCaller, error);
    while !fd::is_readable(channel, wait.slice()).map_err(|error| failed(&error))? {
        wait.check()?;
    }
    match read_message(channel) {
        Some(found) if found.kind == message::PID => {}
        Some(found) => {
            return Err(plan.failure(found.stage as usize, found.value, found.errno).into());
        }
        // Killed before it could say anything.
        None => return Err(SpawnError::new(Step::ForkCaller, libc::ESRCH).into()),
    }
    loop {
        match rustix::io::write(channel, &[1]) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(&error.into()).into()),
        }
    }
}
