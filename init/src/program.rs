//! The flat form of a plan: a header, a table of system calls, and the data that they point to.
//!
//! One buffer serves two readers. The child between clone and exec walks it where the parent
//! wrote it; the static helper (init, joiner) maps the same bytes from a memfd. It is therefore
//! position independent: every pointer is stored as an offset, and [`relocate`] adds the base once.
//!
//! The helper has no `std`, so this uses `core` alone.

#![expect(unsafe_code, reason = "pointers into the buffer are followed")]

use core::sync::atomic::{AtomicI32, AtomicU32};

/// Says that a buffer is a program, and in which version of this format: the helper is embedded
/// in the library that writes the programs, so a mismatch is a bug, never a version skew.
pub const MAGIC: u32 = 0x6d64_6b06;

/// What the process that maps a program does with it.
pub mod role {
    /// PID 1 that starts the calls in a child, reaps orphans and forwards signals.
    pub const INIT: u32 = 1;
    /// PID 1 that only holds the namespaces and reaps orphans.
    pub const IDLE: u32 = 2;
    /// Walks the calls itself, in memory of its own: to enter other namespaces ([`super::pseudo::FORK`] is
    /// among the calls then), or to become another user.
    pub const WALK: u32 = 3;
    /// Waits for the death of the caller and kills what was registered.
    pub const WATCHDOG: u32 = 4;
    /// No helper: the copy of the caller walks the calls, and goes on as the command.
    pub const FORKED: u32 = 5;
}

/// Numbers of calls that are more than one system call; above every real system call number.
pub mod pseudo {
    /// `args[0]`: set of signals that become default even if ignored. Every signal that has a
    /// handler becomes default; others stay as they are.
    pub const RESET_SIGNALS: u32 = 0x8000_0000;
    /// Waits until the parent has written the id maps. `args[0]`: address of the futex word.
    pub const AWAIT_PARENT: u32 = 0x8000_0001;
    /// Forks with the clone flags in `args[0]`. The first process reports the child's pid and
    /// exits; the child goes on with the next call.
    pub const FORK: u32 = 0x8000_0002;
    /// Forks the caller, whose memory this process shares, through the caller's own C library:
    /// [`super::Header::fork`]. `args[0]`: address of the header. The result is the pid of the copy.
    pub const FORK_CALLER: u32 = 0x8000_0003;
    /// `prctl(PR_CAPBSET_DROP)` for each capability in the set `args[1]`.
    pub const DROP_BOUNDING: u32 = 0x8000_0004;
}

/// What happens when a call fails.
pub mod on_error {
    /// The walk ends, and the failure is reported.
    pub const FAIL: u8 = 0;
    /// The walk goes on.
    pub const IGNORE: u8 = 1;
    /// One of several files to execute: the walk goes on, and where none of them works the first
    /// error that is not "no such file" is the one reported, as execvp(3) does.
    pub const EXEC: u8 = 2;
    /// The walk goes on where the path does not exist, is of another kind, or is out of reach even for
    /// root inside (ENOENT, ENOTDIR, EACCES, and EBADF for what follows such a call); otherwise as
    /// [`FAIL`].
    pub const ABSENT: u8 = 3;
    /// Where what was there when the plan was made has gone since (ENOENT), the calls that would have
    /// used it are left out: [`EncodedCall::skip`](super::EncodedCall::skip) of them. Otherwise as [`FAIL`].
    pub const GONE: u8 = 4;
}

/// Values of [`Header::go`].
pub mod go {
    /// The parent is still at work.
    pub const WAIT: u32 = 0;
    /// The id maps are written.
    pub const ON: u32 = 1;
    /// The parent failed; the child has to end.
    pub const ABORT: u32 = 2;
    /// The parent stands still, and may be forked.
    pub const FORK: u32 = 3;
}

/// Values of [`Header::tid`], which the kernel sets to 0 when the child has executed or ended.
pub mod tid {
    /// The child is at work.
    pub const HERE: u32 = 1;
    /// The child waits for [`super::go::FORK`].
    pub const AWAITS_FORK: u32 = 2;
}

/// [`Header::failed_at`] as long as nothing failed.
pub const NOTHING_FAILED: u32 = u32::MAX;

/// The start of a program.
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// See [`role`].
    pub role: u32,
    /// How many [`EncodedCall`]s follow the header.
    pub calls: u32,
    /// How many offsets of pointers follow the calls.
    pub relocations: u32,
    /// Length of the whole buffer in bytes.
    pub length: u32,
    /// Index of the call that is made to fail, for tests; `u32::MAX` for none.
    pub inject_at: u32,
    /// The error number that it fails with.
    pub inject_errno: i32,
    /// Where the line of each call goes once it is done; -1 for nowhere.
    pub trace: i32,
    /// Where failures go; -1: into this header, which the parent can see.
    pub report: i32,
    /// Where init says how the command ended; -1 for nowhere.
    pub control: i32,
    /// A futex: see [`go`].
    pub go: AtomicU32,
    /// Cleared and woken by the kernel when the child executes or ends (`CLONE_CHILD_CLEARTID`):
    /// see [`tid`].
    pub tid: AtomicU32,
    /// Written by the child: the index of the call that failed.
    pub failed_at: AtomicU32,
    /// Written by the child: its error number.
    pub failed_errno: AtomicI32,
    /// The caller's signal mask, as `rt_sigprocmask` takes it.
    pub mask: u64,
    /// The plan's stage that this is.
    pub stage: u32,
    /// The pid of the command, where it runs already when init takes over; 0: the calls start it.
    pub adopted: u32,
    /// What [`pseudo::FORK_CALLER`] calls, with `fork_context`: a pid, or a negative error number.
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
    /// How many of the following calls are left out when this one succeeds; with
    /// [`on_error::GONE`], when what it names has gone.
    pub skip: u8,
    /// Bit n: argument n is the address of a cell (`i32`) that holds the value.
    pub cells: u8,
    /// Zero.
    pub padding: u8,
    /// The system call's arguments.
    pub args: [u64; 6],
    /// Address of the cell (`i32`) that the result goes to; 0 for none.
    pub result: u64,
    /// The line that tells a reader about this call.
    pub line: u64,
    /// Its length in bytes.
    pub line_length: u64,
}

/// What a container sends to the watchdog with a descriptor of itself: one byte.
pub mod registration {
    /// It ends by itself.
    pub const PROCESS: u8 = 0;
    /// It leads a session, or will, that has to end with it.
    pub const SESSION: u8 = 1;
}

/// What a helper sends on the report pipe or the control socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Message {
    /// See [`message`].
    pub kind: u32,
    /// `PID`: the pid. `FAILED`: the index of the call. `ENDED`: the wait status.
    pub value: u32,
    /// `FAILED`: the error number.
    pub errno: i32,
    /// `FAILED`: the plan's stage that the call belongs to.
    pub stage: u32,
    /// `ENDED`: user and system microseconds, peak resident bytes.
    pub usage: [u64; 3],
}

impl Message {
    /// Return a message of a kind that carries one value.
    #[must_use]
    pub const fn new(kind: u32, value: u32) -> Self {
        Self { kind, value, errno: 0, stage: 0, usage: [0; 3] }
    }

    /// Return the message that a call failed.
    #[must_use]
    pub const fn failed(stage: u32, index: u32, errno: i32) -> Self {
        Self { kind: message::FAILED, value: index, errno, stage, usage: [0; 3] }
    }

    /// Return the message that a helper sent as these bytes.
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
    /// Init has nothing more to report: its command has been executed, or there is none.
    pub const STARTED: u32 = 0x6d64_0004;
}

/// Turns the offsets in a program into addresses.
///
/// # Safety
///
/// `base` must point to a whole program, aligned to eight bytes, writable, that nobody else uses
/// meanwhile, and that was not relocated before.
#[expect(clippy::cast_ptr_alignment, reason = "every access is an unaligned one")]
pub unsafe fn relocate(base: *mut Header) {
    let bytes = base.cast::<u8>();
    // SAFETY: `base` points to a program, whose header is initialised.
    let header = unsafe { &*base };
    let table = size_of::<Header>() + header.calls as usize * size_of::<EncodedCall>();
    for index in 0..header.relocations as usize {
        // SAFETY: the relocation table follows the calls, inside the buffer.
        let entry = unsafe { bytes.add(table + index * size_of::<u32>()) };
        // SAFETY: entries are u32s at an aligned place (both parts before them are multiples of 8).
        let offset = unsafe { entry.cast::<u32>().read_unaligned() };
        // SAFETY: each entry is the offset of a u64 inside the buffer, by the encoder.
        let place = unsafe { bytes.add(offset as usize) }.cast::<u64>();
        // SAFETY: as above; data need not be aligned, hence the unaligned access.
        let value = unsafe { place.read_unaligned() };
        // SAFETY: as above.
        unsafe { place.write_unaligned(value + bytes as u64) };
    }
}
