//! The ids that a container of a root caller has to itself: a range of the pool.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, chown};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Access, AtFlags, CWD, FlockOperation, accessat, flock};
use rustix::io::Errno;

use crate::error::{Remedy, Setting, SpawnError};
use crate::host::id_pool::{IdPool, RANGE, is_of_a_container};
use crate::plan::CommandDescriptors;
use crate::step::Step;

/// Directories with a file for each range, named by its first user id; the first directory that can be used is. The
/// caller of a container holds a lock on the file of its range.
const DIRECTORIES: [&str; 3] =
    ["/run/minidocker.ids", "/dev/shm/minidocker.ids", "/tmp/minidocker.ids"];

/// A range of ids that no other container has. The kernel releases it with the caller at the latest.
#[derive(Debug)]
pub(super) struct IdRange {
    file: File,
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
        let failed = |error: &io::Error, path: &str, remedy: &'static str| {
            let mut failed = SpawnError::from_io(Step::IdMaps, error).about(path);
            if !is_shortage(error) {
                failed.hint = Some(Remedy::with(remedy, Setting::EveryId));
            }
            failed
        };
        let directory = usable(&DIRECTORIES).map_err(|error| {
            let remedy = "The container's ids are locked there: make the directory writable, or {}";
            failed(&error, DIRECTORIES[0], remedy)
        })?;
        // Callers that do not share these directories rarely start at the same range.
        let start = (std::process::id() as usize)
            .wrapping_mul(31)
            .wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        for first in pool.ranges_from(start) {
            let path = format!("{directory}/{}", first.0);
            let file = open_lock(&path).map_err(|error| {
                failed(&error, &path, "The container's ids are locked there: make room, or {}")
            })?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file, first }),
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => {
                    return Err(SpawnError::new(Step::IdMaps, error.raw_os_error()).about(path));
                }
            }
        }
        let remedy = "Other containers have all of the ids: end some of them, or {}";
        Err(failed(&io::Error::from_raw_os_error(libc::EAGAIN), directory, remedy))
    }

    /// Releases it, also for other processes that have inherited the descriptor.
    pub(super) fn release(self) {
        // Closing it releases it, too, if no other process has it.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
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

/// The first of these directories that exists or can be made, and in which only the caller's user can make files, since
/// another one could keep their locks.
fn usable<'a>(paths: &[&'a str]) -> io::Result<&'a str> {
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    for path in paths {
        match make_own(path) {
            Ok(()) => return Ok(path),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn make_own(directory: &str) -> io::Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let found = match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match DirBuilder::new().mode(0o700).create(directory) {
                // Another caller may just have made it.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => fs::symlink_metadata(directory)?,
            }
        }
        found => found?,
    };
    let is_own = found.is_dir()
        && found.uid() == nix::unistd::geteuid().as_raw()
        && found.mode() & WRITABLE_BY_OTHERS == 0;
    if !is_own {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    // Its file system may have become read-only.
    accessat(CWD, directory, Access::WRITE_OK, AtFlags::EACCESS).map_err(Into::into)
}

fn open_lock(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Whether no descriptor or memory is left, so that no other file can be opened, either.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_used_gives_way_to_the_next() {
        let directory = std::env::temp_dir().join(format!("id-locks-{}", std::process::id()));
        let own = directory.to_str().expect("ASCII");
        let refused = "/proc/minidocker.ids";
        assert_eq!(usable(&[refused, own]).ok(), Some(own));
        assert_eq!(usable(&[own]).ok(), Some(own), "it exists now");
        assert!(usable(&[refused]).is_err());
        fs::set_permissions(own, fs::Permissions::from_mode(0o777)).expect("our own");
        assert!(usable(&[own]).is_err(), "another user could keep its locks");
        fs::remove_dir(own).expect("our own");
    }
}
