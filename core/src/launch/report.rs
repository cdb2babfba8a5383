//! What the helper says of a launch: whom it started, what failed.

use std::os::fd::BorrowedFd;

use crate::error::{LaunchError, SpawnError};
use crate::fd;
use crate::plan::{Plan, Step};
use crate::program::{Message, message};

use super::{SLICE, Wait, kill_and_reap, reap};

/// Reads what the helper reports until the command has been executed: the pipe closes then.
pub(super) fn await_report(
    plan: &Plan,
    first: i32,
    report: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<i32, LaunchError> {
    let mut started = Started { joiner: plan.enters.then_some(first), command: None };
    if !plan.enters {
        started.command = Some(first);
    }
    loop {
        let readable = fd::is_readable(report, SLICE.as_millis() as u32)
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        if !readable {
            wait.check()?;
            continue;
        }
        match (read_message(report), started.command) {
            (Some(found), _) if found.kind == message::PID => {
                started.command = Some(found.value as i32);
            }
            (Some(found), _) => {
                return Err(plan.failure(found.stage as usize, found.value, found.errno).into());
            }
            // The helper was killed before it had said whom it started.
            (None, None) => return Err(SpawnError::new(Step::Fork, libc::ESRCH).into()),
            (None, Some(pid)) => {
                started.command = None;
                return Ok(pid);
            }
        }
    }
}

/// Waits until init says that the command has been executed, or why not. What it says of the command
/// stays in the socket, for [`Process`] to receive.
pub(super) fn await_introduction(
    plan: &Plan,
    init: i32,
    control: BorrowedFd<'_>,
    wait: &mut Wait<'_>,
) -> Result<i32, LaunchError> {
    let mut started = Started { joiner: None, command: Some(init) };
    loop {
        let readable = fd::is_readable(control, SLICE.as_millis() as u32)
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        if !readable {
            wait.check()?;
            continue;
        }
        let mut bytes = [0_u8; size_of::<Message>()];
        let flags = rustix::net::RecvFlags::PEEK;
        let received = match rustix::net::recv(control, &mut bytes, flags) {
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
                started.command = None;
                Ok(init)
            }
        };
    }
}

/// What a launch through the helper has started so far. Dropped: the joiner, which ends by itself, is
/// reaped; the command, if it is still here, is killed and reaped.
struct Started {
    joiner: Option<i32>,
    command: Option<i32>,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(command) = self.command {
            kill_and_reap(command);
        }
        if let Some(joiner) = self.joiner {
            if self.command.is_some() { kill_and_reap(joiner) } else { reap(joiner) }
        }
    }
}

fn read_message(report: BorrowedFd<'_>) -> Option<Message> {
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
