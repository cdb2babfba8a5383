//! The calls that each role depends on once its caller no longer waits for it.
//!
//! The helper makes these calls at its start, with arguments that have no effect. If the kernel lacks one, or a seccomp
//! filter around the caller refuses one, the launch fails and names that call. Calls whose failure a launch notices
//! anyway are not listed.

use minidocker_init::program::Message;
use minidocker_init::raw::{Errno, Rehearsal, exit, nr};

use crate::{MISUSED, child};

const ESRCH: Errno = 3;
const EBADF: Errno = 9;
const ECHILD: Errno = 10;
const EFAULT: Errno = 14;
const EINVAL: Errno = 22;

const MINUS_1: u64 = u64::MAX;
/// No process has this pid.
const NO_PID: u64 = i32::MAX as u64;
const AT_FDCWD: u64 = -100_i64 as u64;
const WNOHANG: u64 = 1;

/// For a process that walks calls of a plan.
pub(crate) const WALK: &Rehearsal = &[(nr::WRITE, [MINUS_1, 0, 0, 0, 0, 0], EBADF)];

/// For PID 1.
pub(crate) const INIT: &Rehearsal = &[
    (nr::WRITE, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::SENDMSG, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::RT_SIGPROCMASK, [2, 0, 0, 0, 0, 0], EINVAL),
    (nr::RT_SIGACTION, [0, 0, 0, 8, 0, 0], EINVAL),
    (nr::RT_SIGTIMEDWAIT, [0, 0, 0, 0, 0, 0], EINVAL),
    // More descriptors than a process can have.
    (nr::PPOLL, [0, u32::MAX as u64, 0, 0, 8, 0], EINVAL),
    (nr::WAIT4, [NO_PID, 0, WNOHANG, 0, 0, 0], ECHILD),
    (nr::KILL, [NO_PID, 0, 0, 0, 0, 0], ESRCH),
    (nr::PIDFD_OPEN, [0, 0, 0, 0, 0, 0], EINVAL),
    (nr::CLOSE_RANGE, [1, 0, 0, 0, 0, 0], EINVAL),
    (nr::CHDIR, [0, 0, 0, 0, 0, 0], EFAULT),
];

/// For the watchdog.
pub(crate) const WATCHDOG: &Rehearsal = &[
    (nr::SENDMSG, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::RECVMSG, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::EPOLL_PWAIT, [MINUS_1, 0, 1, 0, 0, 8], EBADF),
    (nr::PIDFD_OPEN, [0, 0, 0, 0, 0, 0], EINVAL),
    (nr::PIDFD_SEND_SIGNAL, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::FSTAT, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::CLOSE, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::CLOSE_RANGE, [1, 0, 0, 0, 0, 0], EINVAL),
    // No such resource.
    (nr::PRLIMIT64, [0, NO_PID, 0, 0, 0, 0], EINVAL),
    // The end of a session.
    (nr::KILL, [NO_PID, 0, 0, 0, 0, 0], ESRCH),
    (nr::OPENAT, [AT_FDCWD, 0, 0, 0, 0, 0], EFAULT),
    (nr::READ, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
    (nr::GETDENTS64, [MINUS_1, 0, 0, 0, 0, 0], EBADF),
];

/// Report that a call was refused, and exit.
pub(crate) fn give_up(report: i32, number: usize, errno: Errno) -> ! {
    child::send(report, &Message::refused(number as u32, errno));
    exit(MISUSED)
}
