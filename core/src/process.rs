//! A running container: signals, and how it ended.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::plan::Plan;
use crate::program::{Message, message};
use crate::spec::namespaces::Kind;
pub use crate::sys::Used;
use crate::sys::{self, fd};

mod signals;

use signals::{Action, Recipient, default_action};

/// The first process of a container, a child of the caller's, which has to wait for it.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    is_pid_1: bool,
    leads_session: bool,
    init: Option<Mutex<Init>>,
    /// The signal that SIGKILL was last sent in place of; 0 for none.
    killed_for: AtomicI32,
}

/// What is known of a container whose PID 1 is the tiny init.
#[derive(Debug)]
struct Init {
    /// Closed once init has been reaped: a program may keep many that have ended.
    control: Option<OwnedFd>,
    command: Option<OwnedFd>,
    ended: Option<Ended>,
}

/// How the command of a container with an init ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The status, as wait(2) has it.
    pub status: i32,
    /// User time in microseconds.
    pub user: u64,
    /// System time in microseconds.
    pub system: u64,
    /// Peak resident set in bytes.
    pub peak: u64,
}

/// Waits for the end of a container's first process.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Whether it ends within that time; `false`, too, where a signal comes before.
    #[must_use]
    pub fn ends_within(&self, time: Duration) -> bool {
        fd::is_readable(self.0.as_fd(), time).unwrap_or(true)
    }
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It was sent as it is.
    AsIs,
    /// PID 1 would not have got it though its default action ends a process: SIGKILL was sent instead.
    AsKill,
}

impl Process {
    pub(crate) fn new(pid: i32, plan: &Plan, control: Option<OwnedFd>) -> Self {
        Self {
            pid,
            is_pid_1: plan.namespaces().contains(Kind::Pid) && control.is_none(),
            leads_session: plan.leads_session(),
            init: control.map(|control| {
                Mutex::new(Init { control: Some(control), command: None, ended: None })
            }),
            killed_for: AtomicI32::new(0),
        }
    }

    /// The pid as the caller sees it: the command's, or init's where there is one.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it leads a session, whose processes end with it.
    #[must_use]
    pub const fn leads_session(&self) -> bool {
        self.leads_session
    }

    /// Sends a signal to the command. The process must not have been reaped.
    ///
    /// A PID 1 gets what any other process would have got, though the kernel drops signals that PID 1
    /// does not handle (`pid_namespaces(7)`): where no thread catches, ignores, blocks or waits for
    /// the signal and its default action ends or stops a process, SIGKILL or SIGSTOP does so. The
    /// kernel also drops SIGTSTP, SIGTTIN and SIGTTOU where no process of the group has its parent in
    /// the session (`setpgid(2)`, orphaned process groups), as in a session of its own: likewise.
    ///
    /// # Errors
    ///
    /// `ESRCH` where it has ended, `EPERM`, `EINVAL`: kill(2).
    pub fn signal(&self, signal: i32) -> io::Result<Delivered> {
        if let Some(init) = &self.init {
            let mut init = init.lock().unwrap_or_else(PoisonError::into_inner);
            return self.signal_through_init(&mut init, signal);
        }
        if signal == libc::SIGKILL {
            self.dies_of(signal);
        }
        if !self.may_drop(signal) {
            return sys::kill(self.pid, signal).map(|()| Delivered::AsIs);
        }
        let pidfd = fd::pidfd_open(self.pid)?;
        self.deliver(signal, &Recipient { pid: self.pid, pidfd: pidfd.as_fd() })
    }

    /// Whether the kernel may drop a signal that would have an effect on any other process.
    fn may_drop(&self, signal: i32) -> bool {
        match default_action(signal) {
            Action::Kill => self.is_pid_1,
            Action::Stop => self.is_pid_1 || self.leads_session,
            Action::Other => false,
        }
    }

    fn deliver(&self, signal: i32, recipient: &Recipient<'_>) -> io::Result<Delivered> {
        if recipient.deliver(signal)? {
            return Ok(Delivered::AsIs);
        }
        if default_action(signal) == Action::Stop {
            return recipient.send(libc::SIGSTOP).map(|()| Delivered::AsIs);
        }
        self.dies_of(signal);
        recipient.send(libc::SIGKILL).map(|()| Delivered::AsKill)
    }

    /// Notes what a death by SIGKILL stands for. Before the signal is sent, since another thread may reap
    /// the process as soon as it is dead; of several signals in a row the first is the one it dies of.
    fn dies_of(&self, signal: i32) {
        let (success, failure) = (Ordering::Release, Ordering::Relaxed);
        let _ = self.killed_for.compare_exchange(0, signal, success, failure);
    }

    /// The signal that SIGKILL was sent in place of: what a death by SIGKILL is to be told as.
    #[must_use]
    pub fn killed_for(&self) -> Option<i32> {
        Some(self.killed_for.load(Ordering::Acquire)).filter(|&signal| signal != 0)
    }

    fn signal_through_init(&self, init: &mut Init, signal: i32) -> io::Result<Delivered> {
        if init.control.is_none() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // The command's death by SIGKILL would end init too; this also works where init is stuck.
        if signal == libc::SIGKILL || signal == 0 {
            return sys::kill(self.pid, signal).map(|()| Delivered::AsIs);
        }
        while init.command.is_none() && init.ended.is_none() {
            if !init.receive() {
                break;
            }
        }
        let Some(command) = &init.command else {
            return sys::kill(self.pid, signal).map(|()| Delivered::AsIs);
        };
        let pidfd = command.as_fd();
        let pid = field_of(command, "Pid:").and_then(|pid| pid.parse().ok());
        match pid.filter(|_| default_action(signal) == Action::Stop) {
            Some(pid) => self.deliver(signal, &Recipient { pid, pidfd }),
            None => sys::pidfd_send_signal(pidfd, signal).map(|()| Delivered::AsIs),
        }
    }

    /// How the command ended; to be asked once init has been reaped. `None` where there is no init, or
    /// where it was killed before it could say so.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        let mut init = self.init.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        while init.ended.is_none() && init.receive() {}
        init.control = None;
        init.command = None;
        init.ended
    }

    /// What the process used up, once it has ended, without reaping it; `None` where it has not ended and
    /// `block` is false. The status is told by [`Self::ended`] or by wait(2).
    ///
    /// # Errors
    ///
    /// `ECHILD` where it has been reaped, `EINTR`: waitid(2).
    pub fn used(&self, block: bool) -> io::Result<Option<Used>> {
        sys::wait_without_reaping(self.pid, block)
    }

    /// A descriptor of the process; it must not have been reaped.
    ///
    /// # Errors
    ///
    /// `EMFILE`, or `ESRCH` where it has been reaped: `pidfd_open(2)`.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        fd::pidfd_open(self.pid)
    }

    /// A descriptor to wait for the end with, time and again; the process must not have been reaped.
    ///
    /// # Errors
    ///
    /// `EMFILE`, or `ESRCH` where it has been reaped: `pidfd_open(2)`.
    pub fn watch(&self) -> io::Result<Watch> {
        self.pidfd().map(Watch)
    }
}

impl Init {
    /// Receives one message; `false` when there is none.
    fn receive(&mut self) -> bool {
        let Some(control) = &self.control else { return false };
        let mut bytes = [0_u8; size_of::<Message>()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            // What is asked for has been sent by now, or never will be.
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
            (message::ENDED, _) if self.ended.is_none() => {
                let [user, system, peak] = found.usage;
                self.ended = Some(Ended { status: found.value as i32, user, system, peak });
            }
            _ => {}
        }
        true
    }
}

/// Whether `pidfd` is one, of a process whose innermost pid is `pid` in a namespace below the caller's.
/// Root inside may trace init, so what it says is not taken on trust.
fn is_inside(pidfd: &OwnedFd, pid: u32) -> bool {
    let Some(pids) = field_of(pidfd, "NSpid:") else { return false };
    let pids: Vec<&str> = pids.split_whitespace().collect();
    pids.len() > 1 && pids.last() == Some(&pid.to_string().as_str())
}

/// What /proc says of a descriptor, `proc_pid_fdinfo(5)`.
fn field_of(fd: &OwnedFd, name: &str) -> Option<String> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix(name)).map(|field| field.trim().to_owned())
}
