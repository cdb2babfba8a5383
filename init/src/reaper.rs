//! PID 1: starts the command, reaps orphans, forwards signals, reports how the command ended, and ends with the caller.

use core::mem::MaybeUninit;

use minidocker_init::child::{self, KernelSigaction};
use minidocker_init::program::{Header, Message, message, role};
use minidocker_init::raw::{Errno, exit, nr, syscall};

use crate::rehearsal::give_up;
use crate::{MISUSED, close_all_but};

const SIGCHLD: usize = 17;
const SIGTERM: usize = 15;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const SIGKILL: u64 = 9;
const SFD_CLOEXEC_NONBLOCK: u64 = 0o2_004_000;
const POLLIN: i16 = 1;
const EINTR: Errno = 4;
const EAGAIN: Errno = 11;
const WNOHANG: u64 = 1;
const WALL: u64 = 0x4000_0000;
const MSG_NOSIGNAL: u64 = 0x4000;
pub(crate) static EVERY_SIGNAL: u64 = u64::MAX;

/// Run as PID 1 until the command has ended, or the process behind the pidfd `caller`, which may be -1.
///
/// # Safety
///
/// `program` is relocated and private to this process.
pub(crate) unsafe fn run(program: *mut Header, caller: i32) -> ! {
    // The kernel discards a signal that PID 1 does not handle, but keeps a blocked one pending. The loop
    // below takes the pending ones.
    // SAFETY: reads eight bytes of the mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, [2, &raw const EVERY_SIGNAL as u64, 0, 8, 0, 0]) };
    // While SIGCHLD is ignored, the kernel reaps the command and its status is lost.
    let before = set_sigchld(&KernelSigaction::default_action());
    // SAFETY: the header is valid.
    let (role, control, report, adopted) = unsafe {
        let header = &*program;
        (header.role, header.control, header.report, header.adopted)
    };
    let signals = signal_descriptor(if report >= 0 { report } else { control });
    // Ignore that the caller has gone: the loop below notices it.
    let command = if adopted != 0 {
        let pid = adopted as i32;
        let _ = send_pid(control, pid, descriptor_of(pid));
        Some(pid)
    } else if role == role::INIT {
        // SAFETY: the caller's promise.
        let (pid, pidfd) = unsafe { start(program, &before) };
        release_all_but([control, report, pidfd, signals, caller]);
        let _ = send_pid(control, pid, pidfd);
        Some(pid)
    } else {
        None
    };
    if report != control {
        // Closing `report` is not enough: a process that the caller forked meanwhile may hold a copy.
        child::send(report, &Message::new(message::STARTED, 0));
    }
    release_all_but([control, signals, caller]);
    // Setting the action of SIGCHLD discards a pending SIGCHLD, even a blocked one. An adopted command may
    // have ended before that.
    reap(command, control);
    loop {
        await_event(signals, caller, command);
        let Some(signal) = next_signal() else { continue };
        match (signal, command) {
            (SIGCHLD, _) => reap(command, control),
            // Ignore an error: if the command has ended, the next SIGCHLD reports it.
            (_, Some(pid)) => {
                // SAFETY: takes no pointer.
                let _ = unsafe { syscall(nr::KILL, [pid as u64, signal as u64, 0, 0, 0, 0]) };
            }
            (SIGTERM, None) => exit(0),
            _ => {}
        }
    }
}

/// Set the action of SIGCHLD and return the previous one.
fn set_sigchld(action: &KernelSigaction) -> KernelSigaction {
    let mut before = KernelSigaction::default_action();
    let args =
        [SIGCHLD as u64, core::ptr::from_ref(action) as u64, &raw mut before as u64, 8, 0, 0];
    // SAFETY: the kernel reads one structure and writes the other.
    let _ = unsafe { syscall(nr::RT_SIGACTION, args) };
    before
}

/// Return a descriptor that is readable while a signal is pending.
fn signal_descriptor(report: i32) -> i32 {
    let args = [u64::MAX, &raw const EVERY_SIGNAL as u64, 8, SFD_CLOEXEC_NONBLOCK, 0, 0];
    // SAFETY: the kernel reads eight bytes of the mask.
    match unsafe { syscall(nr::SIGNALFD4, args) } {
        Ok(descriptor) => descriptor as i32,
        Err(errno) => give_up(report, nr::SIGNALFD4, errno),
    }
}

/// Wait until a signal is pending. If the caller has ended, end the container.
fn await_event(signals: i32, caller: i32, command: Option<i32>) {
    let mut polled = [Poll::of(signals), Poll::of(caller)];
    loop {
        // SAFETY: the kernel reads and writes two structures; without a timeout and a mask, both pointers are null.
        match unsafe { syscall(nr::PPOLL, [polled.as_mut_ptr() as u64, 2, 0, 0, 8, 0]) } {
            Ok(_) if polled[1].events_found == 0 => return,
            Ok(_) => end(command),
            Err(EINTR | EAGAIN) => {}
            Err(_) => exit(MISUSED),
        }
    }
}

/// End the container. Where this process is not PID 1 of a namespace, its process group ends, and the watchdog ends
/// the rest.
fn end(command: Option<i32>) -> ! {
    if let Some(pid) = command {
        // SAFETY: takes no pointer.
        let _ = unsafe { syscall(nr::KILL, [pid as u64, SIGKILL, 0, 0, 0, 0]) };
    }
    // SAFETY: takes no pointer.
    if let Ok(own) = unsafe { syscall(nr::GETPID, [0; 6]) } {
        // A group has this number only if this process leads it. For PID 1, this is every other process.
        // SAFETY: takes no pointer.
        let _ = unsafe { syscall(nr::KILL, [-(own as i64) as u64, SIGKILL, 0, 0, 0, 0]) };
    }
    exit(128 + SIGKILL as i32)
}

/// The kernel's `struct pollfd`. The kernel ignores a negative descriptor.
#[repr(C)]
struct Poll {
    descriptor: i32,
    events: i16,
    events_found: i16,
}

impl Poll {
    const fn of(descriptor: i32) -> Self {
        Self { descriptor, events: POLLIN, events_found: 0 }
    }
}

/// Leave the caller's directory and close every descriptor except those in `keep`.
fn release_all_but<const N: usize>(keep: [i32; N]) {
    close_all_but(keep);
    // SAFETY: the path is a string.
    let _ = unsafe { syscall(nr::CHDIR, [c"/".as_ptr() as u64, 0, 0, 0, 0, 0]) };
}

/// Start a child that walks the program's calls, and return its pid and a pidfd.
///
/// This returns only when the child has executed the command or ended, so the caller reads the child's
/// report of a failure before the pid.
///
/// # Safety
///
/// As for [`run`].
unsafe fn start(program: *mut Header, sigchld: &KernelSigaction) -> (i32, i32) {
    const FLAGS: u64 = CLONE_PIDFD | CLONE_VFORK | SIGCHLD as u64;
    let mut pidfd: i32 = -1;
    // SAFETY: without CLONE_VM the child has a copy of this memory, this stack included. The kernel
    // writes the descriptor's number to `pidfd`.
    let pid = unsafe { syscall(nr::CLONE, [FLAGS, 0, &raw mut pidfd as u64, 0, 0, 0]) };
    match pid {
        Ok(0) => {
            // The command inherits the caller's action.
            let _ = set_sigchld(sigchld);
            // SAFETY: the caller's promise; this child has a copy of the program.
            unsafe { child::run(program) }
        }
        Ok(pid) => (pid as i32, pidfd),
        Err(errno) => {
            // SAFETY: the header is valid.
            give_up(unsafe { (*program).report }, nr::CLONE, errno)
        }
    }
}

/// Return a pidfd of this process's child `pid`.
fn descriptor_of(pid: i32) -> i32 {
    // SAFETY: takes no pointer.
    match unsafe { syscall(nr::PIDFD_OPEN, [pid as u64, 0, 0, 0, 0, 0]) } {
        Ok(descriptor) => descriptor as i32,
        // The child cannot have been reaped, since only this process reaps it.
        Err(_) => exit(MISUSED),
    }
}

/// The kernel's `struct msghdr` with one buffer and one descriptor.
#[repr(C)]
pub(crate) struct MessageWithDescriptor {
    name: u64,
    name_length: u64,
    parts: u64,
    parts_count: u64,
    control: u64,
    control_length: u64,
    flags: u64,
}

/// The kernel's `struct cmsghdr`, followed by a descriptor.
#[repr(C)]
pub(crate) struct DescriptorRights {
    length: u64,
    level: i32,
    kind: i32,
    /// The descriptor to send, or the received one; -1 for none.
    pub(crate) descriptor: i32,
    padding: i32,
}

impl DescriptorRights {
    pub(crate) const fn of(descriptor: i32) -> Self {
        const SOL_SOCKET: i32 = 1;
        const SCM_RIGHTS: i32 = 1;
        // The header and the descriptor.
        const LENGTH: u64 = 16 + 4;
        Self { length: LENGTH, level: SOL_SOCKET, kind: SCM_RIGHTS, descriptor, padding: 0 }
    }
}

impl MessageWithDescriptor {
    /// Return a message with the buffer `part` (a `struct iovec`) and one descriptor.
    pub(crate) fn new(part: &[u64; 2], rights: &mut DescriptorRights) -> Self {
        let length = size_of::<DescriptorRights>() as u64;
        Self::with_control(part, core::ptr::from_mut(rights) as u64, length)
    }

    /// Return a message with the buffer `part` and `control_length` bytes of control data at `control`.
    pub(crate) fn with_control(part: &[u64; 2], control: u64, control_length: u64) -> Self {
        Self {
            name: 0,
            name_length: 0,
            parts: part.as_ptr() as u64,
            parts_count: 1,
            control,
            control_length,
            flags: 0,
        }
    }
}

/// Send the caller the pid of a process, and a pidfd for signals.
pub(crate) fn send_pid(control: i32, pid: i32, pidfd: i32) -> Result<(), Errno> {
    let message = Message::new(message::PID, pid as u32);
    let part = [&raw const message as u64, size_of::<Message>() as u64];
    let mut rights = DescriptorRights::of(pidfd);
    let header = MessageWithDescriptor::new(&part, &mut rights);
    // SAFETY: the header and what it points to live on this stack.
    let args = [control as u64, &raw const header as u64, MSG_NOSIGNAL, 0, 0, 0];
    loop {
        // SAFETY: the header and what it points to live on this stack.
        match unsafe { syscall(nr::SENDMSG, args) } {
            Err(EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Take a pending signal and return its number; `None` if there is none.
fn next_signal() -> Option<usize> {
    let no_time = [0_u64; 2];
    let set = &raw const EVERY_SIGNAL as u64;
    // SAFETY: the kernel reads eight bytes of the set and the time; the pointer to siginfo is null.
    match unsafe { syscall(nr::RT_SIGTIMEDWAIT, [set, 0, no_time.as_ptr() as u64, 8, 0, 0]) } {
        Ok(signal) => Some(signal),
        Err(EINTR | EAGAIN) => None,
        Err(_) => exit(MISUSED),
    }
}

/// The kernel's `struct rusage`; only the first three members are used.
#[repr(C)]
struct Usage {
    user: [u64; 2],
    system: [u64; 2],
    peak: u64,
    rest: [u64; 13],
}

/// Reap every child that has ended; if the command is one of them, report its status and exit.
fn reap(command: Option<i32>, control: i32) {
    loop {
        let mut status: i32 = 0;
        let mut usage = MaybeUninit::<Usage>::uninit();
        // SAFETY: the kernel writes status and usage, which live on this stack.
        let reaped = unsafe {
            syscall(
                nr::WAIT4,
                [u64::MAX, &raw mut status as u64, WNOHANG | WALL, usage.as_mut_ptr() as u64, 0, 0],
            )
        };
        let Ok(pid) = reaped else { return };
        if pid == 0 {
            return;
        }
        if Some(pid as i32) == command {
            // SAFETY: the call succeeded, so the kernel has written the whole structure.
            let usage = unsafe { usage.assume_init_ref() };
            let microseconds =
                |time: [u64; 2]| time[0].wrapping_mul(1_000_000).wrapping_add(time[1]);
            let mut message = Message::new(message::ENDED, status as u32);
            message.usage = [
                microseconds(usage.user),
                microseconds(usage.system),
                usage.peak.wrapping_mul(1024),
            ];
            child::send(control, &message);
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal });
        }
    }
}
