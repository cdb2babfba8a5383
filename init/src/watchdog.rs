//! The watchdog: a small process beside each calling process.
//!
//! It ends the caller's containers when the caller ends, whatever the cause.
//!
//! Every container sends the watchdog a pidfd of itself before it executes its command. A pidfd of the
//! caller becomes readable when the whole caller has ended, not just one of its threads. Processes that the
//! caller forked do not delay this.

use core::ops::Range;

use minidocker_init::program::registration;
use minidocker_init::raw::{Errno, exit, nr, syscall};

use crate::close_all_but;
use crate::file::{close, inode};
use crate::reaper::{DescriptorRights, EVERY_SIGNAL, MessageWithDescriptor, send_pid};
use crate::rehearsal::give_up;
use crate::session::{self, BATCH, Doomed};

const EPOLLIN: u32 = 1;
const EPOLL_CTL_ADD: u64 = 1;
const EPOLL_CTL_DEL: u64 = 2;
const CLONE_PIDFD: u64 = 0x1000;
const SIGKILL: u64 = 9;
const SIGSTOP: u64 = 19;
const PIDFD_SIGNAL_PROCESS_GROUP: u64 = 4;
const EINTR: Errno = 4;
const EAGAIN: Errno = 11;
const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
const RLIMIT_NOFILE: u64 = 7;

/// How long after the caller's death a container that is still being launched can register itself. This is
/// longer than a child waits for its parent.
const GRACE_MILLISECONDS: u64 = 65_000;

/// The number of descriptors whose kind the watchdog remembers. From this number on, it kills only the process
/// itself.
const KINDS_SIZE: usize = 1 << 16;

/// The descriptors that the watchdog needs beside those of containers: its own three, and those that it opens for a
/// moment while it checks a registration.
const RESERVED: u64 = 8;

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
    caller: i32,
    /// The byte with which the process behind each descriptor was registered.
    kinds: [u8; KINDS_SIZE],
    /// The sessions to end after the caller's death.
    doomed: Doomed,
    /// One more than the highest registered descriptor.
    end: i32,
    watched: u64,
    /// The most containers at once.
    room: u64,
    /// Whether the watchdog has as many containers as it can have, and does not read the socket.
    paused: bool,
    sealed: bool,
    closed: bool,
    orphaned: bool,
}

static mut WATCHDOG: Watchdog = Watchdog {
    epoll: 0,
    socket: 0,
    caller: 0,
    kinds: [0; KINDS_SIZE],
    doomed: Doomed::NONE,
    end: 0,
    watched: 0,
    room: 0,
    paused: false,
    sealed: false,
    closed: false,
    orphaned: false,
};

/// Watch until the caller has ended, or has closed its end of `socket` and every container has ended.
///
/// The caller waits for the end of this process, which sets the watchdog up, reports its pid or the call that was
/// refused, and exits. The watchdog is a grandchild of the caller, which the caller's wait(2) does not see.
pub(crate) fn run(socket: i32, caller: i32) -> ! {
    let demand = |number: usize, args: [u64; 6]| {
        // SAFETY: the calls below pass no pointer, or one to a static.
        match unsafe { syscall(number, args) } {
            Ok(result) => result,
            Err(errno) => give_up(socket, number, errno),
        }
    };
    close_all_but([socket, caller]);
    demand(nr::CHDIR, [c"/".as_ptr() as u64, 0, 0, 0, 0, 0]);
    demand(nr::RT_SIGPROCMASK, [2, &raw const EVERY_SIGNAL as u64, 0, 8, 0, 0]);
    // In its own session, neither the caller's terminal nor a signal to its group ends the watchdog.
    demand(nr::SETSID, [0; 6]);
    let epoll = demand(nr::EPOLL_CREATE1, [0; 6]);
    let place = &raw mut WATCHDOG;
    // SAFETY: this process has one thread, and this is the only reference.
    let watchdog = unsafe { &mut *place };
    watchdog.epoll = epoll as u64;
    watchdog.socket = socket;
    watchdog.caller = caller;
    watchdog.end = socket.max(caller).max(epoll as i32) + 1;
    watchdog.room = descriptor_limit().saturating_sub(RESERVED).max(1);
    for descriptor in [socket, caller] {
        if let Err(errno) = watchdog.watch(descriptor) {
            give_up(socket, nr::EPOLL_CTL, errno);
        }
    }
    let mut pidfd: i32 = -1;
    // SAFETY: without CLONE_VM the child gets a copy of this process, this stack included. The kernel writes the
    // descriptor's number to `pidfd`.
    match unsafe { syscall(nr::CLONE, [CLONE_PIDFD, 0, &raw mut pidfd as u64, 0, 0, 0]) } {
        Ok(0) => {
            demand(nr::SETSID, [0; 6]);
            watchdog.serve()
        }
        Ok(pid) => {
            // If it is not sent, the caller closes the socket, and the watchdog ends.
            exit(i32::from(send_pid(socket, pid as i32, pidfd).is_err()))
        }
        Err(errno) => give_up(socket, nr::CLONE, errno),
    }
}

impl Watchdog {
    fn serve(&mut self) -> ! {
        loop {
            let Some(descriptor) = self.next_event() else {
                // The wait times out only after the caller's death.
                exit(0)
            };
            if descriptor == self.socket {
                self.receive();
            } else if descriptor == self.caller {
                close(descriptor);
                self.orphaned = true;
                self.kill(0..self.end);
            } else {
                // This container's process has ended.
                close(descriptor);
                if let Some(place) = self.kinds.get_mut(descriptor as usize) {
                    *place = registration::PROCESS;
                }
                self.watched -= 1;
            }
            self.pause_or_resume();
            if self.closed && (self.orphaned || self.watched == 0) {
                exit(0);
            }
        }
    }

    fn watch(&self, descriptor: i32) -> Result<(), Errno> {
        self.control(EPOLL_CTL_ADD, descriptor)
    }

    fn control(&self, operation: u64, descriptor: i32) -> Result<(), Errno> {
        let event = Event { events: EPOLLIN, data: descriptor as u64 };
        let place = &raw const event as u64;
        // SAFETY: reads the event, which lives on this stack.
        unsafe { syscall(nr::EPOLL_CTL, [self.epoll, operation, descriptor as u64, place, 0, 0]) }
            .map(drop)
    }

    /// Stop reading the socket while there is no descriptor for another container, and leave the registrations in it.
    /// The caller's death frees descriptors, so these containers end then, too.
    fn pause_or_resume(&mut self) {
        let full = self.watched >= self.room;
        if self.closed || full == self.paused {
            return;
        }
        let operation = if full { EPOLL_CTL_DEL } else { EPOLL_CTL_ADD };
        if self.control(operation, self.socket).is_err() {
            exit(1);
        }
        self.paused = full;
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

    /// Receive one registration.
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
            Ok(_) if kind == registration::SEAL => self.sealed = true,
            Ok(_) => self.register(room.rights.descriptor, room.sender, kind),
            Err(EINTR | EAGAIN) => {}
            // The next launch finds that this watchdog has ended, and starts another.
            Err(_) => exit(1),
        }
    }

    /// Take ownership of one container's pidfd; -1 if the message had none.
    fn register(&mut self, descriptor: i32, sender: i32, kind: u8) {
        // Until it seals the watchdog, only the caller has the socket. It may have died since.
        if descriptor < 0 || (self.sealed && !is_process(descriptor, sender)) {
            close(descriptor);
            return;
        }
        if let Some(place) = self.kinds.get_mut(descriptor as usize) {
            *place = kind;
        }
        self.end = self.end.max(descriptor + 1);
        if self.orphaned {
            self.kill(descriptor..descriptor + 1);
        }
        // If the kernel refuses another event, the descriptor stays open until the caller's death.
        let _ = self.watch(descriptor);
        self.watched += 1;
    }

    /// Kill the processes of these pidfds, and the sessions that they lead; ignore other descriptors.
    fn kill(&mut self, descriptors: Range<i32>) {
        // First the processes themselves, which need no search.
        for descriptor in descriptors.clone() {
            if !self.is_leader(descriptor) {
                send(descriptor, SIGKILL, 0);
            }
        }
        let mut first = descriptors.start;
        while first < descriptors.end {
            let mut next = first;
            let mut leaders = 0;
            while next < descriptors.end && leaders < BATCH {
                if self.is_leader(next) {
                    self.condemn(next);
                    leaders += 1;
                }
                next += 1;
            }
            self.doomed.stop();
            for descriptor in first..next {
                if self.is_leader(descriptor) {
                    // Linux before 6.9 refuses the flag. Then only the members found in /proc end.
                    send(descriptor, SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP);
                    send(descriptor, SIGKILL, 0);
                }
            }
            self.doomed.kill();
            first = next;
        }
    }

    /// Stop the leader of a session, and find out what to search for.
    fn condemn(&mut self, descriptor: i32) {
        // Its pid is the session's id, and is known until the process is reaped.
        if let Some(pid) = session::pid_of(descriptor) {
            self.doomed.add(pid, self.kind(descriptor));
        }
        send(descriptor, SIGSTOP, 0);
    }

    fn kind(&self, descriptor: i32) -> u8 {
        self.kinds.get(descriptor as usize).copied().unwrap_or(registration::PROCESS)
    }

    fn is_leader(&self, descriptor: i32) -> bool {
        self.kind(descriptor) & registration::SESSION != 0
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

fn send(descriptor: i32, signal: u64, flags: u64) {
    // SAFETY: the only pointer is null.
    let _ = unsafe { syscall(nr::PIDFD_SEND_SIGNAL, [descriptor as u64, signal, 0, flags, 0, 0]) };
}

/// Raise the soft limit on descriptors to the hard one, since each container takes a descriptor, and return it.
fn descriptor_limit() -> u64 {
    /// The usual limit, where the kernel does not tell.
    const USUAL: u64 = 1024;
    let mut limit = [0_u64; 2];
    let place = &raw mut limit as u64;
    // SAFETY: the kernel writes the two words of a `struct rlimit64`.
    if unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, place, 0, 0]) }.is_err() {
        return USUAL;
    }
    let raised = [limit[1]; 2];
    let place = raised.as_ptr() as u64;
    // SAFETY: the kernel reads the two words.
    match unsafe { syscall(nr::PRLIMIT64, [0, RLIMIT_NOFILE, place, 0, 0, 0]) } {
        Ok(_) => limit[1],
        // The hard limit is above `fs.nr_open`, which was lowered since.
        Err(_) => limit[0],
    }
}
