//! The watchdog: a small process beside each calling process.
//!
//! It ends the caller's containers when the caller ends, whatever the cause.
//!
//! Every container sends the watchdog a pidfd of itself before it executes its command. A pidfd of the
//! caller becomes readable when the whole caller has ended, not just one of its threads. Processes that the
//! caller forked do not delay this.

use core::ops::Range;

use minidocker_init::program::registration;
use minidocker_init::raw::{exit, nr, syscall};

use crate::close_all_but;
use crate::file::close;
use crate::reaper::{DescriptorRights, EVERY_SIGNAL, MessageWithDescriptor};
use crate::session::{self, Doomed};

const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: u64 = 1;
const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 4;
const EINTR: i32 = 4;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const RLIMIT_NOFILE: u64 = 7;

/// How long after the caller's death a container that is still being launched can register itself. This is
/// longer than a child waits for its parent.
const GRACE_MILLISECONDS: u64 = 65_000;

/// The number of descriptors in the set of session leaders. From this number on, the watchdog kills only the
/// process itself.
const LEADERS_SIZE: usize = 1 << 16;

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
    leaders: [u8; LEADERS_SIZE / 8],
    /// The sessions to end after the caller's death.
    doomed: Doomed,
    /// One more than the highest registered descriptor.
    end: i32,
    watched: u32,
    closed: bool,
    orphaned: bool,
}

static mut WATCHDOG: Watchdog = Watchdog {
    epoll: 0,
    socket: 0,
    leaders: [0; LEADERS_SIZE / 8],
    doomed: Doomed::NONE,
    end: 0,
    watched: 0,
    closed: false,
    orphaned: false,
};

/// Watch until the caller has ended, or has closed its end of `socket` and every container has ended.
pub(crate) fn run(socket: i32, caller: i32) -> ! {
    // Become a grandchild of the caller, which the caller's wait(2) does not see.
    // SAFETY: without CLONE_VM the child gets a copy of this process, this stack included.
    match unsafe { syscall(nr::CLONE, [0; 6]) } {
        Ok(0) => {}
        Ok(_) => exit(0),
        Err(_) => exit(1),
    }
    close_all_but([socket, caller]);
    // In its own session, neither the caller's terminal nor a signal to its group ends the watchdog.
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
            // The wait times out only after the caller's death.
            exit(0)
        };
        if descriptor == socket {
            watchdog.receive();
        } else if descriptor == caller {
            close(caller);
            watchdog.orphaned = true;
            watchdog.kill(0..watchdog.end);
        } else {
            // This container's process has ended.
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

    /// Wait for an event and return its descriptor; `None` on timeout.
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

    /// Receive one container's pidfd and register it.
    fn receive(&mut self) {
        let mut kind = registration::PROCESS;
        let part = [&raw mut kind as u64, 1];
        let mut room = SenderAndDescriptor::room();
        let (control, length) = (&raw mut room as u64, size_of::<SenderAndDescriptor>() as u64);
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
            // On an error (out of descriptors, for example), only this container goes unwatched.
            Err(_) => {}
        }
    }

    /// Take ownership of one container's pidfd; -1 if the message had none.
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

    /// Kill the processes of these pidfds and the sessions that they lead; ignore other descriptors.
    fn kill(&mut self, descriptors: Range<i32>) {
        // First the processes themselves, which need no search.
        for descriptor in descriptors.clone() {
            if self.is_leader(descriptor) {
                // Its pid is the session's id, and is known until the process is reaped.
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
                // Linux before 6.9 refuses the flag. Then only the members found in /proc end.
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

/// The control data of a received message: the sender, which the kernel adds (`SO_PASSCRED`), and a
/// descriptor.
#[repr(C)]
struct SenderAndDescriptor {
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

impl SenderAndDescriptor {
    fn room() -> Self {
        let rights = DescriptorRights::of(-1);
        Self { length: 0, level: 0, kind: 0, sender: 0, ids: [0; 2], padding: 0, rights }
    }
}

/// Return whether a pidfd refers to the process that sent it.
///
/// This avoids a confused deputy. The watchdog may have rights that its caller has dropped, so it accepts
/// only a process that registers itself.
fn is_process(descriptor: i32, sender: i32) -> bool {
    // SAFETY: takes no pointer.
    let Ok(own) = (unsafe { syscall(nr::PIDFD_OPEN, [sender as u64, 0, 0, 0, 0, 0]) }) else {
        // The sender has ended and been reaped.
        return false;
    };
    let own = own as i32;
    // Before Linux 6.9 all pidfds share one inode, and any pidfd passes this check.
    let same = inode(descriptor).is_some_and(|number| inode(own) == Some(number));
    close(own);
    same
}

fn inode(descriptor: i32) -> Option<u64> {
    // The kernel's `struct stat` fits into this; its second word is the inode.
    let mut found = [0_u64; 18];
    let place = found.as_mut_ptr() as u64;
    // SAFETY: the kernel writes one structure.
    unsafe { syscall(nr::FSTAT, [descriptor as u64, place, 0, 0, 0, 0]) }.ok()?;
    Some(found[1])
}

fn send(descriptor: i32, signal: u64, flags: u64) {
    // SAFETY: the only pointer is null.
    let _ = unsafe { syscall(nr::PIDFD_SEND_SIGNAL, [descriptor as u64, signal, 0, flags, 0, 0]) };
}

/// Raise the soft limit on descriptors to the hard one, since each container takes a descriptor.
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
