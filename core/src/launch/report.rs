//! The reports of the helper: the pid of the process that it started, a failure, the exec of the command.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use minidocker_init::program::{Message, message};
use minidocker_init::raw::nr;
use rustix::net::{RecvFlags, recv};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::clone::kill_and_reap;
use crate::clone::wait::Wait;
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::step::Step;
use crate::sys::{fd, kernel_text};

/// The time limit for a joiner to report the pid of its process, after the launch has given up.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Reads the helper's messages until the command has been executed, and returns the pid of the container's
/// first process. `first` is the pid of the helper.
///
/// The pipe closes when the command is executed. But if another thread of the caller forks meanwhile, the new
/// process has a copy of the write end, and may live for ever. So init also sends a message, and without an init
/// the launch polls /proc.
pub(super) fn await_report(
    plan: &Plan,
    first: i32,
    report: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<i32, LaunchError> {
    let (joiner, command) = if plan.enters { (Some(first), None) } else { (None, Some(first)) };
    let mut started = HelperChildren { report, joiner, command, done: false };
    // Init may report before the joiner, which has started it, does.
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
            (Some(found), _) if found.kind == message::REFUSED => {
                return Err(refused(found).into());
            }
            (Some(found), None) if found.kind == message::STARTED && !is_done => is_done = true,
            // Init was killed before it reported that it has started.
            (None, Some(_)) if plan.init => {
                return Err(SpawnError::new(Step::ExecHelper, libc::ESRCH).into());
            }
            // The helper was killed before it reported a pid.
            (_, None) => return Err(SpawnError::new(Step::Fork, libc::ESRCH).into()),
            (_, Some(pid)) => {
                started.done = true;
                return Ok(pid);
            }
        }
    }
}

/// Ends the command of a helper that was killed, if the helper reported one.
pub(super) fn end_the_command(report: BorrowedFd<'_>) {
    drop(HelperChildren { report, joiner: None, command: None, done: false });
}

/// Waits until init reports that the command has been executed or a call has failed, and returns init's pid. The
/// message about the command stays in the socket: [`Process`](crate::process::Process) receives it later.
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
            // Init was killed before it reported.
            _ if received != bytes.len() => {
                Err(SpawnError::new(Step::ExecHelper, libc::ESRCH).into())
            }
            message::FAILED => {
                Err(plan.failure(found.stage as usize, found.value, found.errno).into())
            }
            message::REFUSED => Err(refused(found).into()),
            _ => {
                started.done = true;
                Ok(init)
            }
        };
    }
}

/// The children of a launch through the helper, as far as it has got. Dropping it kills and reaps the joiner, and,
/// unless `done`, the command.
struct HelperChildren<'a> {
    report: BorrowedFd<'a>,
    joiner: Option<i32>,
    command: Option<i32>,
    /// Whether the command has been executed. From then on it belongs to the caller.
    done: bool,
}

impl HelperChildren<'_> {
    /// Whether no message will come any more, judged by the state of the processes instead of the pipe.
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

    /// Gives the joiner time to report the pid of the command. If it were killed between its fork and its report, the
    /// command would be left as an unknown child.
    fn learn_the_command(&mut self, joiner: i32) {
        let until = Instant::now() + REPORT_TIMEOUT;
        while self.command.is_none() && Instant::now() < until && !has_ended(joiner) {
            if fd::is_readable(self.report, Duration::from_millis(1)).is_err() {
                break;
            }
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
            // It exits by itself, unless a signal has stopped it.
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

/// The error for a helper that cannot make a system call.
fn refused(found: Message) -> SpawnError {
    let step = if found.value == nr::CLONE as u32 { Step::Fork } else { Step::ExecHelper };
    SpawnError::refused(step, found)
}

/// Whether the child has ended. Does not reap it.
pub(super) fn has_ended(pid: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    match waitid(WaitId::Pid(pid), options) {
        Ok(ended) => ended.is_some(),
        Err(rustix::io::Errno::INTR) => false,
        // Other code of the caller has reaped it.
        Err(_) => true,
    }
}

/// Whether the process has executed the command, according to /proc. A process that the joiner has `forked` is then
/// one that has executed a program since its fork; any other is one that is no longer the helper.
fn has_executed(pid: i32, forked: bool) -> bool {
    /// "Forked but didn't exec": a process flag of the kernel, in the field `flags` of `proc_pid_stat(5)`.
    const PF_FORKNOEXEC: u64 = 0x40;
    if !forked {
        let executed = std::fs::read_link(format!("/proc/{pid}/exe"));
        return executed.is_ok_and(|file| !file.starts_with("/memfd:minidocker-init (deleted)"));
    }
    let Ok(stat) = std::fs::read(format!("/proc/{pid}/stat")) else { return false };
    // The flags are the seventh field after the name.
    let flags = kernel_text::after_name(&stat).nth(6);
    let flags = flags.and_then(|flags| kernel_text::number(flags, 10));
    flags.is_some_and(|flags| flags & PF_FORKNOEXEC == 0)
}

/// Reads the next message; `None` if there is none, or the other end is closed.
pub(super) fn read_message(report: BorrowedFd<'_>) -> Option<Message> {
    let mut bytes = [0_u8; size_of::<Message>()];
    loop {
        // Writes of at most PIPE_BUF bytes are atomic, so a message is read whole or not at all.
        match rustix::io::read(report, &mut bytes) {
            Ok(count) if count == bytes.len() => return Some(Message::from_bytes(&bytes)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
}

/// Does the same for a socket, without waiting. With [`RecvFlags::PEEK`] the message stays in the socket.
pub(super) fn read_message_now(socket: BorrowedFd<'_>, flags: RecvFlags) -> Option<Message> {
    let mut bytes = [0_u8; size_of::<Message>()];
    loop {
        match recv(socket, &mut bytes, flags | RecvFlags::DONTWAIT) {
            Ok((count, _)) if count == bytes.len() => return Some(Message::from_bytes(&bytes)),
            Err(rustix::io::Errno::INTR) => {}
            _ => return None,
        }
    }
}
