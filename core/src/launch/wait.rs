//! Waits that a signal or a deadline can end.

use std::time::{Duration, Instant};

use crate::error::LaunchError;

/// How often a wait looks whether it has been interrupted: a signal does not always end it, since
/// another thread may have taken it.
const SLICE: Duration = Duration::from_millis(50);

/// How a wait of the launch may end early.
pub(super) struct Wait<'a> {
    pub(super) interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
    pub(super) deadline: Option<Instant>,
}

impl Wait<'_> {
    /// A wait that only the time ends.
    pub(super) fn at_most(time: Duration) -> Self {
        Self { interrupted: None, deadline: Some(Instant::now() + time) }
    }

    /// Whether to go on. To be asked at least once in every [`slice`](Self::slice).
    pub(super) fn check(&mut self) -> Result<(), LaunchError> {
        if self.interrupted.as_mut().is_some_and(|interrupted| interrupted()) {
            return Err(LaunchError::Interrupted);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(LaunchError::TimedOut),
            _ => Ok(()),
        }
    }

    /// How long to wait until the next [`check`](Self::check).
    pub(super) fn slice(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A wait of no time at all would be a busy loop where the clock is coarse.
        left.map_or(SLICE, |left| left.clamp(Duration::from_micros(100), SLICE))
    }
}
