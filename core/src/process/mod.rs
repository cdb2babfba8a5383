//! A running container: signals, and how it ended.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use minidocker_init::program::{Message, message};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::caller::Identity;
use crate::error::LaunchError;
use crate::host::target::Target;
use crate::launch::layers::LayerLocks;
use crate::launch::{self, LaunchParams, Launched};
use crate::plan::Plan;
pub use crate::sys::Usage;
use crate::sys::{self, WaitTarget, fd, kernel_text};

mod disposition;

use disposition::{DefaultAction, Recipient, default_action};

/// How long one wait for a process that is not a child of this one takes.
const SLICE: Duration = Duration::from_millis(100);
/// How often to look for the status of a process that other code is about to reap.
const MAX_LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The first process of a container: a child of the caller, which must wait for it.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    is_pid_1: bool,
    leads_session: bool,
    /// The caller's peak memory. The kernel counts it for a child that shared the caller's memory, too.
    shared_peak: u64,
    init: Option<Mutex<Init>>,
    /// The signal that the first SIGKILL was sent in place of; 0 before that.
    killed_for: AtomicI32,
    state: Mutex<State>,
    /// The locks on the layers that the container writes to, until it is reaped.
    layers: Mutex<LayerLocks>,
    /// The process whose child it is.
    owner: Identity,
}

#[derive(Debug)]
enum State {
    /// Not reaped by this library. A pidfd of the process, unless none was available at the launch: other code of the
    /// caller may reap the process, and another process then gets its pid.
    Running(Option<Arc<OwnedFd>>),
    Ended(Exit),
}

/// The connection to init, and its messages so far.
#[derive(Debug)]
struct Init {
    /// Closed once init has been reaped: a program may keep many `Process`es that have ended.
    control: Option<OwnedFd>,
    /// A pidfd of the command.
    command: Option<OwnedFd>,
    /// How the command ended.
    report: Option<(ExitStatus, Usage)>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The command's status. If SIGKILL was sent in place of a signal that the kernel drops for PID 1, a death by
    /// that signal. `None` if the status is lost: on Linux before 6.15, SIGCHLD is ignored or another wait(2) took it.
    pub status: Option<ExitStatus>,
    /// The resources that the command used; `None` if that is lost too.
    pub usage: Option<Usage>,
    /// The signal that SIGKILL was sent in place of.
    pub killed_for: Option<i32>,
    /// Whether wait(2) returned the end. If not, `usage` can only come from init's report.
    pub seen: bool,
}

impl Exit {
    /// Whether the status is known and is a success.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Waits for the end of a container's first process.
#[derive(Debug)]
pub struct Watch(Arc<OwnedFd>);

impl Watch {
    /// Whether it ends within that time. Also `false` when a signal interrupts the wait.
    #[must_use]
    pub fn ends_within(&self, time: Duration) -> bool {
        fd::is_readable(self.0.as_fd(), time).unwrap_or(true)
    }
}

impl From<Launched> for Process {
    fn from(launched: Launched) -> Self {
        let Launched { pid, control, is_pid_1, leads_session, shared_memory, layers } = launched;
        Self {
            pid,
            is_pid_1,
            leads_session,
            shared_peak: if shared_memory { sys::own_peak() } else { 0 },
            init: control.map(|control| {
                Mutex::new(Init { control: Some(control), command: None, report: None })
            }),
            killed_for: AtomicI32::new(0),
            state: Mutex::new(State::Running(fd::pidfd_open(pid).ok().map(Arc::new))),
            layers: Mutex::new(layers),
            owner: Identity::of_this_process(),
        }
    }
}

impl Process {
    /// Launches a container: [`launch()`](launch::launch()).
    ///
    /// # Errors
    ///
    /// The errors of [`launch()`](launch::launch()).
    pub fn launch(
        plan: &Plan,
        target: Option<&Target>,
        params: LaunchParams<'_>,
    ) -> Result<Self, LaunchError> {
        launch::launch(plan, target, params).map(Self::from)
    }

    /// The pid as the caller sees it: the command's, or init's if the container has an init.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it leads a session, whose processes end with it.
    #[must_use]
    pub const fn leads_session(&self) -> bool {
        self.leads_session
    }

    /// Whether it is a child of this process. In a fork of its caller, `signal` and the waits work too, but its
    /// usage is unknown, and its status is known only after the caller has reaped it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.owner == Identity::of_this_process()
    }

    /// Sends a signal to the command.
    ///
    /// The signal has the same effect on a PID 1 as on any other process. The kernel drops signals that PID 1
    /// does not handle (`pid_namespaces(7)`). So if no thread catches, ignores, blocks or waits for the signal,
    /// SIGKILL replaces it if its default action ends a process, and SIGSTOP if that action stops one.
    ///
    /// The kernel also drops SIGTSTP, SIGTTIN and SIGTTOU for an orphaned process group (`setpgid(2)`), which the
    /// group of a session leader is. SIGSTOP replaces these too.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it has ended; `EPERM` or `EINVAL` from kill(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        if let Some(init) = &self.init {
            // The messages of init are for its parent. Init itself passes signals on.
            return if self.is_ours() {
                self.signal_through_init(&mut lock(init), signal)
            } else {
                self.send(signal)
            };
        }
        if signal == libc::SIGKILL {
            self.record_killed_for(signal);
        }
        if !self.may_drop(signal) {
            return self.send(signal);
        }
        let pidfd = self.shared_pidfd()?;
        self.deliver(signal, &Recipient { pid: self.pid, pidfd: pidfd.as_fd() })
    }

    /// Sends a signal to the container's first process.
    fn send(&self, signal: i32) -> io::Result<()> {
        // Under the lock no other thread reaps it.
        match &*lock(&self.state) {
            State::Running(Some(pidfd)) => sys::pidfd_send_signal(pidfd.as_fd(), signal),
            State::Running(None) => sys::kill(self.pid, signal),
            State::Ended(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// Whether the kernel may drop a signal that would have an effect on any other process.
    fn may_drop(&self, signal: i32) -> bool {
        match default_action(signal) {
            DefaultAction::Kill => self.is_pid_1,
            DefaultAction::Stop => self.is_pid_1 || self.leads_session,
            DefaultAction::Other => false,
        }
    }

    fn deliver(&self, signal: i32, recipient: &Recipient<'_>) -> io::Result<()> {
        if recipient.deliver(signal)? {
            return Ok(());
        }
        if default_action(signal) == DefaultAction::Stop {
            return recipient.send(libc::SIGSTOP);
        }
        self.record_killed_for(signal);
        recipient.send(libc::SIGKILL)
    }

    /// Records the signal that SIGKILL is sent in place of. Call it before sending SIGKILL, because another thread
    /// may reap the process as soon as it is dead. Only the first call has an effect: that SIGKILL is the cause.
    fn record_killed_for(&self, signal: i32) {
        let (success, failure) = (Ordering::Release, Ordering::Relaxed);
        let _ = self.killed_for.compare_exchange(0, signal, success, failure);
    }

    fn signal_through_init(&self, init: &mut Init, signal: i32) -> io::Result<()> {
        // SIGKILL goes to init: when the command dies, init ends too, and this also works if init is stuck.
        if signal == libc::SIGKILL || signal == 0 {
            return self.send(signal);
        }
        while init.command.is_none() && init.report.is_none() {
            if !init.receive() {
                break;
            }
        }
        let Some(command) = &init.command else { return self.send(signal) };
        let pidfd = command.as_fd();
        let pid = field_of(command, "Pid:").and_then(|pid| pid.parse().ok());
        match pid.filter(|_| default_action(signal) == DefaultAction::Stop) {
            Some(pid) => self.deliver(signal, &Recipient { pid, pidfd }),
            None => sys::pidfd_send_signal(pidfd, signal),
        }
    }

    /// Waits until the process has ended, and reaps it. Returns the same value when called again.
    ///
    /// # Errors
    ///
    /// `EINTR` from waitid(2).
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.reap(true)? {
                return Ok(exit);
            }
        }
    }

    /// Reaps the process if it has ended; `None` if it still runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        self.reap(false)
    }

    /// `None` if it still runs; with `block`, after a moment.
    fn reap(&self, block: bool) -> io::Result<Option<Exit>> {
        let pidfd = match &*lock(&self.state) {
            State::Ended(exit) => return Ok(Some(*exit)),
            State::Running(pidfd) => pidfd.clone(),
        };
        let child =
            pidfd.as_ref().map_or(WaitTarget::Pid(self.pid), |fd| WaitTarget::Pidfd(fd.as_fd()));
        // Other threads may wait too: they all see the end, and the first to take the lock reaps.
        let seen = match sys::wait_without_reaping(child, block) {
            Ok(None) => return Ok(None),
            Ok(seen) => seen,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                // Other code of the caller has reaped it, or it is a child of the process that this one was forked
                // from, and may run on.
                let time = if block { SLICE } else { Duration::ZERO };
                if let Some(pidfd) = &pidfd
                    && !fd::is_readable(pidfd.as_fd(), time)?
                {
                    return Ok(None);
                }
                None
            }
            Err(error) => return Err(error),
        };
        let mut state = lock(&self.state);
        if let State::Ended(exit) = *state {
            return Ok(Some(exit));
        }
        // Before another process can get the pid.
        launch::forget(self.pid);
        // A forked child of the caller cannot wait for the container, whose layers stay locked.
        let locks = std::mem::take(&mut *lock(&self.layers));
        if seen.is_some() {
            locks.release();
        }
        // ECHILD: another wait(2) of the caller was faster.
        let _ = sys::reap(child);
        let exit = self.exit(seen, pidfd.as_ref().map(AsFd::as_fd));
        *state = State::Ended(exit);
        Ok(Some(exit))
    }

    /// Combines the result of wait(2), `waited`, with init's report, which takes precedence.
    fn exit(&self, waited: Option<(ExitStatus, Usage)>, pidfd: Option<BorrowedFd<'_>>) -> Exit {
        let seen = waited.is_some();
        let waited = waited.map(|(status, mut usage)| {
            usage.peak = usage.peak.filter(|&peak| peak > self.shared_peak);
            (status, usage)
        });
        let init = self.init.as_ref().filter(|_| self.is_ours());
        let report = init.and_then(|init| lock(init).close());
        let (status, usage) = report.or(waited).unzip();
        let status = status.or_else(|| pidfd.and_then(reaped_status));
        let killed_for =
            Some(self.killed_for.load(Ordering::Acquire)).filter(|&signal| signal != 0);
        let status = match (status, killed_for) {
            (Some(status), Some(signal)) if status.signal() == Some(libc::SIGKILL) => {
                Some(ExitStatus::from_raw(signal))
            }
            _ => status,
        };
        Exit { status, usage, killed_for, seen }
    }

    /// Opens a pidfd of the process, which must not have been reaped.
    ///
    /// # Errors
    ///
    /// `EMFILE`, or `ESRCH` if it has been reaped: `pidfd_open(2)`.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        self.shared_pidfd()?.try_clone()
    }

    fn shared_pidfd(&self) -> io::Result<Arc<OwnedFd>> {
        match &*lock(&self.state) {
            State::Running(Some(pidfd)) => Ok(Arc::clone(pidfd)),
            State::Running(None) => fd::pidfd_open(self.pid).map(Arc::new),
            State::Ended(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// Opens a [`Watch`] of the process, which must not have been reaped.
    ///
    /// # Errors
    ///
    /// `EMFILE`, or `ESRCH` if it has been reaped: `pidfd_open(2)`.
    pub fn watch(&self) -> io::Result<Watch> {
        self.shared_pidfd().map(Watch)
    }
}

/// How a process ended that other code has reaped; `None` on Linux before 6.15.
fn reaped_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    for _ in 0..MAX_LOOKS {
        match sys::status_after_reaping(pidfd) {
            Ok(None) => thread::sleep(PAUSE),
            found => return found.ok().flatten(),
        }
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Init {
    /// Closes the connection to init, which has ended, and returns its report. `None` if init was killed
    /// before it could send one.
    fn close(&mut self) -> Option<(ExitStatus, Usage)> {
        while self.report.is_none() && self.receive() {}
        self.control = None;
        self.command = None;
        self.report
    }

    /// Receives one message; `false` when there is none.
    fn receive(&mut self) -> bool {
        let Some(control) = &self.control else { return false };
        let mut bytes = [0_u8; size_of::<Message>()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            // Do not wait: a message that is not there yet will never come.
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match recvmsg(control, &mut parts, &mut rights, flags) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result,
            }
        };
        if received.map_or(0, |received| received.bytes) != size_of::<Message>() {
            return false;
        }
        let found = Message::from_bytes(&bytes);
        let pidfd = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match (found.kind, pidfd) {
            (message::PID, Some(pidfd)) if is_inside(&pidfd, found.value) => {
                self.command = Some(pidfd);
            }
            (message::ENDED, _) if self.report.is_none() => {
                let [user, system, peak] = found.usage;
                let usage = Usage {
                    user: Duration::from_micros(user),
                    system: Duration::from_micros(system),
                    peak: Some(peak),
                };
                self.report = Some((ExitStatus::from_raw(found.value as i32), usage));
            }
            _ => {}
        }
        true
    }
}

/// Whether `pidfd` is a pidfd of a process that is `pid` in its own PID namespace, below the caller's. Root inside
/// may trace init, so init's messages are not trusted.
fn is_inside(pidfd: &OwnedFd, pid: u32) -> bool {
    let Some(pids) = field_of(pidfd, "NSpid:") else { return false };
    let pids: Vec<&str> = pids.split_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&pid.to_string().as_str())
}

/// A field of `/proc/self/fdinfo/FD`: `proc_pid_fdinfo(5)`.
fn field_of(fd: &OwnedFd, name: &str) -> Option<String> {
    let info = fs::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let field = std::str::from_utf8(kernel_text::field(&info, name)?).ok()?;
    Some(field.trim().to_owned())
}
