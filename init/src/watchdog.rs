//! The watchdog: one tiny process for each calling process, which ends what that process started
//! when it ends, however it ends.
//!
//! Every container sends a descriptor of itself (a pidfd) before it executes its command. A pidfd
//! of the caller tells when the caller, not just one of its threads, has gone; a forked worker that
//! lives on does not matter.

use core::ops::Range;

use crate::close_all_but;
use crate::file::close;
use crate::reaper::{DescriptorRights, EVERY_SIGNAL, MessageWithDescriptor};
use crate::session::{self, Doomed};
use minidocker_init::program::registration;
use minidocker_init::raw::{exit, nr, syscall};

const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: u64 = 1;
const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 4;
const EINTR: i32 = 4;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const RLIMIT_NOFILE: u64 = 7;

/// After the caller's death: how long a container that was being made may still register itself.
/// Longer than a child waits for its parent.
const GRACE_MILLISECONDS: u64 = 65_000;

/// Containers at once that can be told to be killed with their session. More are killed too, by
/// themselves.
const KNOWN: usize = 1 << 16;

/// The kernel's `struct epoll_event`.
#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
struct Event {
    events: u32,
    data: u64,
}

struct Watchdog {
    epoll: u64,
    socket: i32,
    /// Bit n: the process behind descriptor n leads a session that ends with it.
    leaders: [u8; KNOWN / 8],
    /// The sessions, and what descends from them, that have to end once the caller has gone.
    doomed: Doomed,
    /// One more than the highest descriptor that was registered.
    end: i32,
    watched: u32,
    closed: bool,
    orphaned: bool,
}

static mut WATCHDOG: Watchdog = Watchdog {
    epoll: 0,
    socket: 0,
    leaders: [0; KNOWN / 8],
    doomed: Doomed::NONE,
    end: 0,
    watched: 0,
    closed: false,
    orphaned: false,
};

/// Watches until the caller has gone, or has closed its end of `socket` and nothing is left.
pub(crate) fn run(socket: i32, caller: i32) -> ! {
    // Not the caller's child: the caller's wait(2) has nothing to do with it.
    // SAFETY: no CLONE_VM: the child gets a copy of this process, this stack included.
    match unsafe { syscall(nr::CLONE, [0; 6]) } {
        Ok(0) => {}
        Ok(_) => exit(0),
        Err(_) => exit(1),
    }
    close_all_but([socket, caller]);
    // Not the caller's session: neither its terminal nor a signal to its group ends the watchdog.
    // SAFETY: takes no pointer.
    let _ = unsafe { syscall(nr::SETSID, [0; 6]) };
    // SAFETY: the path is a string.
    let _ = unsafe { syscall(nr::CHDIR, [c"/".as_ptr() as u64, 0, 0, 0, 0, 0]) };
    // SAFETY: reads eight bytes of the mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, [2, &raw const EVERY_SIGNAL as u64, 0, 8, 0, 0]) };
    raise_descriptor_limit();
    // SAFETY: takes no pointer.
    let Ok(epoll) = (unsafe { syscall(nr::EPOLL_CREATE1, [0; 6]) }) else { exit(1) };
    let place = &raw mut WATCHDOG;
    // SAFETY: this process has one thread, and this is the only reference.
    let watchdog = unsafe { &mut *place };
    watchdog.epoll = epoll as u64;
    watchdog.socket = socket;
    watchdog.end = socket.max(caller).max(epoll as i32) + 1;
    if !watchdog.watch(socket) || !watchdog.watch(caller) {
        exit(1);
    }
    loop {
        let Some(descriptor) = watchdog.next_event() else {
            // Only after the caller's death is there a time limit.
            exit(0)
        };
        if descriptor == socket {
            watchdog.receive();
        } else if descriptor == caller {
            close(caller);
            watchdog.orphaned = true;
            watchdog.kill(0..watchdog.end);
        } else {
            // The process behind this descriptor has ended, and with it its container.
            close(descriptor);
            watchdog.watched -= 1;
        }
        if watchdog.closed && (watchdog.orphaned || watchdog.watched == 0) {
            exit(0);
        }
    }
}

impl Watchdog {
    fn watch(&self, descriptor: i32) -> bool {
        let event = Event { events: EPOLLIN, data: descriptor as u64 };
        let place = &raw const event as u64;
        // SAFETY: reads the event, which lives on this stack.
        unsafe {
            syscall(nr::EPOLL_CTL, [self.epoll, EPOLL_CTL_ADD, descriptor as u64, place, 0, 0])
        }
        .is_ok()
    }

    /// The next descriptor at which something happened; `None` when the time is up.
    fn next_event(&self) -> Option<i32> {
        let mut event = Event { events: 0, data: 0 };
        let place = &raw mut event as u64;
        let timeout = if self.orphaned { GRACE_MILLISECONDS } else { u64::MAX };
        loop {
            // SAFETY: the kernel writes at most one event.
            match unsafe { syscall(nr::EPOLL_PWAIT, [self.epoll, place, 1, timeout, 0, 8]) } {
                Ok(0) => return None,
                Ok(_) => return Some(event.data as i32),
                Err(EINTR) => {}
                Err(_) => exit(1),
            }
        }
    }

    /// Receives one container's descriptor.
    fn receive(&mut self) {
        let mut kind = registration::PROCESS;
        let part = [&raw mut kind as u64, 1];
        let mut room = FromSomebody::room();
        let (control, length) = (&raw mut room as u64, size_of::<FromSomebody>() as u64);
        let mut header = MessageWithDescriptor::with_control(&part, control, length);
        // SAFETY: the header and what it points to live on this stack.
        let received = unsafe {
            syscall(
                nr::RECVMSG,
                [self.socket as u64, &raw mut header as u64, MSG_CMSG_CLOEXEC, 0, 0, 0],
            )
        };
        match received {
            Ok(0) => {
                close(self.socket);
                self.closed = true;
            }
            Ok(_) => {
                self.register(room.rights.descriptor, room.sender, kind == registration::SESSION);
            }
            // Out of descriptors, for example: the container goes unwatched rather than all of them.
            Err(_) => {}
        }
    }

    /// Takes one container's descriptor; -1 where none came.
    fn register(&mut self, descriptor: i32, sender: i32, leads_session: bool) {
        if !is_process(descriptor, sender) {
            close(descriptor);
            return;
        }
        self.set_leader(descriptor, leads_session);
        self.end = self.end.max(descriptor + 1);
        if self.orphaned {
            self.kill(descriptor..descriptor + 1);
        }
        if self.watch(descriptor) {
            self.watched += 1;
        } else {
            close(descriptor);
        }
    }

    fn set_leader(&mut self, descriptor: i32, leads: bool) {
        if let Some(byte) = self.leaders.get_mut(descriptor as usize / 8) {
            let bit = 1 << (descriptor % 8);
            *byte = if leads { *byte | bit } else { *byte & !bit };
        }
    }

    /// Kills the processes behind these descriptors, with their sessions where they lead one; does
    /// nothing where a descriptor is no pidfd.
    fn kill(&mut self, descriptors: Range<i32>) {
        // What needs no search goes at once.
        for descriptor in descriptors.clone() {
            if self.is_leader(descriptor) {
                // Its pid is the session's id, and can be read until it is reaped.
                if let Some(pid) = session::pid_of(descriptor) {
                    self.doomed.add(pid);
                }
                send(descriptor, SIGSTOP, 0);
            } else {
                send(descriptor, SIGKILL, 0);
            }
        }
        self.doomed.stop();
        for descriptor in descriptors {
            if self.is_leader(descriptor) {
                // Linux 6.9. An older kernel refuses the flag; then the members that were found are all.
                send(descriptor, SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP);
                send(descriptor, SIGKILL, 0);
            }
        }
        self.doomed.kill();
    }

    fn is_leader(&self, descriptor: i32) -> bool {
        let byte = self.leaders.get(descriptor as usize / 8);
        byte.is_some_and(|byte| byte & (1 << (descriptor % 8)) != 0)
    }
}

/// Room for who has sent something, as the kernel says it where the socket asks for it (`SO_PASSCRED`), and for
/// a descriptor.
#[repr(C)]
struct FromSomebody {
    /// The kernel's `struct cmsghdr`.
    length: u64,
    level: i32,
    kind: i32,
    /// The kernel's `struct ucred`.
    sender: i32,
    ids: [u32; 2],
    padding: u32,
    rights: DescriptorRights,
}

impl FromSomebody {
    fn room() -> Self {
        let rights = DescriptorRights::of(-1);
        Self { length: 0, level: 0, kind: 0, sender: 0, ids: [0; 2], padding: 0, rights }
    }
}

/// Whether a descriptor is of the process that has sent it. A container registers itself; a caller that may not
/// kill a process, having given up the rights that the watchdog has kept, shall not have it killed here.
fn is_process(descriptor: i32, sender: i32) -> bool {
    // SAFETY: takes no pointer.
    let Ok(own) = (unsafe { syscall(nr::PIDFD_OPEN, [sender as u64, 0, 0, 0, 0, 0]) }) else {
        // It has ended, and has been waited for.
        return false;
    };
    let own = own as i32;
    // Before Linux 6.9 all descriptors of processes are one file, and nothing tells them apart.
    let same = inode(descriptor).is_some_and(|number| inode(own) == Some(number));
    close(own);
    same
}

fn inode(descriptor: i32) -> Option<u64> {
    // The kernel's `struct stat`, which is no longer than this; its second word is the number.
    let mut found = [0_u64; 18];
    let place = found.as_mut_ptr() as u64;
    // SAFETY: the kernel writes one structure.
    unsafe { syscall(nr::FSTAT, [descriptor as u64, place, 0, 0, 0, 0]) }.ok()?;
    Some(found[1])
}

fn send(descriptor: i32, signal: u64, flags: u64) {
    // SAFETY: takes no pointer that is not null.
    let _ = unsafe { syscall(nr::PIDFD_SEND_SIGNAL, [descriptor as u64, signal, 0, flags, 0, 0]) };
}

/// One descriptor is held for each container, so the soft limit goes up to the hard one.
fn raise_descriptor_limit() {
    let mut limit = [0_u64; 2];
    let place = &raw mut limit as u64;
    // SAFETY: the kernel writes the two words of a `struct rlimit64`.
    if unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, place, 0, 0]) }.is_ok() {
        let raised = [limit[1]; 2];
        let place = raised.as_ptr() as u64;
        // SAFETY: the kernel reads the two words.
        let _ = unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, place, 0, 0, 0]) };
    }
}
