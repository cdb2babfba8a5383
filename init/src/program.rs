//! The flat form of a plan: a header, a table of system calls, and their data.
//!
//! The buffer has two readers. The child between clone and exec walks it where the parent wrote it; the
//! static helper (init, joiner) maps the same bytes from a memfd. Therefore the buffer is position
//! independent: it stores every pointer as an offset, and [`relocate`] adds the base once.
//!
//! The helper has no `std`, so this module uses only `core`.

#![expect(unsafe_code, reason = "relocation follows pointers into the buffer")]

use core::sync::atomic::{AtomicI32, AtomicU32};

/// Marks a buffer as a program in this version of the format.
///
/// The library that writes the programs embeds the helper, so a mismatch is a bug and never a version skew.
pub const MAGIC: u32 = 0x6d64_6b07;

/// Values of [`Header::role`]: what the process that maps a program does.
pub mod role {
    /// PID 1 that starts the calls in a child, reaps orphans and forwards signals.
    pub const INIT: u32 = 1;
    /// PID 1 that only holds the namespaces and reaps orphans.
    pub const IDLE: u32 = 2;
    /// Walks the calls itself, in its own memory, to enter other namespaces (the calls then include
    /// [`super::pseudo::FORK`]) or to become another user.
    pub const WALK: u32 = 3;
    /// Waits for the death of the caller and kills the registered processes.
    pub const WATCHDOG: u32 = 4;
    /// No helper: the forked copy of the caller walks the calls and becomes the command.
    pub const FORKED: u32 = 5;
}

/// Numbers of calls that stand for more than one system call, above every real system call number.
pub mod pseudo {
    /// Resets every signal that has a handler, and those in the set `args[0]` even if ignored, to the
    /// default action.
    pub const RESET_SIGNALS: u32 = 0x8000_0000;
    /// Waits until the parent has written the id maps. `args[0]`: address of the futex word.
    pub const AWAIT_PARENT: u32 = 0x8000_0001;
    /// Forks with the clone flags in `args[0]`. The first process reports the child's pid and
    /// exits; the child continues with the next call.
    pub const FORK: u32 = 0x8000_0002;
    /// Forks the caller, whose memory this process shares, through the caller's own C library:
    /// [`super::Header::fork`]. `args[0]`: address of the header. The result is the pid of the copy.
    pub const FORK_CALLER: u32 = 0x8000_0003;
    /// `prctl(PR_CAPBSET_DROP)` for each capability in the set `args[1]`.
    pub const DROP_BOUNDING: u32 = 0x8000_0004;
}

/// What happens when a call fails.
pub mod on_error {
    /// The walk ends and reports the failure.
    pub const FAIL: u8 = 0;
    /// The walk continues.
    pub const IGNORE: u8 = 1;
    /// One of several files to execute: the walk continues. If none can be executed, the walk reports the
    /// first error other than "no such file", as execvp(3) does.
    pub const EXEC: u8 = 2;
    /// The walk continues if the path does not exist, is of another type, or is out of reach even for root
    /// inside (ENOENT, ENOTDIR, EACCES), or if such a call did not open this call's descriptor (EBADF).
    /// Other errors, and EACCES for a mount whose paths are in reach, are treated as by [`FAIL`].
    pub const ABSENT: u8 = 3;
    /// If the file has been removed since the plan was made (ENOENT), the walk skips the calls that use it:
    /// the next [`EncodedCall::skip`](super::EncodedCall::skip). Other errors are treated as by [`FAIL`].
    pub const GONE: u8 = 4;
}

/// Values of [`Header::go`].
pub mod go {
    /// The parent is still writing the id maps.
    pub const WAIT: u32 = 0;
    /// The id maps are written.
    pub const ON: u32 = 1;
    /// The parent failed; the child must exit.
    pub const ABORT: u32 = 2;
    /// The parent waits and may be forked.
    pub const FORK: u32 = 3;
}

/// Values of [`Header::tid`], which the kernel sets to 0 when the child executes a program or ends.
pub mod tid {
    /// The child is walking the program.
    pub const HERE: u32 = 1;
    /// The child waits for [`super::go::FORK`].
    pub const AWAITS_FORK: u32 = 2;
}

/// The value of [`Header::failed_at`] while no call has failed.
pub const NOTHING_FAILED: u32 = u32::MAX;

/// The start of a program.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// See [`role`].
    pub role: u32,
    /// The number of [`EncodedCall`]s, which follow the header.
    pub calls: u32,
    /// The number of pointers to relocate. Their offsets follow the calls.
    pub relocations: u32,
    /// The length of the whole buffer in bytes.
    pub length: u32,
    /// The index of the call that a test makes fail; `u32::MAX` for none.
    pub inject_at: u32,
    /// The error number of that failure.
    pub inject_errno: i32,
    /// The descriptor for the line of each completed call; -1 for none.
    pub trace: i32,
    /// The descriptor for failures; -1 to write them into this header, where the parent reads them.
    pub report: i32,
    /// The descriptor on which init reports how the command ended, or the watchdog's socket; -1 for none.
    pub control: i32,
    /// A futex: see [`go`].
    pub go: AtomicU32,
    /// A futex that the kernel clears and wakes when the child executes a program or ends
    /// (`CLONE_CHILD_CLEARTID`): see [`tid`].
    pub tid: AtomicU32,
    /// Written by the child: the index of the call that failed.
    pub failed_at: AtomicU32,
    /// Written by the child: the error number of that call.
    pub failed_errno: AtomicI32,
    /// The caller's signal mask, in the form of `rt_sigprocmask(2)`.
    pub mask: u64,
    /// The stage of the plan that this program carries out.
    pub stage: u32,
    /// The pid of a command that runs already when init takes over; 0 if the calls start it.
    pub adopted: u32,
    /// A pidfd of the caller, with which init ends; -1 if it outlives the caller.
    pub caller: i32,
    /// The pid of the child that walks the program in its parent's memory; the parent writes it.
    pub child: AtomicU32,
    /// The function that [`pseudo::FORK_CALLER`] calls. It returns a pid or a negative error number.
    pub fork: Option<unsafe extern "C" fn(u64) -> i64>,
    /// The argument of `fork`.
    pub fork_context: u64,
}

/// One system call.
#[repr(C)]
pub struct EncodedCall {
    /// The system call's number, or one of [`pseudo`].
    pub nr: u32,
    /// See [`on_error`].
    pub on_error: u8,
    /// The number of following calls to skip if this one succeeds; with [`on_error::GONE`], if it fails
    /// with ENOENT.
    pub skip: u8,
    /// Bit n: argument n is the address of a cell (`i32`) that contains the value.
    pub cells: u8,
    /// 1 if the result is a descriptor. The walk then moves it above the three standard streams, which the caller may
    /// have closed.
    pub opens: u8,
    /// The system call's arguments.
    pub args: [u64; 6],
    /// The address of the cell (`i32`) for the result; 0 for none.
    pub result: u64,
    /// The address of the line that describes the call in a trace.
    pub line: u64,
    /// The length of the line in bytes.
    pub line_length: u64,
}

/// The byte that the watchdog receives together with a container's pidfd.
///
/// A container sends a pidfd of itself. Before that, the caller may send those of its living containers to a watchdog
/// that replaces another one.
pub mod registration {
    /// The watchdog ends this process only.
    pub const PROCESS: u8 = 0;
    /// The process leads, or will lead, a session that must end with it. One bit of [`NAMESPACES`] is added for each
    /// namespace that only this container has: every process in it must end, too.
    pub const SESSION: u8 = 0x80;
    /// There is no pidfd: from now on, the watchdog accepts only processes that register themselves.
    pub const SEAL: u8 = 0x40;
    /// The namespaces, in the order of their bits: names in /proc/PID/ns. Not those of users and networks, because
    /// another container may join them.
    pub const NAMESPACES: [&str; 4] = ["mnt", "ipc", "uts", "cgroup"];
}

/// A message that a helper sends on the report pipe or the control socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    /// See [`message`].
    pub kind: u32,
    /// `PID`: the pid. `FAILED`: the index of the call. `ENDED`: the wait status. `REFUSED`: the system call's number.
    pub value: u32,
    /// `FAILED` and `REFUSED`: the error number.
    pub errno: i32,
    /// `FAILED`: the plan's stage that the call belongs to.
    pub stage: u32,
    /// `ENDED`: user and system microseconds, peak resident bytes.
    pub usage: [u64; 3],
}

impl Message {
    /// Return a message of a kind with one value.
    #[must_use]
    pub const fn new(kind: u32, value: u32) -> Self {
        Self { kind, value, errno: 0, stage: 0, usage: [0; 3] }
    }

    /// Return the message for a failed call.
    #[must_use]
    pub const fn failed(stage: u32, index: u32, errno: i32) -> Self {
        Self { kind: message::FAILED, value: index, errno, stage, usage: [0; 3] }
    }

    /// Return the message for a system call that the helper depends on and cannot make.
    #[must_use]
    pub const fn refused(number: u32, errno: i32) -> Self {
        Self { kind: message::REFUSED, value: number, errno, stage: 0, usage: [0; 3] }
    }

    /// Decode a message from the bytes that a helper sent.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        let half = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let word = |at: usize| {
            let (low, high) = (u64::from(half(at)), u64::from(half(at + 4)));
            if cfg!(target_endian = "little") { low | high << 32 } else { high | low << 32 }
        };
        Self {
            kind: half(0),
            value: half(4),
            errno: half(8) as i32,
            stage: half(12),
            usage: [word(16), word(24), word(32)],
        }
    }
}

/// Values of [`Message::kind`].
pub mod message {
    /// The command has this pid.
    pub const PID: u32 = 0x6d64_0001;
    /// A call failed.
    pub const FAILED: u32 = 0x6d64_0002;
    /// The command has ended.
    pub const ENDED: u32 = 0x6d64_0003;
    /// Init reports nothing more: its command has been executed, or there is none.
    pub const STARTED: u32 = 0x6d64_0004;
    /// The helper cannot work here: a system call is refused.
    pub const REFUSED: u32 = 0x6d64_0005;
}

/// Turn the offsets in a program into addresses.
///
/// # Safety
///
/// `base` must point to a whole program that is aligned to eight bytes, writable, not in use elsewhere
/// meanwhile, and not relocated before.
#[expect(clippy::cast_ptr_alignment, reason = "every access is unaligned")]
pub unsafe fn relocate(base: *mut Header) {
    let bytes = base.cast::<u8>();
    // SAFETY: `base` points to a program, whose header is initialised.
    let header = unsafe { &*base };
    let table = size_of::<Header>() + header.calls as usize * size_of::<EncodedCall>();
    for index in 0..header.relocations as usize {
        // SAFETY: the relocation table follows the calls, inside the buffer.
        let entry = unsafe { bytes.add(table + index * size_of::<u32>()) };
        // SAFETY: entries are aligned u32s (the lengths of both parts before them are multiples of 8).
        let offset = unsafe { entry.cast::<u32>().read_unaligned() };
        // SAFETY: each entry is the offset of a u64 inside the buffer, by the encoder.
        let place = unsafe { bytes.add(offset as usize) }.cast::<u64>();
        // SAFETY: as above; data need not be aligned, hence the unaligned access.
        let value = unsafe { place.read_unaligned() };
        // SAFETY: as above.
        unsafe { place.write_unaligned(value + bytes as u64) };
    }
}
