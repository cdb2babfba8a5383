//! File systems that containers use, held here for a moment longer than the containers last.
//!
//! Whoever lets go of a file system last takes it apart, and the end of a container would wait for that. So the
//! watchdog holds those that were made ahead, which are nobody else's, and lets go of them a little later: at
//! once it would take a processor from whoever waits for the container.

use crate::file::close_all;
use crate::reaper::MOST;
use crate::spare::now;

/// How long after a container's end: longer than it takes whoever waits for that to see it.
const LATER_MILLISECONDS: u64 = 2;

/// Containers at once. What others use goes with them.
const KNOWN: usize = 16;

/// What one container uses. All zero at first, so that it takes no room in the helper's file.
#[derive(Clone, Copy)]
struct Held {
    state: State,
    container: i32,
    /// -1 where there is none.
    file_systems: [i32; MOST - 1],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free = 0,
    InUse,
    /// The container has ended.
    Left,
}

const NOTHING: Held = Held { state: State::Free, container: 0, file_systems: [0; MOST - 1] };

pub(crate) struct Used {
    held: [Held; KNOWN],
    let_go_at: Option<u64>,
}

impl Used {
    pub(crate) const NONE: Self = Self { held: [NOTHING; KNOWN], let_go_at: None };

    /// Holds what a container uses, until after its end.
    pub(crate) fn hold(&mut self, container: i32, file_systems: [i32; MOST - 1]) {
        if file_systems[0] < 0 {
            return;
        }
        match self.held.iter_mut().find(|held| held.state == State::Free) {
            Some(free) => *free = Held { state: State::InUse, container, file_systems },
            None => close_all(&file_systems),
        }
    }

    /// The container with this descriptor has ended, or is not watched.
    pub(crate) fn has_ended(&mut self, container: i32) {
        let is_its = |held: &&mut Held| held.state == State::InUse && held.container == container;
        if let Some(held) = self.held.iter_mut().find(is_its) {
            held.state = State::Left;
            self.let_go_at.get_or_insert(now() + LATER_MILLISECONDS);
        }
    }

    /// When there is something to let go of.
    pub(crate) const fn due(&self) -> Option<u64> {
        self.let_go_at
    }

    /// Lets go of what nobody uses any more, where it is time.
    pub(crate) fn let_go(&mut self) {
        if self.let_go_at.is_some_and(|at| at <= now()) {
            self.let_go_at_once();
        }
    }

    /// The same, where nobody waits for anything.
    pub(crate) fn let_go_at_once(&mut self) {
        self.let_go_at = None;
        for held in &mut self.held {
            if held.state == State::Left {
                held.state = State::Free;
                close_all(&held.file_systems);
            }
        }
    }
}
