//! Starts the watchdog, the process that ends containers when their caller dies, and connects to it.
//!
//! Each calling process has one. A container registers itself before it executes its command: it sends a pidfd
//! of itself on the socket that [`socket`] returns.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use rustix::net::sockopt::set_socket_passcred;

use crate::caller::{self, Slots};
use crate::clone::signal_mask::signal_mask;
use crate::clone::wait::Wait;
use crate::clone::{clone_and_wait, program_memfd, reap};
use crate::error::{LaunchError, SpawnError};
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::plan::sequence::EncodeFacts;
use crate::step::Step;
use crate::sys::fd;
use crate::sys::kept::KeptFd;

/// Returns the socket to the watchdog of this process, and starts the watchdog if there is none.
pub(crate) fn socket() -> Result<Arc<KeptFd>, LaunchError> {
    caller::with_slots(|slots| {
        if let Some(kept) = slots.watchdog.as_ref()
            && kept.is_ours()
            && !fd::is_hung_up(kept.fd())
        {
            return Ok(Arc::clone(kept));
        }
        let kept = Arc::new(start(slots)?);
        slots.watchdog = Some(Arc::clone(&kept));
        Ok(kept)
    })
}

fn start(slots: &mut Slots) -> Result<KeptFd, LaunchError> {
    let failed = |error: std::io::Error| SpawnError::from_io(Step::Watchdog, &error);
    let helper = slots.helper()?;
    let (ours, theirs) = fd::socket_pair().map_err(failed)?;
    // SO_PASSCRED: the kernel attaches the sender's pid to each message.
    set_socket_passcred(&theirs, true).map_err(|error| failed(error.into()))?;
    let pidfd = fd::pidfd_open(std::process::id() as i32).map_err(failed)?;
    execute(&helper, theirs.as_fd(), pidfd.as_fd())?;
    KeptFd::new(ours).map_err(|error| failed(error).into())
}

/// Starts the process. It is not a child of the caller: the child that is cloned here forks it and exits.
fn execute(
    helper: &KeptFd,
    socket: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
) -> Result<(), LaunchError> {
    let [child, watchdog] = Plan::watchdog();
    let mut handles = Handles {
        helper: helper.raw(),
        control: socket.as_raw_fd(),
        report: pidfd.as_raw_fd(),
        ..Handles::NONE
    };
    let facts = EncodeFacts {
        report: handles.report,
        control: handles.control,
        ..EncodeFacts::new(watchdog.role, handles.clone(), signal_mask())
    };
    let memfd = program_memfd(&watchdog.sequence.encode(&facts))
        .map_err(|error| SpawnError::from_io(Step::Watchdog, &error))?;
    handles.programs[0] = memfd.as_raw_fd();
    let facts = EncodeFacts::new(child.role, handles, facts.mask);
    let program = child.sequence.encode(&facts);
    let outcome = clone_and_wait(program, 0, &mut |_, _| Ok(()), &mut Wait::new(None, None))?;
    match (outcome.failed, reap(outcome.pid)) {
        (Some((_, errno)), _) => Err(SpawnError::new(Step::Watchdog, errno).into()),
        // The exit status has one meaning: the child could not fork.
        (None, Some(status)) if status != 0 => {
            Err(SpawnError::new(Step::Watchdog, libc::EAGAIN).into())
        }
        (None, _) => Ok(()),
    }
}
