//! When spare namespaces are made, and how long they are kept.
//!
//! The watchdog has them made by a short-lived process ([`make`]), so that it goes on watching. They wait in a
//! socket of the caller's. The watchdog holds that socket's other end, and a copy of the caller's own: so it
//! can take back what the caller does not use.

use crate::file::{close, close_all};
use crate::maker::make;
use crate::program::{Made, Told, told};
use crate::raw::{nr, syscall};
use crate::reaper::{DescriptorRights, MOST, MessageWithDescriptor};

/// How long nothing must have happened before namespaces are made: where one launch follows the other,
/// making them beside a launch slows that down by as much as the next one gains.
const BUSY_MILLISECONDS: u64 = 2;
/// How long what is not used is kept.
const UNUSED_MILLISECONDS: u64 = 5_000;

const SIGCHLD: u64 = 17;
const MSG_DONTWAIT: u64 = 0x40;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;

/// Where spare namespaces go, and when. Times are those of [`now`].
pub(crate) struct Spares {
    /// What they are sent through, and a copy of the caller's end of it.
    socket: Option<[i32; 2]>,
    /// How many descriptors the caller may have.
    limit: u64,
    /// Capabilities that the caller has not.
    given_up: u64,
    make_at: Option<u64>,
    /// What is to be made beside namespaces.
    wanted: Made,
    take_back_at: Option<u64>,
}

impl Spares {
    pub(crate) const NONE: Self = Self {
        socket: None,
        limit: 0,
        given_up: 0,
        make_at: None,
        wanted: Made::NOTHING,
        take_back_at: None,
    };

    /// How many descriptors the caller may have: so many it, and all others of its user, may send.
    pub(crate) fn limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// When there is something to do.
    pub(crate) fn due(&self) -> Option<u64> {
        earlier(self.make_at, self.take_back_at)
    }

    /// Something has happened: there is no time for it yet.
    pub(crate) fn put_off(&mut self) {
        if self.make_at.is_some() {
            self.make_at = Some(now() + BUSY_MILLISECONDS);
        }
    }

    /// Does what there is to do by now.
    pub(crate) fn act(&mut self) {
        let now = now();
        let is_due = |at: &mut Option<u64>| at.take_if(|at| *at <= now).is_some();
        let makes = is_due(&mut self.make_at);
        if is_due(&mut self.take_back_at) || makes {
            self.take_back();
        }
        if makes {
            self.make(now);
        }
    }

    /// What the caller says: with what come the descriptors of the socket, or that it wants no more.
    pub(crate) fn told(&mut self, told: &Told, received: [i32; MOST]) {
        let [through, callers, ..] = received;
        if told.what & told::SPARES != 0 && callers >= 0 {
            // It becomes more, and never less, whoever the caller has become since.
            self.given_up |= !u64::from_ne_bytes(told.capabilities);
            self.socket.replace([through, callers]).into_iter().flatten().for_each(close);
            return;
        }
        close_all(&received);
        if told.what & told::NO_SPARES != 0 {
            self.take_back();
            self.socket.take().into_iter().flatten().for_each(close);
            (self.make_at, self.take_back_at) = (None, None);
        }
    }

    /// Another container has started; the next will use the same.
    pub(crate) fn expect_another(&mut self, wanted: &Made) {
        self.wanted = *wanted;
        self.make_at = self.socket.map(|_| now() + BUSY_MILLISECONDS);
    }

    fn make(&mut self, now: u64) {
        let Some([through, _]) = self.socket else { return };
        // SAFETY: no CLONE_VM: the child gets a copy of this process, this stack included.
        match unsafe { syscall(nr::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) } {
            Ok(0) => make(through, self.limit, !self.given_up, &self.wanted),
            Ok(_) => self.take_back_at = Some(now + UNUSED_MILLISECONDS),
            // Where no process can be had there is no spare, and the caller does without.
            Err(_) => {}
        }
    }

    /// Closes what the caller has not used.
    fn take_back(&mut self) {
        let Some([_, callers]) = self.socket else { return };
        loop {
            let mut byte = 0_u8;
            let part = [&raw mut byte as u64, 1];
            let mut rights = DescriptorRights::room();
            let mut header = MessageWithDescriptor::new(&part, &mut rights);
            let place = &raw mut header as u64;
            let flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
            // SAFETY: the header and what it points to live on this stack.
            let received = unsafe { syscall(nr::RECVMSG, [callers as u64, place, flags, 0, 0, 0]) };
            if !received.is_ok_and(|length| length > 0) {
                return;
            }
            close_all(&rights.descriptors);
        }
    }

    /// Waits for the process that may be making some: it would become somebody else's, who would have
    /// to reap it.
    pub(crate) fn await_their_maker(&self) {
        const ANY: u64 = u64::MAX;
        // With SIGCHLD ignored this returns once no child is left.
        // SAFETY: no pointer that is not null.
        let _ = unsafe { syscall(nr::WAIT4, [ANY, 0, 0, 0, 0, 0]) };
    }
}

/// The earlier of two times, where there are any.
pub(crate) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Milliseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    const CLOCK_MONOTONIC: u64 = 1;
    let mut time = [0_u64; 2];
    let place = time.as_mut_ptr() as u64;
    // SAFETY: the kernel writes seconds and nanoseconds.
    let _ = unsafe { syscall(nr::CLOCK_GETTIME, [CLOCK_MONOTONIC, place, 0, 0, 0, 0]) };
    time[0].wrapping_mul(1_000).wrapping_add(time[1] / 1_000_000)
}
