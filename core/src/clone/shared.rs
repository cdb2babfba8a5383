//! The program that parent and child share, and its futex words, on which they wait for each other.
//!
//! The futex calls do not use `FUTEX_PRIVATE_FLAG`: when the child exits or executes a program, the kernel clears
//! the word and wakes the parent without that flag.

#![expect(unsafe_code, reason = "memory that two processes share")]

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use minidocker_init::program::{Header, NOTHING_FAILED, go, relocate};
use minidocker_init::raw::{Errno, nr, syscall};

use super::wait::Wait;
use crate::error::LaunchError;

/// A relocated program in the memory of a parent and of its child.
pub(crate) struct SharedProgram {
    header: *mut Header,
    /// In words; 0 if it is borrowed.
    length: usize,
}

impl SharedProgram {
    pub(super) fn new(program: Box<[u64]>) -> Self {
        let length = program.len();
        let header: *mut Header = Box::into_raw(program).cast();
        // SAFETY: a whole program, encoded and not relocated yet, aligned as words, without another pointer to it.
        unsafe { relocate(header) };
        Self { header, length }
    }

    /// A program that other code owns and frees.
    pub(crate) const fn borrowed(header: *mut Header) -> Self {
        Self { header, length: 0 }
    }

    pub(crate) const fn header(&self) -> *mut Header {
        self.header
    }

    /// Frees the program.
    ///
    /// # Safety
    ///
    /// No child uses it any more.
    pub(super) unsafe fn free(self) {
        let words = std::ptr::slice_from_raw_parts_mut(self.header.cast::<u64>(), self.length);
        // SAFETY: `new` took it out of a box of that length, and `self` is the only pointer to it. A borrowed one,
        // with length 0, is never freed.
        drop(unsafe { Box::from_raw(words) });
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is that of a member of the header.
        let word = unsafe { self.header.cast::<u8>().add(offset) };
        // SAFETY: aligned as the member is, and valid until `free`. After the clone only this type and the kernel
        // access it, atomically, and the child before it ends.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// The word that the kernel clears when the child leaves this memory.
    pub(super) fn tid(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, tid))
    }

    /// In the parent: records the pid of the child.
    pub(super) fn set_child(&self, pid: i32) {
        self.word(offset_of!(Header, child)).store(pid as u32, Ordering::Relaxed);
    }

    fn go(&self) -> &AtomicU32 {
        self.word(offset_of!(Header, go))
    }

    /// The child's state: one of [`tid`](minidocker_init::program::tid).
    pub(crate) fn child_state(&self) -> u32 {
        // Acquire: makes the child's writes before it left visible. The kernel's store follows them in the child's
        // program order, with a system call of the child between them.
        self.tid().load(Ordering::Acquire)
    }

    /// Whether the child has left this memory.
    pub(super) fn child_has_left(&self) -> bool {
        self.child_state() == 0
    }

    /// Sets the child's `go` word, and wakes it: one of [`go`].
    pub(crate) fn tell_child(&self, state: u32) {
        store_and_wake(self.go(), state);
    }

    /// Waits until the child has left this memory.
    pub(super) fn wait_until_child_has_left(&self, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        loop {
            match self.child_state() {
                0 => return Ok(()),
                state => self.wait_while(state, wait)?,
            }
        }
    }

    /// Waits while the child is in this state.
    pub(crate) fn wait_while(&self, state: u32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        while self.child_state() == state {
            match sleep(self.tid(), state, wait.slice()) {
                // EAGAIN: the word has another value by now.
                Ok(()) | Err(libc::EAGAIN) => {}
                Err(libc::EINTR | libc::ETIMEDOUT) => wait.check()?,
                // The child uses this memory, so without futex(2) the wait goes on, at intervals.
                Err(_) => {
                    wait.check()?;
                    wait.until_readable(None);
                }
            }
        }
        Ok(())
    }

    /// Waits while the child is in this state, without a check for interruption: it makes only system calls. A child
    /// that a signal has stopped goes on.
    pub(crate) fn wait_uninterruptibly_while(&self, state: u32) {
        const INTERVAL: Duration = Duration::from_secs(1);
        while self.child_state() == state {
            if sleep(self.tid(), state, INTERVAL) == Err(libc::ETIMEDOUT) {
                let pid = self.word(offset_of!(Header, child)).load(Ordering::Relaxed);
                let args = [pid.into(), libc::SIGCONT as u64, 0, 0, 0, 0];
                // SAFETY: takes no pointer.
                let _ = unsafe { syscall(nr::KILL, args) };
            }
        }
    }

    /// The index of the call that failed in the child, and the error number. Final once the
    /// [child has left](Self::child_has_left).
    pub(super) fn failure(&self) -> Option<(u32, i32)> {
        let index = self.word(offset_of!(Header, failed_at)).load(Ordering::Acquire);
        let errno = self.word(offset_of!(Header, failed_errno)).load(Ordering::Relaxed);
        (index != NOTHING_FAILED).then_some((index, errno as i32))
    }

    /// In the child: sets its state, and wakes the parent.
    pub(crate) fn tell_parent(&self, state: u32) {
        store_and_wake(self.tid(), state);
    }

    /// In the child: waits until the parent stands still. The parent may have to wait for the lock of its
    /// interpreter first. If it does not get the lock, the launch fails after ten minutes.
    pub(crate) fn await_fork(&self) -> Result<(), Errno> {
        const TIMEOUT: Duration = Duration::from_secs(600);
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until {
            match self.go().load(Ordering::Acquire) {
                go::FORK => return Ok(()),
                go::ABORT => return Err(libc::ECANCELED),
                // The parent has not done its part, or does not stand still yet.
                state => match sleep(self.go(), state, Duration::from_secs(1)) {
                    Ok(()) | Err(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => {}
                    Err(errno) => return Err(errno),
                },
            }
        }
        Err(libc::ETIMEDOUT)
    }
}

fn store_and_wake(word: &AtomicU32, value: u32) {
    const FUTEX_WAKE: u64 = libc::FUTEX_WAKE as u64;
    word.store(value, Ordering::Release);
    // SAFETY: a valid futex word.
    let _ = unsafe { syscall(nr::FUTEX, [word.as_ptr() as u64, FUTEX_WAKE, 1, 0, 0, 0]) };
}

/// Sleeps until another process changes the word and wakes this one, a signal arrives, or `time` has passed.
fn sleep(word: &AtomicU32, value: u32, time: Duration) -> Result<(), Errno> {
    const FUTEX_WAIT: u64 = libc::FUTEX_WAIT as u64;
    let time = [time.as_secs(), u64::from(time.subsec_nanos())];
    let args = [word.as_ptr() as u64, FUTEX_WAIT, value.into(), time.as_ptr() as u64, 0, 0];
    // SAFETY: a valid futex word, and a timeout that lives on this stack.
    unsafe { syscall(nr::FUTEX, args) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of [`SharedProgram::await_fork`] while the caller sets these states, one after the other.
    fn after(states: &[u32]) -> Result<(), i32> {
        let program = vec![0_u64; size_of::<Header>() / 8 + 1].into_boxed_slice();
        let address = Box::into_raw(program).cast::<Header>() as usize;
        let shared = || SharedProgram::borrowed(address as *mut Header);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || shared().await_fork());
            for &state in states {
                std::thread::sleep(Duration::from_millis(30));
                shared().tell_child(state);
            }
            waiting.join().expect("the wait does not panic")
        })
    }

    #[test]
    fn a_child_that_is_ahead_of_its_caller_waits_for_it() {
        assert_eq!(after(&[go::ON, go::FORK]), Ok(()));
        assert_eq!(after(&[go::ABORT]), Err(libc::ECANCELED));
    }
}
