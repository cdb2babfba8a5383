//! Ending containers without a PID namespace of their own: a session, and whatever descends from it.
//!
//! The kernel has no call that signals a session, so its members are looked for in /proc, and their
//! descendants, who may have sessions of their own (su(1) makes one). All are stopped before any is killed:
//! a stopped process neither forks nor loses the children that it is known by. What has daemonized, so
//! that its parent is init, can be told from nobody else's daemon, and is the reason for PID
//! namespaces. Where /proc is not the caller's, or is hidden, nothing is found, and the leader and its
//! process group, which are killed without it, are all.

use minidocker_init::pids::Pids;
use minidocker_init::proc::{Stat, path, pid_in_fdinfo, pids_in};
use minidocker_init::raw::{nr, syscall};

use crate::file::{close, open, read};

const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
/// Members may fork while they are looked for. Each round stops all that it finds, so only a fork
/// bomb needs many.
const ROUNDS: usize = 100;

/// The pid, as this process sees it, of the process behind a pidfd; `None` once it has been reaped.
pub(crate) fn pid_of(pidfd: i32) -> Option<i32> {
    let mut buffer = [0; 512];
    let path = path(b"/proc/self/fdinfo/", pidfd, b"")?;
    pid_in_fdinfo(read(&path, &mut buffer)?)
}

/// The processes that have to end.
pub(crate) struct Doomed {
    sessions: Pids,
    members: Pids,
    any: bool,
}

impl Doomed {
    pub(crate) const NONE: Self = Self { sessions: Pids::EMPTY, members: Pids::EMPTY, any: false };

    /// Adds the leader of a session, or one that is about to be.
    pub(crate) fn add(&mut self, leader: i32) {
        self.any = true;
        self.sessions.add(leader);
        self.members.add(leader);
    }

    /// Stops every member, until there is no other.
    pub(crate) fn stop(&mut self) {
        for _ in 0..ROUNDS {
            if !self.any || !self.stop_those_that_are_there() {
                return;
            }
        }
    }

    /// Kills every member, and forgets them: their pids will soon be others'.
    pub(crate) fn kill(&mut self) {
        if !core::mem::take(&mut self.any) {
            return;
        }
        self.members.drain(|pid| signal(pid, SIGKILL));
        self.sessions.drain(|_| {});
    }

    /// Stops those that are there now; whether there were new ones.
    fn stop_those_that_are_there(&mut self) -> bool {
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

    /// Stops the process if it is a member that has not ended; whether it is a new one.
    fn stop_if_member(&mut self, pid: i32) -> bool {
        let Some(Stat { state, parent, session }) = stat(pid) else { return false };
        let is_member = self.sessions.contains(session) || self.members.contains(parent);
        if !is_member || matches!(state, b'Z' | b'X') || !self.members.add(pid) {
            return false;
        }
        if session == pid {
            self.sessions.add(pid);
        }
        signal(pid, SIGSTOP);
        true
    }
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
