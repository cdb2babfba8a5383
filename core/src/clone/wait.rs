//! Waits that an interruption or a deadline can end.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::error::LaunchError;
use crate::sys::fd;

/// The longest time between two checks for an interruption. A signal does not always end a system call, since
/// another thread may have received it.
const SLICE: Duration = Duration::from_millis(50);

/// The interruption and the deadline of a launch.
pub(crate) struct Wait<'a> {
    interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
    deadline: Option<Instant>,
    /// Why the launch was given up. It stays set, because `interrupted` may return `true` only once.
    pub(crate) given_up: Option<LaunchError>,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(
        interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
        deadline: Option<Instant>,
    ) -> Self {
        Self { interrupted, deadline, given_up: None }
    }

    /// A wait that cannot be interrupted and ends after `time`.
    pub(crate) fn at_most(time: Duration) -> Self {
        Self::new(None, Some(Instant::now() + time))
    }

    /// The same wait, which ends after `time` at the latest.
    pub(crate) fn at_most_for(&mut self, time: Duration) -> Wait<'_> {
        let limit = Instant::now() + time;
        let deadline = Some(self.deadline.map_or(limit, |deadline| deadline.min(limit)));
        let interrupted = self.interrupted.as_mut().map(|ask| &mut **ask as _);
        Wait { interrupted, deadline, given_up: self.given_up.clone() }
    }

    /// Fails if the launch was interrupted or its deadline has passed. Call it after every [`slice`](Self::slice).
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

    /// Waits until `fd` is readable, or for the time of a [`slice`](Self::slice). Call [`check`](Self::check) after it.
    pub(crate) fn until_readable(&self, fd: Option<&OwnedFd>) {
        // Without a descriptor (there are too many open files), or if poll(2) is refused, look at intervals.
        const INTERVAL: Duration = Duration::from_millis(1);
        let waited = fd.map(|fd| fd::is_readable(fd.as_fd(), self.slice()));
        if !matches!(waited, Some(Ok(_))) {
            std::thread::sleep(self.slice().min(INTERVAL));
        }
    }

    /// The time to wait before the next [`check`](Self::check).
    pub(crate) fn slice(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Waits of zero time would be a busy loop on a coarse clock.
        left.map_or(SLICE, |left| left.clamp(Duration::from_micros(100), SLICE))
    }
}
