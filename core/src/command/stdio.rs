//! The standard streams of a command.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// A standard stream of a command.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's stream.
    Inherit,
    /// `/dev/null`.
    Null,
    /// A pipe. Its other end is in the [`Child`](super::Child).
    Piped,
    /// This descriptor.
    Fd(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(fd: T) -> Self {
        Self::Fd(fd.into())
    }
}

/// Both ends of the pipes of one launch, and other descriptors for it.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) stdin: Option<PipeWriter>,
    pub(super) stdout: Option<PipeReader>,
    pub(super) stderr: Option<PipeReader>,
    /// The descriptors that the child inherits copies of.
    inherited: Vec<OwnedFd>,
}

impl Streams {
    pub(super) fn input(&mut self, stdio: &Stdio) -> io::Result<Option<i32>> {
        if !matches!(stdio, Stdio::Piped) {
            return self.unpiped(stdio);
        }
        let (reader, writer) = io::pipe()?;
        self.stdin = Some(writer);
        Ok(Some(self.let_inherit(reader)))
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
        Ok(Some(self.let_inherit(writer)))
    }

    fn unpiped(&mut self, stdio: &Stdio) -> io::Result<Option<i32>> {
        match stdio {
            Stdio::Inherit | Stdio::Piped => Ok(None),
            Stdio::Fd(fd) => Ok(Some(fd.as_raw_fd())),
            Stdio::Null => {
                let null = File::options().read(true).write(true).open("/dev/null")?;
                Ok(Some(self.let_inherit(null)))
            }
        }
    }

    fn let_inherit(&mut self, fd: impl Into<OwnedFd>) -> i32 {
        let fd = fd.into();
        let number = fd.as_raw_fd();
        self.inherited.push(fd);
        number
    }
}
