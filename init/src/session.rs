//! Ending containers without a PID namespace of their own: a session, and whatever descends from it.
//!
//! The kernel has no call that signals a session, so its members are looked for in /proc, and their
//! descendants, who may have sessions of their own (su(1) makes one). All are stopped before any is killed:
//! a stopped process neither forks nor loses the children that it is known by. What has daemonized, so
//! that its parent is init, can be told from nobody else's daemon, and is the reason for PID
//! namespaces. Where /proc is not the caller's, or is hidden, nothing is found, and the leader and its
//! process group, which are killed without it, are all.

use crate::file::{close, open, path, read};
use minidocker_init::raw::{nr, syscall};

const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
/// Members may fork while they are looked for. Each round stops all that it finds, so only a fork
/// bomb needs many.
const ROUNDS: usize = 100;
/// Pids end below this (`PID_MAX_LIMIT`). Most pages of such a set are never touched.
const LAST_PID: usize = 1 << 22;

/// The pid, as this process sees it, of the process behind a pidfd; `None` once it has been reaped.
pub(crate) fn pid_of(pidfd: i32) -> Option<i32> {
    let mut buffer = [0; 512];
    let path = path(b"/proc/self/fdinfo/", pidfd, b"")?;
    let content = read(&path, &mut buffer)?;
    let mut lines = content.split(|&byte| byte == b'\n');
    let pid = lines.find_map(|line| line.strip_prefix(b"Pid:"))?;
    number(pid.trim_ascii()).filter(|&pid| pid > 0)
}

/// A set of pids.
struct Pids([u8; LAST_PID / 8]);

impl Pids {
    /// Adds one; whether it is new.
    fn add(&mut self, pid: i32) -> bool {
        let bit = 1 << (pid % 8);
        match self.0.get_mut(pid as usize / 8) {
            Some(byte) if *byte & bit == 0 => {
                *byte |= bit;
                true
            }
            _ => false,
        }
    }

    fn contains(&self, pid: i32) -> bool {
        let byte = self.0.get(pid as usize / 8);
        byte.is_some_and(|byte| byte & (1 << (pid % 8)) != 0)
    }
}

/// The processes that have to end.
pub(crate) struct Doomed {
    sessions: Pids,
    members: Pids,
    any: bool,
}

impl Doomed {
    #[expect(
        clippy::large_stack_arrays,
        reason = "it is the value of a static, and never on a stack"
    )]
    pub(crate) const NONE: Self =
        Self { sessions: Pids([0; LAST_PID / 8]), members: Pids([0; LAST_PID / 8]), any: false };

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
        for (at, byte) in self.members.0.iter_mut().enumerate() {
            for bit in (0..8).filter(|bit| *byte & (1 << bit) != 0) {
                signal((at * 8 + bit) as i32, SIGKILL);
            }
            forget(byte);
        }
        self.sessions.0.iter_mut().for_each(forget);
    }

    /// Stops those that are there now; whether there were new ones.
    fn stop_those_that_are_there(&mut self) -> bool {
        let mut found = false;
        let Some(proc) = open(b"/proc\0") else { return false };
        let mut entries = [0_u64; 512];
        loop {
            let place = entries.as_mut_ptr() as u64;
            let size = size_of_val(&entries) as u64;
            // SAFETY: the kernel writes at most `size` bytes into the array.
            let read = unsafe { syscall(nr::GETDENTS64, [proc as u64, place, size, 0, 0, 0]) };
            let length = match read {
                Ok(length) if length > 0 => length,
                _ => break,
            };
            let mut at = 0;
            while at < length {
                // struct linux_dirent64: inode and offset in 8 bytes each, the length of the entry in 2,
                // the type in 1, and the name with its NUL.
                let record = u16::from_ne_bytes([byte(&entries, at + 16), byte(&entries, at + 17)]);
                let mut pid = Some(0);
                let mut name = at + 19;
                while byte(&entries, name) != 0 {
                    pid = pid.and_then(|pid: i32| digit(pid, byte(&entries, name)));
                    name += 1;
                }
                if let Some(pid) = pid.filter(|&pid| pid > 0) {
                    found |= self.stop_if_member(pid);
                }
                at += usize::from(record.max(1));
            }
        }
        close(proc);
        found
    }

    /// Stops the process if it is a member that has not ended; whether it is a new one.
    fn stop_if_member(&mut self, pid: i32) -> bool {
        let Some(Stat { state, parent, session }) = Stat::of(pid) else { return false };
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

/// What /proc/PID/stat tells.
struct Stat {
    state: u8,
    parent: i32,
    session: i32,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let mut buffer = [0; 512];
        let path = path(b"/proc/", pid, b"/stat")?;
        let content = read(&path, &mut buffer)?;
        // The name, in parentheses, may hold anything. State, parent, process group and session follow.
        let after = content.rsplit(|&byte| byte == b')').next()?;
        let mut fields = after.split(|&byte| byte == b' ').skip(1);
        let state = *fields.next()?.first()?;
        let parent = fields.next().and_then(number)?;
        let session = fields.nth(1).and_then(number)?;
        Some(Self { state, parent, session })
    }
}

/// Does not write where there is nothing: most pages are not there to be written.
fn forget(byte: &mut u8) {
    if *byte != 0 {
        *byte = 0;
    }
}

fn signal(pid: i32, number: u64) {
    // SAFETY: takes no pointer.
    let _ = unsafe { syscall(nr::KILL, [pid as u64, number, 0, 0, 0, 0]) };
}

/// A byte of what the kernel wrote into words; 0 past their end.
fn byte(words: &[u64], at: usize) -> u8 {
    words.get(at / 8).map_or(0, |word| word.to_ne_bytes()[at % 8])
}

fn digit(value: i32, byte: u8) -> Option<i32> {
    byte.is_ascii_digit().then(|| value.wrapping_mul(10).wrapping_add(i32::from(byte - b'0')))
}

fn number(text: &[u8]) -> Option<i32> {
    text.iter().try_fold(0, |value, &byte| digit(value, byte))
}
