//! Descriptors in the calling process: all are close-on-exec, and above the three standard streams.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec, write};
use rustix::process::pidfd_open as open_pidfd;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;

/// Return the descriptor, or a copy above 2 if it is 0, 1 or 2 (the caller had closed that stream).
pub(crate) fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(fcntl_dupfd_cloexec(&fd, 3)?) }
}

/// Return a pidfd of the process `pid`: `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).filter(|_| pid > 0).ok_or(Errno::SRCH)?;
    above_stdio(open_pidfd(pid, PidfdFlags::empty())?)
}

/// Return whether the process behind a pidfd is still running.
pub(crate) fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    !is_readable(pidfd, Duration::ZERO).unwrap_or(true)
}

/// Wait until `fd` is readable or hung up, until `time` has passed, or until a signal arrives.
pub(crate) fn is_readable(fd: BorrowedFd<'_>, time: Duration) -> io::Result<bool> {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let timeout =
        Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Return the inode of an open file.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// Return a memfd with `content`.
///
/// # Errors
///
/// The kernel's; `EFBIG` if the limit of file sizes is lower, and this process may not raise it.
pub(crate) fn memfd(name: &CStr, content: &[u8], executable: bool) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let fd = match memfd_create(name, flags | kind) {
        // Before Linux 6.3 every memfd was executable and these flags did not exist.
        Err(Errno::INVAL) => memfd_create(name, flags)?,
        result => result?,
    };
    let fd = above_stdio(fd)?;
    // The limit is for files on disks, and it holds for memory, too.
    let _raised = RaisedFileSize::to(content.len() as u64)?;
    let mut rest = content;
    while !rest.is_empty() {
        match write(&fd, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(fd)
}

/// `RLIMIT_FSIZE`, raised until this is dropped. A write beyond it would send SIGXFSZ, which may end this process.
struct RaisedFileSize(Option<Rlimit>);

impl RaisedFileSize {
    fn to(size: u64) -> io::Result<Self> {
        let before = getrlimit(Resource::Fsize);
        if before.current.is_none_or(|limit| limit >= size) {
            return Ok(Self(None));
        }
        // With CAP_SYS_RESOURCE a process may raise its hard limit.
        let maximum = before.maximum.map(|limit| limit.max(size));
        setrlimit(Resource::Fsize, Rlimit { current: Some(size), maximum })
            .map_err(|_| Errno::FBIG)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RaisedFileSize {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            // Lowering a limit needs no privilege.
            let _ = setrlimit(Resource::Fsize, before);
        }
    }
}

/// Seal a memfd, so that its content cannot change any more.
pub(crate) fn seal(fd: impl AsFd) -> io::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    Ok(fcntl_add_seals(fd, seals)?)
}

/// Return two connected sockets that preserve message boundaries.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let kind = SocketType::SEQPACKET;
    let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((above_stdio(one)?, above_stdio(other)?))
}

/// Return two connected stream sockets.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let kind = SocketType::STREAM;
    let (one, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    Ok((above_stdio(one)?, above_stdio(other)?))
}

/// Return the read end and the write end of a non-blocking pipe.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}
