//! The end of a container without its own PID namespace: a session and its descendants.
//!
//! The kernel has no call that signals a session. So the watchdog searches /proc for the session's processes
//! and for their descendants, which may be in other sessions (su(1) creates one). It stops all of them before
//! it kills any: a stopped process cannot fork, and its children keep it as their parent, by which the search
//! finds them. The parent of a daemonized process is init, so it looks like any other daemon and survives;
//! only a PID namespace ends daemons. If /proc belongs to another namespace or is hidden, the search finds
//! nothing, and the watchdog kills only the leader and its process group.

use minidocker_init::pids::Pids;
use minidocker_init::proc::{Stat, path, pid_in_fdinfo, pids_in};
use minidocker_init::raw::{nr, syscall};

use crate::file::{close, open, read};

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

/// The sessions to end, and the processes found in them.
pub(crate) struct Doomed {
    sessions: Pids,
    members: Pids,
    any: bool,
}

impl Doomed {
    pub(crate) const NONE: Self = Self { sessions: Pids::EMPTY, members: Pids::EMPTY, any: false };

    /// Add a process that leads a session, or soon will.
    pub(crate) fn add(&mut self, leader: i32) {
        self.any = true;
        self.sessions.add(leader);
        self.members.add(leader);
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
