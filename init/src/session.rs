//! The end of a container without its own PID namespace: a session and its descendants.
//!
//! The kernel has no call that signals a session. So the watchdog searches /proc for the session's processes, for
//! their descendants, which may be in other sessions (su(1) creates one), and for every process in a namespace that
//! only this container has. It stops all of them before it kills any: a stopped process cannot fork, and its children
//! keep it as their parent, by which the search finds them. The parent of a daemon is init, so a daemon is found only
//! by its namespaces; where the container shares all of them, or the daemon has left them, it survives. If /proc
//! belongs to another PID namespace or is hidden, the search finds nothing, and the watchdog kills only the leader and
//! its process group.

use minidocker_init::pids::Pids;
use minidocker_init::proc::{Stat, path, pid_in_fdinfo, pids_in};
use minidocker_init::program::registration::NAMESPACES;
use minidocker_init::raw::{nr, syscall};

use crate::file::{close, inode, open, read};

const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
/// The most rounds of a search. Processes may fork during a round, but each round stops those it finds, so
/// only a fork bomb needs many.
const ROUNDS: usize = 100;

/// Return the pid of a pidfd's process in this PID namespace; `None` if it has been reaped.
pub(crate) fn pid_of(pidfd: i32) -> Option<i32> {
    let mut buffer = [0; 512];
    let path = path(b"/proc/self/fdinfo/", pidfd, b"")?;
    pid_in_fdinfo(read(&path, &mut buffer)?)
}

/// The most sessions to end at once.
pub(crate) const BATCH: usize = 128;

/// The sessions and namespaces to end, and the processes found in them.
pub(crate) struct Doomed {
    sessions: Pids,
    members: Pids,
    /// The inodes of the namespaces.
    namespaces: [u64; BATCH * NAMESPACES.len()],
    namespace_count: usize,
    any: bool,
}

impl Doomed {
    pub(crate) const NONE: Self = Self {
        sessions: Pids::EMPTY,
        members: Pids::EMPTY,
        namespaces: [0; BATCH * NAMESPACES.len()],
        namespace_count: 0,
        any: false,
    };

    /// Add a process that leads a session, or soon will, and its namespaces whose bits are set in `kinds`.
    pub(crate) fn add(&mut self, leader: i32, kinds: u8) {
        self.any = true;
        self.sessions.add(leader);
        self.members.add(leader);
        for (index, name) in NAMESPACES.iter().enumerate() {
            // The namespaces of the watchdog itself are those of the host.
            if kinds & (1 << index) != 0
                && let Some(found) =
                    namespace_of(leader, name).filter(|&found| !is_own(name, found))
                && let Some(free) = self.namespaces.get_mut(self.namespace_count)
            {
                *free = found;
                self.namespace_count += 1;
            }
        }
    }

    fn is_in_namespace(&self, pid: i32) -> bool {
        let doomed = self.namespaces.get(..self.namespace_count).unwrap_or_default();
        !doomed.is_empty()
            && NAMESPACES
                .iter()
                .any(|name| namespace_of(pid, name).is_some_and(|found| doomed.contains(&found)))
    }

    /// Stop every member, in rounds, until a round finds no new member.
    pub(crate) fn stop(&mut self) {
        for _ in 0..ROUNDS {
            if !self.any || !self.stop_round() {
                return;
            }
        }
    }

    /// Kill every member and forget its pid, which another process may soon get.
    pub(crate) fn kill(&mut self) {
        if !core::mem::take(&mut self.any) {
            return;
        }
        self.members.drain(|pid| signal(pid, SIGKILL));
        self.sessions.drain(|_| {});
        self.namespace_count = 0;
    }

    /// Stop the members that /proc shows now, and return whether any is new.
    fn stop_round(&mut self) -> bool {
        let mut found = false;
        let Some(proc) = open(b"/proc\0") else { return false };
        let mut entries = [0; 4096];
        loop {
            let place = entries.as_mut_ptr() as u64;
            let size = entries.len() as u64;
            // SAFETY: the kernel writes at most `size` bytes into the array.
            let read = unsafe { syscall(nr::GETDENTS64, [proc as u64, place, size, 0, 0, 0]) };
            let Some(entries) = read.ok().and_then(|length| entries.get(..length)) else { break };
            if entries.is_empty() {
                break;
            }
            pids_in(entries, |pid| found |= self.stop_if_member(pid));
        }
        close(proc);
        found
    }

    /// Stop a process if it is a member and has not ended, and return whether it is new.
    fn stop_if_member(&mut self, pid: i32) -> bool {
        let Some(Stat { state, parent, session }) = stat(pid) else { return false };
        if matches!(state, b'Z' | b'X') || self.members.contains(pid) {
            return false;
        }
        let is_member = self.sessions.contains(session)
            || self.members.contains(parent)
            || self.is_in_namespace(pid);
        if !is_member || !self.members.add(pid) {
            return false;
        }
        if session == pid {
            self.sessions.add(pid);
        }
        signal(pid, SIGSTOP);
        true
    }
}

/// Return the inode of a process's namespace; `None` if it has ended, or belongs to another user.
fn namespace_of(pid: i32, name: &str) -> Option<u64> {
    let mut after = *b"/ns/\0\0\0\0\0\0";
    let (_, place) = after.split_at_mut_checked(4)?;
    for (to, from) in place.iter_mut().zip(name.as_bytes()) {
        *to = *from;
    }
    let length = 4 + name.len();
    inode_at(&path(b"/proc/", pid, after.get(..length)?)?)
}

/// Return whether the watchdog itself is in this namespace.
fn is_own(name: &str, found: u64) -> bool {
    own_pid().and_then(|pid| namespace_of(pid, name)).is_none_or(|own| own == found)
}

fn own_pid() -> Option<i32> {
    // SAFETY: takes no pointer.
    unsafe { syscall(nr::GETPID, [0; 6]) }.ok().map(|pid| pid as i32)
}

fn inode_at(path: &[u8]) -> Option<u64> {
    let file = open(path)?;
    let found = inode(file);
    close(file);
    found
}

fn stat(pid: i32) -> Option<Stat> {
    let mut buffer = [0; 512];
    let path = path(b"/proc/", pid, b"/stat")?;
    Stat::parse(read(&path, &mut buffer)?)
}

fn signal(pid: i32, number: u64) {
    // SAFETY: takes no pointer.
    let _ = unsafe { syscall(nr::KILL, [pid as u64, number, 0, 0, 0, 0]) };
}
