//! State of each calling process: the sealed helper, the socket to the watchdog, and the descriptors that
//! belong to one use of a container.
//!
//! Callers fork, so the state is keyed by the process id. Daemons close descriptors that they do not know, so
//! each use checks its descriptor, and replaces it if it is gone.

#![expect(unsafe_code, reason = "a forked child never touches its parent's lock")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minidocker_init::HELPER;

use crate::error::SpawnError;
use crate::step::Step;
use crate::sys::kept::KeptFd;
use crate::sys::{self, WaitTarget, fd};

/// The descriptors that one process keeps.
#[derive(Default)]
pub(crate) struct Slots {
    helper: Option<Arc<KeptFd>>,
    /// The watchdog.
    pub(crate) watchdog: Option<Arc<WatchdogFds>>,
}

/// The descriptors for a watchdog.
#[derive(Debug)]
pub(crate) struct WatchdogFds {
    /// The socket on which containers register.
    pub(crate) socket: KeptFd,
    pub(crate) pidfd: KeptFd,
    pub(crate) pid: i32,
    /// The most descriptors that it can have: one for each container.
    pub(crate) room: usize,
    /// Whether this process has killed it: it may still look alive for a while.
    pub(crate) killed: AtomicBool,
}

/// A living container that the watchdog has to end with the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// The byte with which it was registered: see [`registration`](minidocker_init::program::registration).
    pub(crate) kind: u8,
    /// The inode of its pidfds, which tells it from a later process with its pid from Linux 6.9 on.
    inode: u64,
}

impl Slots {
    /// The sealed memfd with the helper program.
    pub(crate) fn helper(&mut self) -> Result<Arc<KeptFd>, SpawnError> {
        if let Some(kept) = self.helper.as_ref().filter(|kept| kept.is_ours()) {
            return Ok(Arc::clone(kept));
        }
        // Without it, the caller could not find out that a container has ended.
        match sys::wait_without_reaping(WaitTarget::Pid(i32::MAX), false) {
            Err(error) if error.raw_os_error() != Some(libc::ECHILD) => {
                return Err(SpawnError::from_io(Step::Prepare, &error).of_call("waitid"));
            }
            _ => {}
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
    /// The living containers: the pid of each one's first process.
    watched: Mutex<HashMap<i32, Watched>>,
}

static CALLER: AtomicPtr<Caller> = AtomicPtr::new(std::ptr::null_mut());

fn caller() -> &'static Caller {
    let pid = std::process::id();
    let current = CALLER.load(Ordering::Acquire);
    // SAFETY: a published state is never freed, and all references to it are shared.
    if let Some(caller) = unsafe { current.as_ref() }.filter(|caller| caller.pid == pid) {
        return caller;
    }
    let fresh = Box::into_raw(Box::new(Caller {
        pid,
        slots: Mutex::default(),
        held: Mutex::default(),
        watched: Mutex::default(),
    }));
    match CALLER.compare_exchange(current, fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above. After a fork the parent's state is not freed either.
        Ok(_) => unsafe { &*fresh },
        Err(winner) => {
            // SAFETY: not published, so this is the only pointer to it.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: as above. The winner belongs to this process: only its threads race here.
            unsafe { &*winner }
        }
    }
}

/// The number of forks between the start of the program and this process.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Tells a process from those that it was forked from. In another PID namespace one of them may have its process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: u32,
    forks: u32,
}

impl Identity {
    pub(crate) fn of_this_process() -> Self {
        Self { pid: std::process::id(), forks: FORKS.load(Ordering::Relaxed) }
    }
}

thread_local! {
    /// The lock that this thread holds while it forks.
    static FORKING: RefCell<Option<MutexGuard<'static, Slots>>> = const { RefCell::new(None) };
}

/// Locks the descriptors of this process until [`after_fork_in_parent`] or [`after_fork_in_child`].
///
/// Call it right before a fork. Otherwise the child could inherit a lock that no thread of its own releases,
/// or a socket to the watchdog that no slot holds.
pub fn before_fork() {
    let guard = caller().slots.lock().unwrap_or_else(PoisonError::into_inner);
    // A second preparation by the same thread replaces the first guard, which then unlocks.
    let _ = FORKING.try_with(|forking| forking.replace(Some(guard)));
}

/// Unlocks the descriptors of this process.
///
/// Call it in the parent, right after the fork, even if the fork failed.
pub fn after_fork_in_parent() {
    let _ = FORKING.try_with(RefCell::take);
}

/// Closes the descriptors that a forked child inherited: the socket would keep its parent's watchdog waiting.
///
/// Call it in the child, right after the fork. A child in another PID namespace can have its parent's process
/// id, so the id alone does not tell their states apart.
pub fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    CALLER.store(std::ptr::null_mut(), Ordering::Release);
    if let Some(mut inherited) = FORKING.try_with(RefCell::take).ok().flatten() {
        *inherited = Slots::default();
    }
}

/// Records descriptors that belong to one use of a container. A copy of the caller that is made for another
/// use closes them; otherwise a pipe would stay open until that copy ends.
pub fn hold(fds: &[RawFd]) {
    held().extend_from_slice(fds);
}

/// Closes descriptors that [`hold`] recorded, each once. Skips a number that is no longer recorded: it was closed
/// before, and may be another file's by now.
pub fn release(fds: &[RawFd]) {
    let mut held = held();
    for &fd in fds {
        if let Some(at) = held.iter().position(|&number| number == fd) {
            held.swap_remove(at);
            // Close it under the lock: another thread may get the number right afterwards.
            let _ = nix::unistd::close(fd);
        }
    }
}

/// The recorded descriptors. While the guard lives, no other thread records or closes one.
pub(crate) fn held() -> MutexGuard<'static, Vec<RawFd>> {
    caller().held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From this number of recorded containers on, those that have ended are looked for.
const MANY: usize = 1024;

/// Records a living container, whose first process is the child `pid` of this process.
///
/// # Errors
///
/// The error of `pidfd_open(2)`. Where it is `ESRCH`, other code of the caller has reaped the process, and there is
/// nothing to record.
pub(crate) fn record_watched(pid: i32, kind: u8) -> std::io::Result<()> {
    let pidfd = fd::pidfd_open(pid)?;
    let inode = fd::inode(pidfd.as_fd())?;
    let mut watched = watched();
    // Other code of the caller may reap its children, and `forget_watched` is never called.
    if watched.len() >= MANY && watched.len().is_power_of_two() {
        watched
            .retain(|&pid, _| fd::pidfd_open(pid).is_ok_and(|pidfd| fd::is_alive(pidfd.as_fd())));
    }
    watched.insert(pid, Watched { kind, inode });
    Ok(())
}

/// Forgets a container whose first process has ended.
pub(crate) fn forget_watched(pid: i32) {
    watched().remove(&pid);
}

/// The number of recorded containers.
pub(crate) fn watched_count() -> usize {
    watched().len()
}

/// The living containers: a pidfd of each, and the byte with which it was registered. Forgets those that have ended.
///
/// # Errors
///
/// The error of `pidfd_open(2)` if there is no descriptor left.
pub(crate) fn each_watched(
    mut act: impl FnMut(OwnedFd, u8) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let pids: Vec<(i32, Watched)> = watched().iter().map(|(&pid, &of)| (pid, of)).collect();
    for (pid, of) in pids {
        match fd::pidfd_open(pid) {
            Ok(pidfd) if fd::is_alive(pidfd.as_fd()) && fd::inode(pidfd.as_fd())? == of.inode => {
                act(pidfd, of.kind)?;
            }
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            // Reaped by other code, or about to be reaped.
            _ => forget_watched(pid),
        }
    }
    Ok(())
}

fn watched() -> MutexGuard<'static, HashMap<i32, Watched>> {
    caller().watched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is the main thread: after a fork, the one thread of the child. The kernel prefers it for signals,
/// and interpreters run handlers only in it.
#[must_use]
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Calls `act` with the descriptors of this process, under the lock.
pub(crate) fn with_slots<T>(act: impl FnOnce(&mut Slots) -> T) -> T {
    act(&mut caller().slots.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The sealed memfd with the helper program.
pub(crate) fn helper() -> Result<Arc<KeptFd>, SpawnError> {
    with_slots(Slots::helper)
}

/// A new sealed memfd with the helper program, which this process does not keep.
pub(crate) fn fresh_helper() -> Result<OwnedFd, SpawnError> {
    make_helper().map_err(|error| SpawnError::from_io(Step::Helper, &error))
}

fn make_helper() -> std::io::Result<OwnedFd> {
    let fd = fd::memfd(c"minidocker-init", HELPER, true)?;
    fd::seal(&fd)?;
    Ok(fd)
}
