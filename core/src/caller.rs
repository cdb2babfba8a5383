//! What is kept for each calling process: the sealed helper, the socket to the watchdog, and which
//! descriptors belong to one use of a container.
//!
//! Callers fork, so everything is keyed by the process id; daemons close descriptors that they do not
//! know, so what is kept is verified before each use and made again where it is gone.

#![expect(unsafe_code, reason = "a forked child never touches its parent's lock")]

use std::cell::RefCell;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minidocker_init::HELPER;

use crate::error::SpawnError;
use crate::step::Step;
use crate::sys::fd;
use crate::sys::kept::KeptFd;

/// Descriptors that one process keeps.
#[derive(Default)]
pub(crate) struct Slots {
    helper: Option<Arc<KeptFd>>,
    /// The socket to the watchdog.
    pub(crate) watchdog: Option<Arc<KeptFd>>,
}

impl Slots {
    /// The sealed memfd with the helper program.
    pub(crate) fn helper(&mut self) -> Result<Arc<KeptFd>, SpawnError> {
        if let Some(kept) = self.helper.as_ref().filter(|kept| kept.is_ours()) {
            return Ok(Arc::clone(kept));
        }
        let kept = make_helper()
            .and_then(KeptFd::new)
            .map_err(|error| SpawnError::from_io(Step::Helper, &error))?;
        let kept = Arc::new(kept);
        self.helper = Some(Arc::clone(&kept));
        Ok(kept)
    }
}

/// The state of one process. A forked child makes its own and never touches its parent's lock, which
/// another thread may have held at the fork.
struct Caller {
    pid: u32,
    slots: Mutex<Slots>,
    /// See [`hold`].
    held: Mutex<Vec<RawFd>>,
}

static CALLER: AtomicPtr<Caller> = AtomicPtr::new(std::ptr::null_mut());

fn caller() -> &'static Caller {
    let pid = std::process::id();
    let current = CALLER.load(Ordering::Acquire);
    // SAFETY: never freed once it is published, and only ever shared.
    if let Some(caller) = unsafe { current.as_ref() }.filter(|caller| caller.pid == pid) {
        return caller;
    }
    let fresh =
        Box::into_raw(Box::new(Caller { pid, slots: Mutex::default(), held: Mutex::default() }));
    match CALLER.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above; the parent's state, after a fork, stays as it is.
        Ok(_) => unsafe { &*fresh },
        Err(winner) => {
            // SAFETY: not published, so nobody else has it.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: as above. The winner is of this process: only its threads race here.
            unsafe { &*winner }
        }
    }
}

thread_local! {
    /// The lock that this thread holds while it forks.
    static FORKING: RefCell<Option<MutexGuard<'static, Slots>>> = const { RefCell::new(None) };
}

/// Waits until no other thread is changing what is kept, and keeps it so until one of
/// [`after_fork_in_parent`] and [`after_fork_in_child`].
///
/// To be called right before a fork: the child would otherwise inherit a lock that nobody opens, or a
/// descriptor of the watchdog's that nobody knows.
pub fn before_fork() {
    let guard = caller().slots.lock().unwrap_or_else(PoisonError::into_inner);
    // A fork of a fork's own preparations does not happen; were it so, the first guard is enough.
    let _ = FORKING.try_with(|forking| forking.replace(Some(guard)));
}

/// Lets other threads go on.
///
/// To be called in the parent, right after the fork, or after it has failed.
pub fn after_fork_in_parent() {
    let _ = FORKING.try_with(RefCell::take);
}

/// Closes what a forked child inherited: the socket would keep its parent's watchdog waiting.
///
/// To be called in the child, right after the fork. What was its parent's must not be taken for its own
/// even where both have the same process id, in different PID namespaces.
pub fn after_fork_in_child() {
    CALLER.store(std::ptr::null_mut(), Ordering::Release);
    if let Some(mut inherited) = FORKING.try_with(RefCell::take).ok().flatten() {
        *inherited = Slots::default();
    }
}

/// Takes note of descriptors that belong to one use of a container: copies of the caller that are made
/// for others close them, or the end of a pipe would not show until such a copy ends.
pub fn hold(fds: &[RawFd]) {
    held().extend_from_slice(fds);
}

/// Closes descriptors that were noted with [`hold`], each once: what is not noted any more has been
/// closed, and its number may mean something else.
pub fn release(fds: &[RawFd]) {
    let mut held = held();
    for &fd in fds {
        if let Some(at) = held.iter().position(|&number| number == fd) {
            held.swap_remove(at);
            // Under the lock: the number may be another use's a moment later.
            let _ = nix::unistd::close(fd);
        }
    }
}

/// The descriptors that were noted; none is made or closed as long as this is held.
pub(crate) fn held() -> MutexGuard<'static, Vec<RawFd>> {
    caller().held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is the thread that the process, or the fork that made it, began with: the one that
/// the kernel prefers for signals, and the only one that interpreters run handlers in.
#[must_use]
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Calls `act` with what this process keeps; no other thread has it meanwhile.
pub(crate) fn with_slots<T>(act: impl FnOnce(&mut Slots) -> T) -> T {
    act(&mut caller().slots.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The sealed memfd with the helper program.
pub(crate) fn helper() -> Result<Arc<KeptFd>, SpawnError> {
    with_slots(Slots::helper)
}

/// A helper of its own, made anew: what a process that has kept none yet would do.
pub(crate) fn fresh_helper() -> Result<OwnedFd, SpawnError> {
    make_helper().map_err(|error| SpawnError::from_io(Step::Helper, &error))
}

fn make_helper() -> std::io::Result<OwnedFd> {
    let fd = fd::memfd(c"minidocker-init", HELPER, true)?;
    fd::seal(&fd)?;
    Ok(fd)
}
