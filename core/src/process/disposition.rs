//! What a process does with a signal, and whether the kernel would drop it.
//!
//! The kernel drops what PID 1 does not handle (`pid_namespaces(7)`): at once where it is not blocked, and
//! otherwise when it is unblocked, which no system call tells. /proc tells it afterwards.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::sys;

/// How long a signal that every thread blocks is followed. Shells, and fork(3) itself, block all of them
/// for a moment; who does so for longer means it.
const MAX_CHECKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// What a signal does to a process that does nothing about it: signal(7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultAction {
    Kill,
    Stop,
    /// Nothing, or what nobody can keep it from: SIGKILL, SIGSTOP and SIGCONT.
    Other,
}

pub(super) fn default_action(signal: i32) -> DefaultAction {
    match signal {
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
        libc::SIGKILL
        | libc::SIGSTOP
        | libc::SIGCONT
        | libc::SIGCHLD
        | libc::SIGURG
        | libc::SIGWINCH => DefaultAction::Other,
        1..=64 => DefaultAction::Kill,
        _ => DefaultAction::Other,
    }
}

/// A process that may be a PID 1.
pub(super) struct Recipient<'a> {
    /// As the caller sees it.
    pub(super) pid: i32,
    pub(super) pidfd: BorrowedFd<'a>,
}

impl Recipient<'_> {
    pub(super) fn send(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.pidfd, signal)
    }

    /// Sends the signal unless the kernel would drop it, and follows it where it may yet be dropped.
    /// `false`: it was not sent, or was dropped, though any other process would have died of it.
    pub(super) fn deliver(&self, signal: i32) -> io::Result<bool> {
        // Where /proc does not tell, the kernel has the say.
        let state = || {
            SignalState::at(self.pid, signal)
                .unwrap_or(SignalState { pending: false, disposition: Disposition::Handled })
        };
        match state().disposition {
            Disposition::Default => return Ok(false),
            Disposition::Handled => return self.send(signal).map(|()| true),
            Disposition::Blocked => self.send(signal)?,
        }
        for _ in 0..MAX_CHECKS {
            let now = state();
            match now.disposition {
                // Neither pending, nor blocked, nor handled: it was dropped on the way.
                Disposition::Default if !now.pending => return Ok(false),
                Disposition::Handled => return Ok(true),
                // It is not to be seen whether it has been taken by a thread that waited in between, or
                // dropped by one that blocks signals again already.
                Disposition::Default | Disposition::Blocked => thread::sleep(PAUSE),
            }
        }
        Ok(true)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disposition {
    /// Its default action is taken.
    Default,
    /// Every thread blocks it.
    Blocked,
    /// It is caught or ignored, or somebody waits for it.
    Handled,
}

/// What /proc tells of a signal and the threads of a process.
struct SignalState {
    pending: bool,
    disposition: Disposition,
}

impl SignalState {
    fn at(pid: i32, signal: i32) -> io::Result<Self> {
        let (mut pending, mut blocked) = (false, true);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let status = fs::read_to_string(task.join("status"))?;
            let has = |set: &str| is_in(signal, &status, set);
            pending |= has("SigPnd:") || has("ShdPnd:");
            blocked &= has("SigBlk:");
            if has("SigCgt:") || has("SigIgn:") || waits_for_signals(&task) {
                return Ok(Self { pending, disposition: Disposition::Handled });
            }
        }
        let disposition = match blocked {
            true if has_signalfd(pid, signal) => Disposition::Handled,
            true => Disposition::Blocked,
            false => Disposition::Default,
        };
        Ok(Self { pending, disposition })
    }
}

/// Whether a thread waits for signals: `rt_sigtimedwait(2)` unblocks what it waits for, and no mask shows
/// it. Of a process that may not be looked into (it is not dumpable) it is not known.
fn waits_for_signals(task: &Path) -> bool {
    fs::read_to_string(task.join("syscall")).is_ok_and(|call| {
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        number == Some(libc::SYS_rt_sigtimedwait)
    })
}

/// Whether the process has a descriptor that it can read the signal from.
fn has_signalfd(pid: i32, signal: i32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .any(|info| is_in(signal, &info, "sigmask:"))
}

/// Whether a set in one of the files of /proc has the signal.
fn is_in(signal: i32, text: &str, name: &str) -> bool {
    let set = text.lines().find_map(|line| line.strip_prefix(name));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & 1 << (signal - 1) != 0)
}
