//! Descriptors that stay open between uses and are verified before each use.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::fstat;

/// A descriptor that can tell whether its number still refers to the same file.
///
/// Daemons close descriptors that they do not know, and a later open(2) reuses the number.
#[derive(Debug)]
pub(crate) struct KeptFd {
    fd: Option<OwnedFd>,
    identity: (u64, u64),
}

impl KeptFd {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let identity = identity(fd.as_fd())?;
        Ok(Self { fd: Some(fd), identity })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("the descriptor is taken only on drop").as_fd()
    }

    /// Return whether the number still refers to the file that was opened.
    pub(crate) fn is_ours(&self) -> bool {
        identity(self.fd()).is_ok_and(|found| found == self.identity)
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd().as_raw_fd()
    }
}

impl Drop for KeptFd {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Leave the number open: it now belongs to other code.
            let _ = self.fd.take().map(IntoRawFd::into_raw_fd);
        }
    }
}

/// Return the device and the inode, which identify a file.
fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let found = fstat(fd)?;
    Ok((found.st_dev, found.st_ino))
}
