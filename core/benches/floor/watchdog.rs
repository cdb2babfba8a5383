//! The process that is told of every container, and would end it if the caller died.
#![expect(unsafe_code, reason = "a descriptor is sent and received by messages, and polled")]

use std::ffi::c_int;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::ptr;

use crate::raw;

/// A control message with one descriptor, padded as the kernel wants it.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    descriptor: c_int,
    padding: c_int,
}

const LENGTH: usize = size_of::<libc::cmsghdr>() + size_of::<c_int>();

/// Sends `descriptor` and one byte; for the child, which shares the parent's memory.
pub(crate) fn send(socket: RawFd, descriptor: usize) -> isize {
    let header = libc::cmsghdr {
        cmsg_len: LENGTH as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    let mut control = Control { header, descriptor: descriptor as c_int, padding: 0 };
    let mut byte = 0_u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeroes is a valid message header.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let words = [socket as usize, (&raw const message).addr(), 0, 0, 0, 0];
    // SAFETY: the header and what it points to live on this stack until the call returns.
    unsafe { raw::call(libc::SYS_sendmsg as usize, words) }
}

/// Starts a watchdog, this very program, which ends when the socket is closed.
pub(crate) fn start() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    Command::new(std::env::current_exe()?)
        .arg("--watchdog")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    Ok(ours)
}

/// The watchdog: polls what it is sent on its standard input, until the last sender has gone.
pub(crate) fn watch() -> io::Result<()> {
    // SAFETY: it takes no address; the result is checked below.
    let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    let input = io::stdin().as_raw_fd();
    add(&epoll, input, libc::EPOLLIN)?;
    loop {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that is asked for.
        if unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, -1) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let ready = event.u64 as RawFd;
        if ready != input {
            // A container has ended. SAFETY: `receive` gave the descriptor up to the epoll set.
            unsafe { libc::close(ready) };
        } else if let Some(pidfd) = receive(input)? {
            add(&epoll, pidfd, libc::EPOLLIN)?;
        } else {
            return Ok(());
        }
    }
}

fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller has just been given it by the kernel, and hands it on.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn add(epoll: &OwnedFd, descriptor: RawFd, events: c_int) -> io::Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: descriptor as u64 };
    let (set, what) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: the event is ours, and the kernel only reads it.
    if unsafe { libc::epoll_ctl(set, what, descriptor, &raw mut event) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The descriptor in the next message, or None when there is no sender left.
fn receive(socket: RawFd) -> io::Result<Option<RawFd>> {
    // SAFETY: all zeroes is a valid control message.
    let mut control: Control = unsafe { zeroed() };
    let mut byte = 0_u8;
    let mut vector = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zeroes is a valid message header.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header, and the buffers that it describes, are ours for the length of the call.
    match unsafe { libc::recvmsg(socket, ptr::from_mut(&mut message), libc::MSG_CMSG_CLOEXEC) } {
        0 => Ok(None),
        length if length > 0 => Ok(Some(control.descriptor)),
        _ => Err(io::Error::last_os_error()),
    }
}
