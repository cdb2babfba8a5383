//! Walks a sequence in a child without a launch, for probes.

use std::time::Instant;

use crate::clone::signal_mask::signal_mask;
use crate::clone::wait::Wait;
use crate::clone::{NewNamespaces, clone_and_wait, kill_and_reap, reap};
use crate::error::LaunchError;
use crate::plan::call::Handles;
use crate::plan::ids::IdMaps;
use crate::plan::sequence::{EncodeFacts, Sequence};

/// The result of a walk.
pub(crate) struct Walked {
    /// The index of the call that failed, and its error number; an index past the last call if none failed. `None` if
    /// the process executed a program, or a signal ended it.
    pub(crate) failed: Option<(u32, i32)>,
    /// The wait status; `None` if other code of the caller has reaped it.
    pub(crate) status: Option<i32>,
}

/// Walks a sequence in a new child until `deadline` at most, and reaps the child.
pub(crate) fn walk(
    sequence: &Sequence,
    flags: u64,
    maps: Option<&IdMaps>,
    handles: Handles,
    deadline: Option<Instant>,
) -> Result<Walked, LaunchError> {
    let program = sequence.encode(&EncodeFacts::new(0, handles, signal_mask()));
    let mut parents_part =
        |pid, wait: &mut Wait<'_>| maps.map_or(Ok(()), |maps| maps.write(pid, wait));
    let mut wait = Wait::new(None, deadline);
    let namespaces = NewNamespaces { flags, creator: None };
    let outcome = clone_and_wait(program, namespaces, &mut parents_part, &mut wait)?;
    if let Some(error) = wait.given_up {
        kill_and_reap(outcome.pid);
        return Err(error);
    }
    let status = reap(outcome.pid);
    Ok(Walked { failed: outcome.failed, status })
}
