//! Starts the watchdog, the process that ends containers when their caller dies, and connects to it.
//!
//! Each calling process has one. A container registers itself before it executes its command: it sends a pidfd of itself
//! on the watchdog's socket. When the launch is done, [`PendingWatch::confirm`] checks that the watchdog works. A
//! watchdog that was killed or stopped is replaced, and its successor gets pidfds of all living containers from the
//! caller.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minidocker_init::proc::Stat;
use minidocker_init::program::{Message, message, registration};
use minidocker_init::raw::nr;
use rustix::net::sockopt::{Timeout, set_socket_passcred, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Resource, getrlimit};

use crate::caller::{self, Slots, WatchdogFds};
use crate::clone::signal_mask::signal_mask;
use crate::clone::wait::Wait;
use crate::clone::{NewNamespaces, clone_and_wait, kill_and_reap, program_memfd, reap_within};
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::plan::sequence::{EncodeFacts, Sequence};
use crate::step::Step;
use crate::sys::kept::KeptFd;
use crate::sys::{self, fd};

/// The longest time that a registration waits for room in the socket. A watchdog reads at once unless it has as many
/// containers as it can have descriptors.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time that a running watchdog may take to receive a registration. One that is replaced too early does no
/// harm.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// More containers than a caller launches at the same time.
const MANY_LAUNCHES: usize = 256;

/// The longest time that a watchdog may take to start. Other threads cannot launch meanwhile.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the connection to the watchdog of this process, and starts a watchdog if there is none that works.
pub(crate) fn connect(wait: &mut Wait<'_>) -> Result<Arc<WatchdogFds>, LaunchError> {
    caller::with_slots(|slots| match slots.watchdog.as_ref().filter(|kept| works(kept)) {
        Some(kept) => Ok(Arc::clone(kept)),
        None => replace(slots, wait),
    })
}

/// A container that registers itself with a watchdog while it is launched. Unless it is confirmed, dropping this
/// forgets it.
pub(crate) struct PendingWatch {
    /// The byte with which the container registers itself.
    kind: u8,
    /// The watchdog with which it does.
    used: Arc<WatchdogFds>,
    /// The container, if it was recorded while that watchdog was the current one: its successors get it, too.
    recorded: Option<i32>,
}

impl PendingWatch {
    pub(crate) fn new(kind: u8, used: &Arc<WatchdogFds>) -> Self {
        Self { kind, used: Arc::clone(used), recorded: None }
    }

    /// Records the first process, which has not registered itself yet. A watchdog that another thread starts during the
    /// launch watches it then.
    ///
    /// # Errors
    ///
    /// As for a watchdog that has ended (see [`has_gone`]) if another thread has replaced it: the new one would not get
    /// the container.
    pub(crate) fn record(&mut self, pid: i32) -> Result<(), SpawnError> {
        caller::with_slots(|slots| {
            if !self.is_current(slots) {
                return Err(SpawnError::new(Step::Watchdog, libc::EPIPE));
            }
            // If this fails, `confirm` tries again, and reports it.
            if caller::record_watched(pid, self.kind).is_ok() {
                self.recorded = Some(pid);
            }
            Ok(())
        })
    }

    /// Checks that a working watchdog watches the container, which has been launched and has registered itself. If the
    /// watchdog was killed or stopped meanwhile, another one takes over.
    pub(crate) fn confirm(mut self, pid: i32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        caller::with_slots(|slots| {
            let mut registered = self.recorded == Some(pid) || self.is_current(slots);
            if self.recorded != Some(pid) {
                match caller::record_watched(pid, self.kind) {
                    // It has ended, and other code of the caller has reaped it.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
                    result => result.map_err(|error| failed(&error))?,
                }
                self.recorded = Some(pid);
                registered = registered || works(&self.used);
            }
            if !slots.watchdog.as_ref().is_some_and(|kept| works(kept)) {
                replace(slots, wait)?;
            } else if !registered {
                take_over(slots, wait)?;
            }
            self.recorded = None;
            Ok(())
        })
    }

    /// Drops it in a copy of the caller, where nothing is recorded.
    pub(crate) fn leave_to_the_caller(mut self) {
        self.recorded = None;
    }

    fn is_current(&self, slots: &Slots) -> bool {
        slots.watchdog.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.used))
    }
}

impl Drop for PendingWatch {
    fn drop(&mut self) {
        if let Some(pid) = self.recorded {
            caller::forget_watched(pid);
        }
    }
}

/// Whether the error means that the watchdog ended while a container registered itself.
pub(crate) fn has_gone(error: &LaunchError) -> bool {
    let gone = [libc::EPIPE, libc::ECONNRESET, libc::ECONNREFUSED];
    matches!(error, LaunchError::Spawn(error) if error.step == Step::Watchdog && gone.contains(&error.errno))
}

/// Starts a watchdog for this process beside its own one, and ends it.
///
/// # Errors
///
/// [`SpawnError`] with the call that is refused.
pub(crate) fn try_to_start(timeout: Duration) -> Result<(), LaunchError> {
    let wait = &mut Wait::at_most(timeout);
    // Without a connection, it ends.
    caller::with_slots(|slots| start(slots, wait)).map(drop)
}

fn failed(error: &io::Error) -> SpawnError {
    SpawnError::from_io(Step::Watchdog, error)
}

/// Whether the watchdog is alive, and neither stopped nor frozen.
fn works(kept: &WatchdogFds) -> bool {
    // A running watchdog has usually received everything, and only then is the look at /proc left out.
    !kept.killed.load(Ordering::Relaxed)
        && kept.socket.is_ours()
        && kept.pidfd.is_ours()
        && fd::is_alive(kept.pidfd.fd())
        && (has_received_all(kept) || (!is_stopped(kept.pid) && catches_up(kept)))
}

/// Whether the watchdog has received every registration. The end of a watchdog discards the others, and closes its socket
/// before that.
fn has_received_all(kept: &WatchdogFds) -> bool {
    let socket = kept.socket.fd();
    let is_closed = || fd::is_readable(socket, Duration::ZERO).unwrap_or(true);
    sys::unreceived(socket).is_ok_and(|count| count == 0) && !is_closed()
}

/// Whether the watchdog receives the registrations that wait for it, within [`CATCH_UP_TIMEOUT`]. A frozen one does not:
/// the state of a process does not tell that its control group is frozen. Neither does one that may have as many
/// containers as it can have, for which there is no better one.
fn catches_up(kept: &WatchdogFds) -> bool {
    if caller::watched_count() + MANY_LAUNCHES >= kept.room {
        return true;
    }
    let end = Instant::now() + CATCH_UP_TIMEOUT;
    let mut pause = Duration::from_micros(20);
    while Instant::now() < end {
        std::thread::sleep(pause);
        if has_received_all(kept) {
            return true;
        }
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    false
}

/// Whether the process is stopped by a signal or a debugger. `false` if /proc does not tell.
fn is_stopped(pid: i32) -> bool {
    // One read(2), which returns the whole file or fills the buffer.
    let mut buffer = [0; 512];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut buffer));
    let stat = read.ok().and_then(|length| Stat::parse(&buffer[..length]));
    stat.is_some_and(|stat| matches!(stat.state, b'T' | b't' | b'Z' | b'X'))
}

/// Ends the watchdog, if there is one, and starts another that watches all living containers.
fn replace(slots: &mut Slots, wait: &mut Wait<'_>) -> Result<Arc<WatchdogFds>, LaunchError> {
    if let Some(old) = slots.watchdog.take()
        && old.pidfd.is_ours()
    {
        old.killed.store(true, Ordering::Relaxed);
        // This fails if the caller has given up its privileges since. Then the old one ends with the caller, and kills
        // no process that has ended, because it has pidfds.
        let _ = sys::pidfd_send_signal(old.pidfd.fd(), libc::SIGKILL);
    }
    take_over(slots, wait)
}

/// Starts a watchdog that watches all living containers. The one before it ends with the last container that has
/// registered itself there.
fn take_over(slots: &mut Slots, wait: &mut Wait<'_>) -> Result<Arc<WatchdogFds>, LaunchError> {
    let fresh = Arc::new(start(slots, wait)?);
    let socket = fresh.socket.fd();
    caller::each_watched(|pidfd, kind| register(socket, kind, Some(pidfd.as_fd())))
        .and_then(|()| register(socket, registration::SEAL, None))
        .map_err(|error| failed(&error))?;
    slots.watchdog = Some(Arc::clone(&fresh));
    Ok(fresh)
}

/// Sends a registration to a watchdog that is not sealed yet.
fn register(socket: BorrowedFd<'_>, kind: u8, pidfd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let pidfds = pidfd.as_slice();
    if !pidfds.is_empty() {
        rights.push(SendAncillaryMessage::ScmRights(pidfds));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&[kind])], &mut rights, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return sent.map(drop).map_err(Into::into),
        }
    }
}

fn start(slots: &mut Slots, wait: &mut Wait<'_>) -> Result<WatchdogFds, LaunchError> {
    let failed = |error: io::Error| failed(&error);
    let helper = slots.helper()?;
    let (ours, theirs) = fd::socket_pair().map_err(failed)?;
    // SO_PASSCRED: the kernel attaches the sender's pid to each message.
    set_socket_passcred(&theirs, true).map_err(|error| failed(error.into()))?;
    set_socket_timeout(&ours, Timeout::Send, Some(SEND_TIMEOUT))
        .map_err(|error| failed(error.into()))?;
    let caller = fd::pidfd_open(std::process::id() as i32)
        .map_err(|error| SpawnError::from_io(Step::Watchdog, &error).of_call("pidfd_open"))?;
    let status = execute(&helper, theirs.as_fd(), caller.as_fd(), wait)?;
    drop(theirs);
    let (pid, pidfd) = introduction(ours.as_fd(), status)?;
    Ok(WatchdogFds {
        socket: KeptFd::new(ours).map_err(failed)?,
        pidfd: KeptFd::new(pidfd).map_err(failed)?,
        pid,
        killed: AtomicBool::new(false),
        room: getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |limit| limit as usize),
    })
}

/// Starts the process, and returns the wait status of the child that sets it up and forks it. So the watchdog is not a
/// child of the caller.
fn execute(
    helper: &KeptFd,
    socket: BorrowedFd<'_>,
    caller: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<Option<i32>, LaunchError> {
    let [child, watchdog] = Plan::watchdog();
    let mut handles = Handles {
        helper: helper.raw(),
        control: socket.as_raw_fd(),
        caller: caller.as_raw_fd(),
        ..Handles::NONE
    };
    let facts = EncodeFacts {
        control: handles.control,
        ..EncodeFacts::new(watchdog.role, handles.clone(), signal_mask())
    };
    let memfd = program_memfd(&watchdog.sequence.encode(&facts)).map_err(|error| failed(&error))?;
    handles.programs[0] = memfd.as_raw_fd();
    let facts = EncodeFacts::new(child.role, handles, facts.mask);
    let program = child.sequence.encode(&facts);
    let mut limited = wait.at_most_for(START_TIMEOUT);
    let ended = run_to_the_end(&child.sequence, program, &mut limited);
    match ended {
        // Something has stopped the child. The caller's own time is not up.
        Err(LaunchError::TimedOut) if wait.check().is_ok() => {
            Err(SpawnError::new(Step::Watchdog, libc::ETIMEDOUT).into())
        }
        ended => ended,
    }
}

fn run_to_the_end(
    child: &Sequence,
    program: Box<[u64]>,
    wait: &mut Wait<'_>,
) -> Result<Option<i32>, LaunchError> {
    let outcome = clone_and_wait(program, NewNamespaces::default(), &mut |_, _| Ok(()), wait)?;
    let ended = match (outcome.failed, wait.given_up.clone()) {
        (Some((index, errno)), _) => {
            let name = child.calls.get(index as usize).map_or("execveat", |call| call.number.name);
            Err(SpawnError::new(Step::Watchdog, errno).of_call(name).into())
        }
        (None, Some(error)) => Err(error),
        (None, None) => reap_within(outcome.pid, wait),
    };
    ended.inspect_err(|_| kill_and_reap(outcome.pid))
}

/// Receives the pid of the watchdog and a pidfd, or the reason why there is none.
fn introduction(socket: BorrowedFd<'_>, status: Option<i32>) -> Result<(i32, OwnedFd), SpawnError> {
    let mut bytes = [0_u8; size_of::<Message>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        // Do not wait: the process that sends it has ended.
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        match recvmsg(socket, &mut parts, &mut rights, flags) {
            Err(rustix::io::Errno::INTR) => {}
            // Nothing was sent.
            Err(rustix::io::Errno::AGAIN) => break 0,
            Err(error) => {
                let found = Message::refused(nr::RECVMSG as u32, error.raw_os_error());
                return Err(SpawnError::refused(Step::Watchdog, found));
            }
            Ok(received) => break received.bytes,
        }
    };
    let found = Message::from_bytes(&bytes);
    let pidfd = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (found.kind, pidfd, status) {
        (message::PID, Some(pidfd), _) => {
            let pidfd = fd::above_stdio(pidfd).map_err(|error| failed(&error))?;
            Ok((found.value as i32, pidfd))
        }
        // The kernel drops a descriptor for which the caller has no room.
        (message::PID, None, _) => Err(SpawnError::new(Step::Watchdog, libc::EMFILE)),
        (message::REFUSED, ..) => Err(SpawnError::refused(Step::Watchdog, found)),
        // As if it had been killed later: the launch tries again.
        _ if status == Some(libc::SIGKILL) => Err(SpawnError::new(Step::Watchdog, libc::EPIPE)),
        _ if received == 0 => Err(unexplained(status)),
        _ => Err(SpawnError::new(Step::Watchdog, libc::EPROTO)),
    }
}

/// The error for a watchdog that has not reported why it ended.
fn unexplained(status: Option<i32>) -> SpawnError {
    let why = match status {
        Some(status) if libc::WIFSIGNALED(status) => {
            format!("Signal {} ended the watchdog at its start", libc::WTERMSIG(status))
        }
        _ => "The watchdog ended at its start without a report".to_owned(),
    };
    let mut error = SpawnError::new(Step::Watchdog, libc::ENOSYS);
    error.hint = error.hint.map(|hint| hint.after(&why));
    error
}
