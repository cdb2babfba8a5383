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

/// The namespaces of one process: for each kind that the kernel has, the inode number that identifies the namespace
/// while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Namespaces([Option<u64>; Kind::ALL.len()]);

impl Namespaces {
    /// The inode number of one kind; `None` if this kernel does not have the kind.
    #[must_use]
    pub const fn get(&self, kind: Kind) -> Option<u64> {
        self.0[kind as usize]
    }

    /// Every kind that this kernel has, with its inode number, in the order of [`Kind::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }

    /// The number of kinds that this kernel has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether this kernel has no namespaces at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kinds for which both processes are in the same namespace.
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
    /// There is no such process, or it is a zombie.
    #[error("no living process behind {}", .0.display())]
    NoProcess(PathBuf),
    /// `/proc` is not mounted here, or is not a proc file system.
    #[error("{} does not exist: /proc is not mounted", .0.display())]
    NoProc(PathBuf),
    /// The kernel refused, most often because the process belongs to another user.
    #[error("cannot read {}", path.display())]
    Io {
        /// The link that could not be read.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The link does not look like `uts:[4026531838]`.
    #[error("{} leads to {found:?}, which is not a namespace", path.display())]
    Malformed {
        /// The link that was read.
        path: PathBuf,
        /// The target of the link.
        found: String,
    },
}

impl ReadError {
    /// The matching error number: `ESRCH` for a process that does not exist, for example.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NoProcess(_) => libc::ESRCH,
            Self::NoProc(_) => libc::ENOENT,
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Self::Malformed { .. } => libc::EINVAL,
        }
    }

    /// The path in `/proc` that the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::NoProcess(path)
        | Self::NoProc(path)
        | Self::Io { path, .. }
        | Self::Malformed { path, .. }) = self;
        path
    }
}

/// Returns the namespaces of the calling thread. After unshare(2) or setns(2) they may differ from those of the main
/// thread.
///
/// # Errors
///
/// [`ReadError::NoProc`] if `/proc` is not mounted.
pub fn of_thread() -> Result<Namespaces, ReadError> {
    read(Path::new("/proc/thread-self"))
}

/// Returns the namespaces of the main thread of process `pid`, a pid in the caller's own PID namespace.
///
/// # Errors
///
/// [`ReadError::NoProcess`] if it does not exist or has ended; [`ReadError::Io`] with `EACCES` if the caller may not
/// trace it (ptrace(2), `PTRACE_MODE_READ_FSCREDS`).
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

/// Fails if the link of a kind is absent because the process is gone, or is a zombie, which has no namespaces. Returns
/// `Ok` if this kernel lacks the kind: then the calling thread lacks the link, too.
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
    fn a_pid_that_is_not_in_use_has_no_process() {
        // pid_max is at most 2^22.
        let read = of_process(1 << 23);
        assert!(matches!(read, Err(ReadError::NoProcess(_))), "{read:?}");
    }

    #[test]
    fn a_link_that_is_not_to_a_namespace_is_malformed() {
        for text in ["uts:4026531838", "uts:[x]", "", "uts:[1"] {
            let read = inode(Path::new("/x"), Path::new(text));
            assert!(matches!(read, Err(ReadError::Malformed { .. })), "{read:?}");
        }
        assert_eq!(inode(Path::new("/x"), Path::new("mnt:[42]")).expect("well formed"), 42);
    }
}
