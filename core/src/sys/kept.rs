//! Descriptors that are kept between uses, and verified before each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::fstat;

/// A descriptor that is known to be the one that was opened: a daemon closes descriptors that it does
/// not know, and its next open(2) gets the number.
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
        self.fd.as_ref().expect("only taken when it is dropped").as_fd()
    }

    /// Whether the number still means what was opened.
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
            // It belongs to other code by now, which closes it.
            let _ = self.fd.take().map(IntoRawFd::into_raw_fd);
        }
    }
}

/// The device and the inode, which tell a file from every other one.
fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let found = fstat(fd)?;
    Ok((found.st_dev, found.st_ino))
}
