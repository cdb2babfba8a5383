//! The standard streams of a command.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// Where a standard stream of a command leads.
#[derive(Debug)]
pub enum Stdio {
    /// Where the caller's leads.
    Inherit,
    /// To `/dev/null`.
    Null,
    /// To a pipe, whose other end is in the [`Child`](super::Child).
    Piped,
    /// To this descriptor.
    Fd(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Self {
        Self::Fd(fd.into())
    }
}

/// Both ends of the pipes of one launch.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) stderr: Option<PipeReader>,
    /// What the child inherits copies of.
    theirs: Vec<OwnedFd>,
}

impl Streams {
    pub(super) fn input(&mut self, stdio: &Stdio) -> io::Result<Option<i32>> {
        if !matches!(stdio, Stdio::Piped) {
            return self.unpiped(stdio);
        }
        let (reader, writer) = io::pipe()?;
        self.stdin = Some(writer);
        Ok(Some(self.give(reader)))
    }

    pub(super) fn output(
        &mut self,
        stdio: &Stdio,
        end: impl FnOnce(&mut Self) -> &mut Option<PipeReader>,
    ) -> io::Result<Option<i32>> {
        if !matches!(stdio, Stdio::Piped) {
            return self.unpiped(stdio);
        }
        let (reader, writer) = io::pipe()?;
        *end(self) = Some(reader);
        Ok(Some(self.give(writer)))
    }

    fn unpiped(&mut self, stdio: &Stdio) -> io::Result<Option<i32>> {
        match stdio {
            Stdio::Inherit | Stdio::Piped => Ok(None),
            Stdio::Fd(fd) => Ok(Some(fd.as_raw_fd())),
            Stdio::Null => {
                let null = File::options().read(true).write(true).open("/dev/null")?;
                Ok(Some(self.give(null)))
            }
        }
    }

    fn give(&mut self, fd: impl Into<OwnedFd>) -> i32 {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.theirs.push(fd);
        number
    }
}
