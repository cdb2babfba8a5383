//! What the helper reports: whom it started, what failed, that the command has been executed.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clone::kill_and_reap;
use crate::clone::wait::Wait;
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::program::{Message, message};
use crate::step::Step;
use crate::sys::fd;

/// How long a joiner may take to say whom it has started, once nobody waits for the command any more.
const REPORT: Duration = Duration::from_millis(500);

/// Reads what the helper reports until the command has been executed, and returns the pid of the
/// container's first process; `first` is that of the helper.
///
/// The pipe closes when the command is executed. But a process that another thread of the caller's
/// forked meanwhile holds its other end, and may live on for ever: so init also says that it is done,
/// and for everybody else the kernel's own accounts are asked now and then.
pub(super) fn await_report(
    plan: &Plan,
    first: i32,
    report: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<i32, LaunchError> {
    let (joiner, command) = if plan.enters { (Some(first), None) } else { (None, Some(first)) };
    let mut started = HelperChildren { report, joiner, command, done: false };
    // Init may say that it is done before the joiner that has started it says so.
    let mut is_done = false;
    loop {
        let readable = fd::is_readable(report, wait.slice())
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        if !readable {
            wait.check()?;
            if !started.is_over(plan.init) {
                continue;
            }
        }
        match (read_message(report), started.command) {
            (Some(found), _) if found.kind == message::PID => {
                let pid = found.value as i32;
                started.command = Some(pid);
                if is_done {
                    started.done = true;
                    return Ok(pid);
                }
            }
            (Some(found), _) if found.kind == message::FAILED => {
                return Err(plan.failure(found.stage as usize, found.value, found.errno).into());
            }
            (Some(found), None) if found.kind == message::STARTED && !is_done => is_done = true,
            // The helper was killed before it had said whom it started.
            (_, None) => return Err(SpawnError::new(Step::Fork, libc::ESRCH).into()),
            (_, Some(pid)) => {
                started.done = true;
                return Ok(pid);
            }
        }
    }
}

/// Ends the command of a helper that has been killed, if that came so far as to report one.
pub(super) fn end_the_command(report: BorrowedFd<'_>) {
    drop(HelperChildren { report, joiner: None, command: None, done: false });
}

/// Waits until init says that the command has been executed, or why not, and returns init's pid. What it
/// says of the command stays in the socket, for [`Process`](crate::process::Process) to receive.
pub(super) fn await_introduction(
    plan: &Plan,
    init: i32,
    control: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<i32, LaunchError> {
    let mut started =
        HelperChildren { report: control, joiner: None, command: Some(init), done: false };
    loop {
        let readable = fd::is_readable(control, wait.slice())
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        if !readable {
            wait.check()?;
            if !started.is_over(true) {
                continue;
            }
        }
        let mut bytes = [0_u8; size_of::<Message>()];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = match recv(control, &mut bytes, flags) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result.map_or(0, |(count, _)| count),
        };
        let found = Message::from_bytes(&bytes);
        return match found.kind {
            // Init was killed before it had said anything.
            _ if received != bytes.len() => Err(SpawnError::new(Step::Fork, libc::ESRCH).into()),
            message::FAILED => {
                Err(plan.failure(found.stage as usize, found.value, found.errno).into())
            }
            _ => {
                started.done = true;
                Ok(init)
            }
        };
    }
}

/// What a launch through the helper has started so far. Dropped: the joiner is killed and reaped, and
/// so is the command unless that is done.
struct HelperChildren<'a> {
    report: BorrowedFd<'a>,
    joiner: Option<i32>,
    command: Option<i32>,
    /// Whether the command has been executed, and is the caller's from now on.
    done: bool,
}

impl HelperChildren<'_> {
    /// Whether nothing more will be reported, as far as can be told without the pipe.
    fn is_over(&self, init: bool) -> bool {
        match (self.command, self.joiner) {
            (Some(command), joiner) => {
                let forked = joiner.is_some();
                has_ended(command) || (!init && has_executed(command, forked))
            }
            (None, Some(joiner)) => has_ended(joiner),
            (None, None) => true,
        }
    }

    /// A joiner that is killed between its fork and its report would leave the command behind, as a
    /// child whom nobody knows: so it gets the time to report, which it does at once.
    fn learn_the_command(&mut self, joiner: i32) {
        let until = Instant::now() + REPORT;
        while self.command.is_none() && Instant::now() < until && !has_ended(joiner) {
            // Whatever ends the wait, the next round looks.
            let _ = fd::is_readable(self.report, Duration::from_millis(1));
            self.read_command();
        }
    }

    fn read_command(&mut self) {
        while let Some(found) = read_message(self.report) {
            if found.kind == message::PID {
                self.command = Some(found.value as i32);
            }
        }
    }
}

impl Drop for HelperChildren<'_> {
    fn drop(&mut self) {
        if let Some(joiner) = self.joiner {
            self.learn_the_command(joiner);
            // It ends by itself, unless somebody has stopped it.
            kill_and_reap(joiner);
        }
        if self.command.is_none() {
            self.read_command();
        }
        if let Some(command) = self.command.filter(|_| !self.done) {
            kill_and_reap(command);
        }
    }
}

/// Whether the child has ended; it stays to be waited for.
fn has_ended(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    match waitid(WaitId::Pid(pid), options) {
        Ok(ended) => ended.is_some(),
        Err(rustix::io::Errno::INTR) => false,
        // Reaped by somebody else.
        Err(_) => true,
    }
}

/// Whether the process has executed the command, as far as /proc tells: a process that was `forked` has
/// executed something since; another one is the helper until then.
fn has_executed(pid: i32, forked: bool) -> bool {
    /// The kernel's "forked but didn't exec", which proc(5) shows among the flags.
    const PF_FORKNOEXEC: u32 = 0x40;
    if !forked {
        let executed = std::fs::read_link(format!("/proc/{pid}/exe"));
        return executed.is_ok_and(|file| !file.starts_with("/memfd:minidocker-init (deleted)"));
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name, in parentheses, may hold anything. The flags are the seventh field after it.
    let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6));
    flags.and_then(|flags| flags.parse().ok()).is_some_and(|flags: u32| flags & PF_FORKNOEXEC == 0)
}

/// The next message that is there; `None` where there is none, or none will come.
pub(super) fn read_message(report: BorrowedFd<'_>) -> Option<Message> {
    let mut bytes = [0_u8; size_of::<Message>()];
    loop {
        // Shorter than a pipe's atomic size, so a message comes whole or not at all.
        match rustix::io::read(report, &mut bytes) {
            Ok(count) if count == bytes.len() => return Some(Message::from_bytes(&bytes)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
}
