//! The ids that a container of a root caller has to itself: a range of the pool, and what the container needs besides
//! to use the caller's files with them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Remedy, Setting, SpawnError};
use crate::host::files::{CallersTree, TreeIds};
use crate::host::id_pool::{IdPool, RANGE};
use crate::plan::CommandStreams;
use crate::step::Step;
use crate::sys;

/// The file whose bytes stand for user ids. A container's caller holds a lock on those of its range.
const LOCKS: &str = "/run/minidocker.ids";

/// A range of ids that no other container has. The kernel releases it with the caller at the latest.
#[derive(Debug)]
pub(super) struct IdRange {
    locks: File,
    pub(super) first_uid: u32,
    pub(super) first_gid: u32,
}

impl IdRange {
    /// Takes a range that is free.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if none is; the kernel's errors.
    pub(super) fn take(pool: &IdPool) -> Result<Self, SpawnError> {
        /// The number of ranges that this process has taken.
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let failed = |error: &io::Error| SpawnError::from_io(Step::IdMaps, error).about(LOCKS);
        let locks = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(LOCKS)
            .map_err(|error| failed(&error))?;
        // Callers that do not share /run rarely start at the same range.
        let start = (std::process::id() as usize)
            .wrapping_mul(31)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        for number in 0..pool.len() {
            let number = start.wrapping_add(number) % pool.len();
            let Some((first_uid, first_gid)) = pool.range(number) else { continue };
            match lock(&locks, libc::F_WRLCK, first_uid) {
                Ok(()) => return Ok(Self { locks, first_uid, first_gid }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Err(SpawnError::new(Step::IdMaps, libc::EAGAIN).about(LOCKS))
    }

    /// Releases it, also for other processes that have inherited the descriptor.
    pub(super) fn release(self) {
        // Closing it releases it, too, if no other process has it.
        let _ = lock(&self.locks, libc::F_UNLCK, self.first_uid);
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.locks.as_raw_fd()
    }

    /// Gives the command the pipes among its standard streams, and its terminal, which belong to the caller. Otherwise
    /// it could not open them as /dev/stdout, for example. Other files stay as they are.
    pub(super) fn give_streams(&self, streams: &CommandStreams, pool: &IdPool) {
        let user = self.first_uid + streams.user.min(RANGE - 1);
        let group = self.first_gid + streams.group.min(RANGE - 1);
        for (number, descriptor) in streams.descriptors.iter().enumerate() {
            let path = format!("/proc/self/fd/{descriptor}");
            let is_pipe = fs::read_link(&path)
                .is_ok_and(|link| link.as_os_str().as_bytes().starts_with(b"pipe:"));
            let is_terminal = streams.terminal && number == 0;
            let is_ours = |found: fs::Metadata| found.uid() == 0 || pool.contains(found.uid());
            if (is_pipe || is_terminal) && fs::metadata(&path).is_ok_and(is_ours) {
                // If this fails, the command can still use the descriptor.
                let _ = chown(&path, Some(user), Some(group));
            }
        }
    }
}

/// Makes cloned mounts private, and maps the ids of their files as the user namespace of the process `pid` does.
pub(super) fn map_trees(
    pid: i32,
    described: &[CallersTree],
    trees: &[OwnedFd],
) -> Result<(), SpawnError> {
    let recursive = || described.iter().zip(trees).filter(|(tree, _)| tree.recursive);
    if recursive().next().is_none() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/user");
    let namespace = File::open(&path)
        .map_err(|error| SpawnError::from_io(Step::MountSource, &error).about(path))?;
    for (CallersTree { path, ids, .. }, tree) in recursive() {
        let mapped = (*ids != TreeIds::Same).then_some(namespace.as_fd());
        let mut set = sys::set_up_tree(tree.as_fd(), mapped);
        if set.is_err() && *ids == TreeIds::MappedIfPossible {
            set = sys::set_up_tree(tree.as_fd(), None);
        }
        set.map_err(|error| {
            let failed = SpawnError::from_io(Step::MountSource, &error)
                .about(OsStr::from_bytes(path.to_bytes()));
            if mapped.is_some() { not_mapped(failed) } else { failed }
        })?;
    }
    Ok(())
}

fn not_mapped(mut error: SpawnError) -> SpawnError {
    error.hint = Some(Remedy::with(
        "Its file system, or one that is mounted below it, cannot map the ids of its files to those that \
         the container has to itself: copy the files to another one, or {}",
        Setting::EveryId,
    ));
    error
}

/// Locks or unlocks the bytes of a range of ids.
fn lock(file: &File, kind: i32, first: u32) -> io::Result<()> {
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: first.into(),
        l_len: RANGE.into(),
        // The kernel requires 0 for a lock of an open file.
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(drop).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_taken_once_until_it_is_released() {
        let directory = std::env::temp_dir().join(format!("id-ranges-{}", std::process::id()));
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&directory);
        let (one, other) = (open().expect("a file"), open().expect("a file"));
        lock(&one, libc::F_WRLCK, 100_000).expect("free");
        let refused = lock(&other, libc::F_WRLCK, 165_535).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        lock(&other, libc::F_WRLCK, 165_536).expect("the next one");
        lock(&one, libc::F_UNLCK, 100_000).expect("released");
        lock(&other, libc::F_WRLCK, 100_000).expect("free again");
        fs::remove_file(directory).expect("our own");
    }
}
