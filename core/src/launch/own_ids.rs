//! The ids that a container of a root caller has to itself: a range of the pool.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, chown};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Remedy, Setting, SpawnError};
use crate::host::id_pool::{IdPool, RANGE, is_of_a_container};
use crate::plan::CommandDescriptors;
use crate::step::Step;

/// Files whose bytes stand for user ids; the first that can be used is. A container's caller holds a lock on the bytes of
/// its range.
const LOCKS: [&str; 3] = ["/run/minidocker.ids", "/dev/shm/minidocker.ids", "/tmp/minidocker.ids"];

/// A range of ids that no other container has. The kernel releases it with the caller at the latest.
#[derive(Debug)]
pub(super) struct IdRange {
    locks: File,
    /// The first user id and the first group id.
    pub(super) first: (u32, u32),
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
        let failed = |error: &io::Error, path: &str| {
            let mut failed = SpawnError::from_io(Step::IdMaps, error).about(path);
            if !is_shortage(error) {
                failed.hint = Some(Remedy::with(
                    "The container's ids are locked there: make the directory writable, or {}",
                    Setting::EveryId,
                ));
            }
            failed
        };
        let (locks, path) = open_locks(&LOCKS).map_err(|error| failed(&error, LOCKS[0]))?;
        // Callers that do not share these directories rarely start at the same range.
        let start = (std::process::id() as usize)
            .wrapping_mul(31)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        for first in pool.ranges_from(start) {
            match lock(&locks, libc::F_WRLCK, first.0) {
                Ok(()) => return Ok(Self { locks, first }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error, path)),
            }
        }
        let mut error = SpawnError::new(Step::IdMaps, libc::EAGAIN).about(path);
        error.hint = Some(Remedy::with(
            "Other containers have all of the ids: end some of them, or {}",
            Setting::EveryId,
        ));
        Err(error)
    }

    /// Releases it, also for other processes that have inherited the descriptor.
    pub(super) fn release(self) {
        // Closing it releases it, too, if no other process has it.
        let _ = lock(&self.locks, libc::F_UNLCK, self.first.0);
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.locks.as_raw_fd()
    }
}

/// Gives a command, whose ids outside count from `first`, the pipes among its descriptors, and its terminal, if they
/// belong to the caller or to another container. Otherwise it could not open them as /dev/stdout, for example. Other
/// files stay as they are.
pub(super) fn give_descriptors(descriptors: &CommandDescriptors, first: (u32, u32)) {
    let user = first.0 + descriptors.user.min(RANGE - 1);
    let group = first.1 + descriptors.group.min(RANGE - 1);
    for (index, number) in descriptors.numbers.iter().enumerate() {
        let path = format!("/proc/self/fd/{number}");
        let Ok(found) = fs::metadata(&path) else { continue };
        let is_pipe = || {
            let link = fs::read_link(&path);
            link.is_ok_and(|link| link.as_os_str().as_bytes().starts_with(b"pipe:"))
        };
        let is_terminal = descriptors.terminal && index == 0;
        let is_ours = found.uid() == 0 || is_of_a_container(found.uid());
        if is_ours
            && found.uid() != user
            && (is_terminal || (found.file_type().is_fifo() && is_pipe()))
        {
            // If this fails, the command can still use the descriptor.
            let _ = chown(&path, Some(user), Some(group));
        }
    }
}

/// Opens the first of these files that can be used, and makes it if it is missing.
fn open_locks(paths: &[&'static str]) -> io::Result<(File, &'static str)> {
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    for &path in paths {
        match open_own(path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Opens a file that only the caller can open, since another user could keep its locks.
fn open_own(path: &str) -> io::Result<File> {
    const OF_OTHERS: u32 = 0o077;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.uid() == 0 && found.mode() & OF_OTHERS == 0 {
        Ok(file)
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// Whether no descriptor or memory is left, so that no other file can be opened, either.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
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
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn a_directory_that_is_not_writable_gives_way_to_the_next() {
        let directory = std::env::temp_dir().join(format!("id-locks-{}", std::process::id()));
        fs::create_dir(&directory).expect("our own");
        let usable = directory.join("locks").to_str().expect("ASCII").to_owned().leak();
        let refused = "/proc/minidocker.ids";
        let found = open_locks(&[refused, usable]).map(|(_, path)| path);
        let is_root = nix::unistd::geteuid().is_root();
        assert_eq!(found.ok(), is_root.then_some(&*usable));
        assert!(open_locks(&[refused]).is_err());
        fs::set_permissions(&*usable, fs::Permissions::from_mode(0o622)).expect("our own");
        assert!(open_locks(&[usable]).is_err(), "another user could keep its locks");
        fs::remove_dir_all(directory).expect("our own");
    }
}
