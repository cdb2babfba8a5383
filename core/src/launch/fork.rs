//! A copy of the caller in a new container: fork(3) across namespaces, with one copy of the page tables.
//!
//! Three processes take part. The *caller* clones a *child* that shares its memory and makes the container, as
//! for a command. Then the calling thread stands still, with all signals blocked, and the child calls the C
//! library's `fork()` in its place. The child has the thread pointer of that thread, so `fork()` finds the
//! thread's locks, at-fork handlers and thread-local storage. The new process, the *copy*, switches to the stack
//! of the calling thread, to the point where that thread stands still, and returns from [`fork`] there. The child
//! executes init.
//!
//! The copy has the descriptors of the child, which are those of the caller at the clone. It does not have
//! descriptors that other threads open after that, and keeps those that they close.
//!
//! While the child is in `fork()`, it may hold locks of the caller's allocator, so the launch does not kill it
//! until the kernel has copied the page tables.

#![expect(
    unsafe_code,
    reason = "memory and descriptors of a process that was forked in the middle of a call"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use minidocker_init::child;
use minidocker_init::program::{Header, Message, go, message, relocate, tid};
use minidocker_init::raw::{exit, nr, syscall};

use rustix::net::{RecvFlags, SendFlags, send};

use super::encoder::StageEncoder;
use super::fds::own_pidfd;
use super::layers::Layers;
use super::point::{self, Point, ThreadState};
use super::report::{has_ended, read_message_now};
use super::{LaunchParams, Launched, complete, with_a_watchdog};
use crate::clone::shared::SharedProgram;
use crate::clone::signal_mask::{block_signals, restore_signals};
use crate::clone::wait::Wait;
use crate::clone::{Outcome, Side, clone_and_fork, kill_and_reap, program_memfd};
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::step::Step;
use crate::sys::dumpable::{EndangeredDumpable, make_dumpable};
use crate::sys::{self, fd};
use crate::watchdog::PendingWatch;
use crate::{caller, watchdog};

/// The result of [`fork`] in either process.
#[derive(Debug)]
pub enum Forked {
    /// In the caller: the container, and a stream socket to the copy.
    Caller(Launched, OwnedFd),
    /// In the copy: a stream socket to the caller.
    Copy(OwnedFd),
}

/// Executes a plan for [`Payload::Fork`](crate::spec::Payload::Fork). Returns twice: in the caller, and in a copy
/// of the caller, which is the command of a new container. It returns in the copy once the launch has succeeded.
///
/// When the container is ready, it calls `around` with a function that forks, which `around` must call. There an
/// interpreter runs its hooks before the fork, and after it in either process.
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
    let LaunchParams { interrupted, deadline, trace, inject } = params;
    let mut wait = Wait::new(interrupted.map(|ask| ask as _), deadline);
    let encoder = StageEncoder::new(plan, trace, inject);
    with_a_watchdog(&mut wait, |wait| attempt(plan, &encoder, wait, around))
}

fn attempt(
    plan: &Plan,
    encoder: &StageEncoder<'_>,
    wait: &mut Wait<'_>,
    around: &mut dyn FnMut(&mut dyn FnMut() -> Side) -> Side,
) -> Result<Forked, LaunchError> {
    let failed = |error: std::io::Error| SpawnError::from_io(Step::Prepare, &error);
    let helper = caller::helper()?;
    let watchdog = plan.watched.map(|_| watchdog::connect(wait)).transpose()?;
    let mut watch =
        watchdog.as_ref().zip(plan.watched).map(|(kept, kind)| PendingWatch::new(kind, kept));
    let own_pidfd = plan.watched.map(|_| own_pidfd()).transpose()?;
    let (control, init_control) = fd::socket_pair().map_err(failed)?;
    let (channel, copy_channel) = fd::stream_pair().map_err(failed)?;
    let layers = Layers::open(plan)?;
    let mut handles = Handles {
        helper: helper.raw(),
        watchdog: watchdog.as_ref().map_or(-1, |kept| kept.socket.raw()),
        control: init_control.as_raw_fd(),
        layers: layers.numbers(),
        caller: own_pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        trees: layers.trees(),
        ..Handles::NONE
    };
    let mut copy_program = encoder.encode(2, &handles, copy_channel.as_raw_fd());
    let memfd = program_memfd(&encoder.encode(1, &handles, -1)).map_err(failed)?;
    handles.programs[0] = memfd.as_raw_fd();
    let mut program = encoder.encode(0, &handles, -1);
    encoder.trace_caller();
    let mut point = Point::new(program.as_mut_ptr().cast());
    // SAFETY: a whole program, to which this function has the only pointer.
    let header = unsafe { &mut *program.as_mut_ptr().cast::<Header>() };
    header.fork = Some(fork_for_the_caller);
    header.fork_context = (&raw mut point) as u64;

    let mut caller_copy = CallerCopy {
        channel: copy_channel.as_raw_fd(),
        to_close: [
            control.as_raw_fd(),
            init_control.as_raw_fd(),
            channel.as_raw_fd(),
            memfd.as_raw_fd(),
        ]
        .into_iter()
        .chain(layers.descriptors())
        .collect(),
    };
    caller_copy.to_close.extend(own_pidfd.as_ref().map(AsRawFd::as_raw_fd));
    let caller_copy = std::cell::RefCell::new(&mut caller_copy);
    // Held until the clone, so that the list has exactly the descriptors that the child inherits. Released then,
    // because signal handlers that run while this thread waits may use containers too.
    let mut held = Some(caller::held());
    let mut child_fds = Some((copy_channel, init_control, memfd, own_pidfd));
    let endangered = plan.endangers_dumpable.then(EndangeredDumpable::begin);
    let mut parents_part = |pid, wait: &mut Wait<'_>| {
        if let Some(held) = held.take() {
            caller_copy.borrow_mut().to_close.extend(held.iter());
        }
        // Close them, since the child has copies: the caller's would keep the sockets open. Besides, writing the id
        // maps takes a descriptor, and the caller may be near its limit.
        child_fds = None;
        if let Some(watch) = &mut watch {
            watch.record(pid)?;
        }
        if plan.endangers_dumpable {
            make_dumpable();
        }
        layers.write_id_maps(plan, pid, wait)
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
                caller_copy.borrow().become_the_command(&mut copy_program);
            }
            side
        }))
    };
    let namespaces = layers.namespaces(plan);
    let outcome = clone_and_fork(program, namespaces, &mut parents_part, wait, &mut forking);
    // It is still held if the clone failed.
    drop(held);
    if matches!(outcome, Ok(Outcome { side: Side::Copy, .. })) {
        // The copy stays as the plan has made it.
        std::mem::forget(endangered);
    } else {
        drop(endangered);
    }
    let outcome = outcome?;
    if outcome.side == Side::Copy {
        // `become_the_command` has closed them.
        std::mem::forget((control, channel, layers));
        if let Some(watch) = watch {
            watch.leave_to_the_caller();
        }
        return Ok(Forked::Copy(caller_copy.borrow().await_the_caller()));
    }
    let container = UnfinishedContainer(outcome.pid);
    if let Some((index, errno)) = outcome.failed {
        return Err(plan.failure(0, index, errno).into());
    }
    await_the_copy(plan, outcome.pid, control.as_fd(), channel.as_fd(), wait)?;
    complete(watch, outcome.pid, wait)?;
    let_the_copy_go_on(channel.as_fd())?;
    std::mem::forget(container);
    let launched = Launched::new(outcome.pid, plan, Some(control), layers.keep());
    Ok(Forked::Caller(launched, channel))
}

/// The descriptors of the copy that this launch deals with: those of the caller at the clone.
struct CallerCopy {
    channel: RawFd,
    /// Descriptors of this launch and of other containers, which the copy closes.
    to_close: Vec<RawFd>,
}

impl CallerCopy {
    /// Walks the calls that the plan has for the command, closes `to_close`, and reports to the caller.
    fn become_the_command(&self, program: &mut [u64]) {
        let header = program.as_mut_ptr().cast::<Header>();
        // SAFETY: a whole program, not relocated yet, to which this is the only pointer.
        unsafe { relocate(header) };
        // SAFETY: the program is relocated, and its calls are those that the plan has for this process.
        let failure = unsafe { child::walk(header) };
        for fd in &self.to_close {
            // Otherwise a pipe of another container would stay open as long as the copy lives, and a process inside
            // could use init's socket to impersonate init.
            // SAFETY: no other code of the copy owns it: `fork` forgets its own descriptors.
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

    /// Waits for the byte that the caller sends when the launch has succeeded. Ends the copy if the caller has ended.
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
        // SAFETY: an open descriptor that no other code of the copy owns.
        unsafe { OwnedFd::from_raw_fd(self.channel) }
    }
}

/// The first process of a container whose launch has not succeeded yet. Dropping it kills the container.
struct UnfinishedContainer(i32);

impl Drop for UnfinishedContainer {
    fn drop(&mut self) {
        // Without a PID namespace the copy does not end with init. Both are in one process group. Its leader is not
        // reaped yet, so its id is not reused.
        let _ = sys::kill(-self.0, libc::SIGKILL);
        kill_and_reap(self.0);
    }
}

/// Waits until the calling thread stands still, and forks the caller. The child calls it. In the copy it continues
/// where the calling thread stands still.
///
/// # Safety
///
/// `context` is the address of the launch's [`Point`], whose program is the one that the calling
/// process walks.
unsafe extern "C" fn fork_for_the_caller(context: u64) -> i64 {
    // SAFETY: the caller's promise; the launch does not access the point while this function runs.
    let point = unsafe { &*(context as *const Point) };
    let shared = SharedProgram::borrowed(point.program());
    shared.tell_parent(tid::AWAITS_FORK);
    if let Err(errno) = shared.await_fork() {
        return -i64::from(errno);
    }
    // SAFETY: the thread whose thread pointer this process has stands still, so no other code uses its thread-local
    // storage or the locks that it owns.
    let pid = unsafe { libc::fork() };
    match pid {
        // SAFETY: the launch filled in the point before it let this process go on, and this memory is a copy with
        // the stack as it was then.
        0 => unsafe { point::resume(point) },
        // This process has the errno of the calling thread, which stands still.
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)),
        pid => i64::from(pid),
    }
}

/// Stands still until the child has executed init, or has ended. Returns in the copy, too.
fn stand_still(shared: &SharedProgram, point: &mut Point) -> Side {
    // While it stands still, no code of this process may use the state of the thread, not even a signal handler.
    let mask = block_signals();
    let copied = point.stand(go_on_and_wait, shared.header().cast());
    if copied {
        // The copy restores the mask with the command's other settings.
        return Side::Copy;
    }
    restore_signals(mask);
    Side::Caller
}

/// Lets the child fork, and waits for its exec or its end. Makes only system calls.
extern "C" fn go_on_and_wait(header: *mut std::ffi::c_void) {
    let shared = SharedProgram::borrowed(header.cast());
    shared.tell_child(go::FORK);
    shared.wait_uninterruptibly_while(tid::AWAITS_FORK);
}

/// Waits until the copy and init have reported that they work.
fn await_the_copy(
    plan: &Plan,
    init: i32,
    control: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<(), LaunchError> {
    await_message(channel, init, wait)?;
    let copy = read_message_now(channel, RecvFlags::empty());
    match copy {
        Some(found) if found.kind != message::PID => {
            return Err(plan.failure(found.stage as usize, found.value, found.errno).into());
        }
        _ => {}
    }
    await_message(control, init, wait)?;
    // The message about the command stays in the socket: the container's process receives it later.
    match (copy, read_message_now(control, RecvFlags::PEEK)) {
        (_, Some(found)) if found.kind == message::REFUSED => {
            Err(SpawnError::refused(Step::ForkCaller, found).into())
        }
        (Some(_), Some(_)) => Ok(()),
        // One of them was killed before it could report.
        _ => Err(SpawnError::new(Step::ForkCaller, libc::ESRCH).into()),
    }
}

/// Waits until a socket is readable or closed, or init has ended: the socket stays open if another process, which this
/// one has forked meanwhile, has a copy of its other end.
fn await_message(
    socket: BorrowedFd<'_>,
    init: i32,
    wait: &mut Wait<'_>,
) -> Result<(), LaunchError> {
    while !fd::is_readable(socket, wait.slice())
        .map_err(|error| SpawnError::from_io(Step::ForkCaller, &error))?
    {
        wait.check()?;
        if has_ended(init) {
            break;
        }
    }
    Ok(())
}

fn let_the_copy_go_on(channel: BorrowedFd<'_>) -> Result<(), SpawnError> {
    loop {
        match send(channel, &[1], SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            // Killed meanwhile.
            Err(rustix::io::Errno::PIPE) => {
                return Err(SpawnError::new(Step::ForkCaller, libc::ESRCH));
            }
            Err(error) => return Err(SpawnError::from_io(Step::ForkCaller, &error.into())),
        }
    }
}
