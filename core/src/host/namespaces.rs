//! The namespaces that a process is in, read from `/proc/PID/ns`.
//!
//! ```
//! use minidocker_core::host::namespaces::of_thread;
//!
//! let mine = of_thread()?;
//! assert_eq!(mine.shared_with(&mine).count(), mine.len());
//! # Ok::<(), minidocker_core::host::namespaces::ReadError>(())
//! ```

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::namespaces::Kind;

/// The namespaces of one process: for each kind that the kernel has, the inode number that
/// identifies the namespace as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespaces([Option<u64>; Kind::ALL.len()]);

impl Namespaces {
    /// The inode number of one kind, `None` where this kernel does not have it.
    #[must_use]
    pub const fn get(&self, kind: Kind) -> Option<u64> {
        self.0[kind as usize]
    }

    /// Every kind that this kernel has, with its inode number, in the order of [`Kind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// How many kinds this kernel has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether this kernel has no namespaces at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kinds of which both processes are in the very same namespace.
    pub fn shared_with(&self, other: &Self) -> impl Iterator<Item = Kind> {
        self.iter().filter(|(kind, inode)| other.get(*kind) == Some(*inode)).map(|(kind, _)| kind)
    }
}

/// One line for each kind: its name and its inode number.
impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (row, (kind, inode)) in self.iter().enumerate() {
            let end = if row == 0 { "" } else { "\n" };
            write!(f, "{end}{:<8}{inode}", kind.name())?;
        }
        Ok(())
    }
}

/// Why the namespaces of a process could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such process, or it has ended and only waits to be reaped.
    #[error("no living process behind {}", .0.display())]
    NoProcess(PathBuf),
    /// `/proc` is not mounted here, or is not a proc file system.
    #[error("{} does not exist: /proc is not mounted", .0.display())]
    NoProc(PathBuf),
    /// The kernel refused, most often because the process belongs to someone else.
    #[error("cannot read {}", path.display())]
    Io {
        /// The link that could not be read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The link does not look like `uts:[4026531838]`.
    #[error("{} leads to {found:?}, which is not a namespace", path.display())]
    Malformed {
        /// The link that was read.
        path: PathBuf,
        /// What it says.
        found: String,
    },
}

impl ReadError {
    /// The error number that says the same: `ESRCH` for a process that is not there.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NoProcess(_) => libc::ESRCH,
            Self::NoProc(_) => libc::ENOENT,
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Malformed { .. } => libc::EINVAL,
        }
    }

    /// The file or directory in `/proc` that was looked at.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::NoProcess(path)
        | Self::NoProc(path)
        | Self::Io { path, .. }
        | Self::Malformed { path, .. }) = self;
        path
    }
}

/// The namespaces of the calling thread, which after unshare(2) or setns(2) may be others than those
/// of the process's main thread.
///
/// # Errors
///
/// [`ReadError::NoProc`] where `/proc` is not mounted.
pub fn of_thread() -> Result<Namespaces, ReadError> {
    read(Path::new("/proc/thread-self"))
}

/// The namespaces of the main thread of process `pid`, a pid as the caller's own PID namespace has it.
///
/// # Errors
///
/// [`ReadError::NoProcess`] where it does not exist or has ended, [`ReadError::Io`] with `EACCES` for
/// a process that the caller may not trace (ptrace(2), `PTRACE_MODE_READ_FSCREDS`).
pub fn of_process(pid: u32) -> Result<Namespaces, ReadError> {
    read(&Path::new("/proc").join(pid.to_string()))
}

fn read(process: &Path) -> Result<Namespaces, ReadError> {
    let mut found = Namespaces([None; Kind::ALL.len()]);
    for kind in Kind::ALL {
        let path = process.join("ns").join(kind.file_name());
        found.0[kind as usize] = match fs::read_link(&path) {
            Ok(link) => Some(inode(&path, &link)?),
            Err(error) if is_absent(&error) => {
                refuse_if_gone(process, kind)?;
                None
            }
            Err(source) => return Err(ReadError::Io { path, source }),
        };
    }
    Ok(found)
}

/// A kind is absent because this kernel has no such namespaces, in which case the calling thread
/// lacks it too; or because the process is gone, or a zombie, which has left its namespaces.
fn refuse_if_gone(process: &Path, kind: Kind) -> Result<(), ReadError> {
    let own = Path::new("/proc/thread-self");
    if !own.exists() {
        return Err(ReadError::NoProc(own.to_owned()));
    }
    let kernel_has_it = own.join("ns").join(kind.file_name()).symlink_metadata().is_ok();
    if kernel_has_it || !process.exists() {
        return Err(ReadError::NoProcess(process.to_owned()));
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    // ESRCH: the process was reaped after the path was resolved.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The number in `uts:[4026531838]`.
fn inode(path: &Path, link: &Path) -> Result<u64, ReadError> {
    let text = link.to_string_lossy();
    let digits = text.split_once(":[").and_then(|(_, rest)| rest.strip_suffix(']'));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| ReadError::Malformed { path: path.to_owned(), found: text.into_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn own_namespaces_are_those_of_the_kernel() {
        let mine = of_thread().expect("our own");
        for (kind, inode) in mine.iter() {
            let path = Path::new("/proc/thread-self/ns").join(kind.file_name());
            assert_eq!(fs::metadata(path).expect("exists").ino(), inode, "{}", kind.name());
        }
        assert!(mine.get(Kind::Uts).is_some());
    }

    #[test]
    fn a_child_shares_everything() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        let (mine, theirs) = (of_thread().expect("ours"), of_process(child.id()).expect("theirs"));
        drop(child.stdin.take());
        child.wait().expect("our child");
        assert_eq!(mine, theirs);
        assert_eq!(mine.shared_with(&theirs).count(), mine.len());
    }

    #[test]
    fn a_zombie_has_no_namespaces() {
        let mut child = Command::new("/bin/true").spawn().expect("true starts");
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).expect("not reaped yet").contains(") Z ") {
            std::thread::yield_now();
        }
        let read = of_process(child.id());
        child.wait().expect("our child");
        assert!(matches!(read, Err(ReadError::NoProcess(_))), "{read:?}");
    }

    #[test]
    fn a_pid_that_nobody_has_is_no_process() {
        // pid_max is at most 2^22.
        let read = of_process(1 << 23);
        assert!(matches!(read, Err(ReadError::NoProcess(_))), "{read:?}");
    }

    #[test]
    fn a_link_that_is_no_namespace_is_malformed() {
        for text in ["uts:4026531838", "uts:[x]", "", "uts:[1"] {
            let read = inode(Path::new("/x"), Path::new(text));
            assert!(matches!(read, Err(ReadError::Malformed { .. })), "{read:?}");
        }
        assert_eq!(inode(Path::new("/x"), Path::new("mnt:[42]")).expect("well formed"), 42);
    }
}
