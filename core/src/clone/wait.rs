//! Waits that a signal or a deadline can end.

use std::time::{Duration, Instant};

use crate::error::LaunchError;

/// How often a wait checks for an interruption: a signal does not always end the wait, since another thread
/// may have received it.
const SLICE: Duration = Duration::from_millis(50);

/// What may end a wait of the launch early.
pub(crate) struct Wait<'a> {
    interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
    deadline: Option<Instant>,
    /// Why the launch is given up. It stays set, because `interrupted` may answer only once.
    pub(crate) given_up: Option<LaunchError>,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(
        interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
        deadline: Option<Instant>,
    ) -> Self {
        Self { interrupted, deadline, given_up: None }
    }

    /// A wait that only the time ends.
    pub(crate) fn at_most(time: Duration) -> Self {
        Self::new(None, Some(Instant::now() + time))
    }

    /// Fails where the launch is to be given up. Call it at least once in every [`slice`](Self::slice).
    pub(crate) fn check(&mut self) -> Result<(), LaunchError> {
        if self.given_up.is_none() {
            if self.interrupted.as_mut().is_some_and(|interrupted| interrupted()) {
                self.given_up = Some(LaunchError::Interrupted);
            } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.given_up = Some(LaunchError::TimedOut);
            }
        }
        self.given_up.clone().map_or(Ok(()), Err)
    }

    /// How long to wait until the next [`check`](Self::check).
    pub(crate) fn slice(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A wait of zero time would be a busy loop where the clock is coarse.
        left.map_or(SLICE, |left| left.clamp(Duration::from_micros(100), SLICE))
    }
}
