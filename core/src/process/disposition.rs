//! Signal dispositions of a process, and whether the kernel drops a signal to it.
//!
//! The kernel drops a signal that PID 1 does not handle (`pid_namespaces(7)`): at once if it is not blocked,
//! otherwise when it is unblocked. No system call reports that; /proc shows afterwards that it is not pending.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::sys::{self, kernel_text};

/// How often to check a signal that every thread blocks. Shells, and fork(3) itself, block all signals for a
/// moment; a program that blocks one for longer does so on purpose.
const MAX_CHECKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);

/// The default action of a signal: signal(7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultAction {
    Kill,
    Stop,
    /// The signal is ignored, or has an effect that no disposition prevents: SIGKILL, SIGSTOP and SIGCONT.
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
    /// In the caller's PID namespace.
    pub(super) pid: i32,
    pub(super) pidfd: BorrowedFd<'a>,
}

impl Recipient<'_> {
    pub(super) fn send(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.pidfd, signal)
    }

    /// Sends the signal unless the kernel would drop it, and watches a blocked one for a while. Returns `false` if
    /// the kernel would drop it, or has dropped it.
    pub(super) fn deliver(&self, signal: i32) -> io::Result<bool> {
        // Without /proc, send the signal as it is.
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
                // /proc cannot show whether a waiting thread has taken the signal, or whether the kernel
                // dropped it while it was unblocked for a moment.
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
    /// The process catches or ignores it, or a thread waits for it.
    Handled,
}

/// The state of one signal in a process, as /proc shows it.
struct SignalState {
    pending: bool,
    disposition: Disposition,
}

impl SignalState {
    fn at(pid: i32, signal: i32) -> io::Result<Self> {
        let (mut pending, mut blocked) = (false, true);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?.path();
            let status = fs::read(task.join("status"))?;
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

/// Whether a thread waits for signals: `rt_sigtimedwait(2)` unblocks the signals that it waits for, and no mask
/// shows it. `false` if the caller may not look, because the process is not dumpable.
fn waits_for_signals(task: &Path) -> bool {
    fs::read(task.join("syscall"))
        .is_ok_and(|call| kernel_text::number(&call, 10) == Some(libc::SYS_rt_sigtimedwait as u64))
}

/// Whether the process has a signalfd for the signal.
fn has_signalfd(pid: i32, signal: i32) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    entries
        .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
        .any(|info| is_in(signal, &info, "sigmask:"))
}

/// Whether the signal set `name` in a file of /proc contains the signal.
fn is_in(signal: i32, text: &[u8], name: &str) -> bool {
    let set = kernel_text::field(text, name).and_then(|set| kernel_text::number(set, 16));
    set.is_some_and(|set| set & 1 << (signal - 1) != 0)
}
