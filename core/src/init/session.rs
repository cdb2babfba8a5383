//! Ending a session: what a container without a PID namespace of its own is.
//!
//! The kernel has no call that signals a session, so its members are looked for in /proc. Where that
//! is not the caller's, or is hidden, nothing is found, and the leader and its process group, which
//! are killed without it, are all.

use crate::raw::{nr, syscall};
use crate::watchdog::close;

const SIGKILL: u64 = 9;
const AT_FDCWD: u64 = -100_i64 as u64;
const READ_ONLY_CLOEXEC: u64 = 0o2_000_000;
/// Members may fork while they are looked for. Each round kills all that it finds, so only a fork
/// bomb needs many.
const ROUNDS: usize = 100;
/// Pids end below this (`PID_MAX_LIMIT`). Most of the set's pages are never touched.
const LAST_PID: usize = 1 << 22;
/// Room for "/proc/4194304/stat" and for "/proc/self/fdinfo/2147483647".
const PATH: usize = 40;

/// The pid, as this process sees it, of the process behind a pidfd; `None` once it has been reaped.
pub(crate) fn pid_of(pidfd: i32) -> Option<i32> {
    let mut buffer = [0; 512];
    let path = path(b"/proc/self/fdinfo/", pidfd, b"")?;
    let content = read(&path, &mut buffer)?;
    let mut lines = content.split(|&byte| byte == b'\n');
    let pid = lines.find_map(|line| line.strip_prefix(b"Pid:"))?;
    number(pid.trim_ascii()).filter(|&pid| pid > 0)
}

/// A set of sessions, by their ids.
pub(crate) struct Sessions {
    /// Bit n: the session whose leader has or had the pid n.
    marked: [u8; LAST_PID / 8],
    any: bool,
}

impl Sessions {
    pub(crate) const NONE: Self = Self { marked: [0; LAST_PID / 8], any: false };

    pub(crate) fn add(&mut self, session: i32) {
        if let Some(byte) = self.marked.get_mut(session as usize / 8) {
            *byte |= 1 << (session % 8);
            self.any = true;
        }
    }

    fn contains(&self, session: i32) -> bool {
        let byte = self.marked.get(session as usize / 8);
        byte.is_some_and(|byte| byte & (1 << (session % 8)) != 0)
    }

    /// Kills every process of these sessions, until none is left that has not ended.
    pub(crate) fn kill(&self) {
        for _ in 0..ROUNDS {
            if !self.any || !kill_members(self) {
                return;
            }
        }
    }
}

/// Kills those that are there now; whether there were any.
fn kill_members(sessions: &Sessions) -> bool {
    let mut found = false;
    let Some(proc) = open(b"/proc\0") else { return false };
    let mut entries = [0_u64; 512];
    loop {
        let place = entries.as_mut_ptr() as u64;
        let size = size_of_val(&entries) as u64;
        // SAFETY: the kernel writes at most `size` bytes into the array, which is theirs to write.
        let read = unsafe { syscall(nr::GETDENTS64, [proc as u64, place, size, 0, 0, 0]) };
        let length = match read {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        let mut at = 0;
        while at < length {
            // struct linux_dirent64: inode and offset in 8 bytes each, the length of the entry in 2,
            // the type in 1, and the name with its NUL.
            let record = byte(&entries, at + 16) as usize | (byte(&entries, at + 17) as usize) << 8;
            let mut pid = Some(0);
            let mut name = at + 19;
            while byte(&entries, name) != 0 {
                pid = pid.and_then(|pid: i32| digit(pid, byte(&entries, name)));
                name += 1;
            }
            if let Some(pid) = pid.filter(|&pid| pid > 0 && is_member(pid, sessions)) {
                found = true;
                // SAFETY: takes no pointer.
                let _ = unsafe { syscall(nr::KILL, [pid as u64, SIGKILL, 0, 0, 0, 0]) };
            }
            at += record.max(1);
        }
    }
    close(proc);
    found
}

/// Whether the process is in one of the sessions and has not ended, as /proc/PID/stat tells.
fn is_member(pid: i32, sessions: &Sessions) -> bool {
    let mut buffer = [0; 512];
    let Some(path) = path(b"/proc/", pid, b"/stat") else { return false };
    let Some(content) = read(&path, &mut buffer) else { return false };
    // The name, in parentheses, may hold anything. State, parent, process group and session follow it.
    let Some(after) = content.rsplit(|&byte| byte == b')').next() else { return false };
    let mut fields = after.split(|&byte| byte == b' ').skip(1);
    let state = fields.next();
    let member_of = fields.nth(2).and_then(number);
    member_of.is_some_and(|member_of| sessions.contains(member_of))
        && !matches!(state, Some(b"Z" | b"X"))
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

/// `before`, the number in decimal, `after`, and a NUL.
fn path(before: &[u8], number: i32, after: &[u8]) -> Option<[u8; PATH]> {
    let mut digits = [0_u8; 10];
    let mut first = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        first -= 1;
        *digits.get_mut(first)? = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut path = [0; PATH];
    let mut places = path.iter_mut();
    for &byte in before.iter().chain(digits.get(first..)?).chain(after).chain(&[0]) {
        *places.next()? = byte;
    }
    Some(path)
}

fn open(path: &[u8]) -> Option<i32> {
    let place = path.as_ptr() as u64;
    // SAFETY: reads the path, which ends in a NUL.
    let opened = unsafe { syscall(nr::OPENAT, [AT_FDCWD, place, READ_ONLY_CLOEXEC, 0, 0, 0]) };
    opened.ok().map(|descriptor| descriptor as i32)
}

/// The start of a file, as much as the buffer holds: these files come whole in one read.
fn read<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let file = open(path)?;
    let args = [file as u64, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0];
    // SAFETY: the kernel writes at most the buffer's length into it.
    let length = unsafe { syscall(nr::READ, args) };
    close(file);
    buffer.get(..length.ok()?)
}
