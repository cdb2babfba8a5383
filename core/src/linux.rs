//! The system calls for building a container by hand.
//!
//! Each changes the calling thread or process as its manual page says. The engine uses none of them, because
//! [`nix`] allocates and sets `errno`, which the child between clone and exec must not do. The module
//! re-exports the functions of [`nix`], and adds those that it lacks or whose result it cannot represent.
//!
//! | Call | Manual page |
//! |---|---|
//! | [`unshare`], [`setns`], [`setns_raw`] | unshare(2), setns(2) |
//! | [`mount`], [`umount2`], [`pivot_root`], [`chroot`], [`chdir`] | mount(2), umount2(2), pivot\_root(2), chroot(2), chdir(2) |
//! | [`sethostname`], [`setdomainname`] | sethostname(2), setdomainname(2) |
//! | [`getpid`], [`getppid`], [`getuid`], [`getgid`], [`setuid`], [`setgid`] | getpid(2), getuid(2), setuid(2), … |
//! | [`fork`], [`execv`], [`waitpid`] | fork(2), exec(3), waitpid(2) |
//!
//! ```no_run
//! use minidocker_core::linux::{CloneFlags, sethostname, unshare};
//!
//! unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWUTS)?;
//! sethostname("mycontainer")?;
//! # Ok::<(), minidocker_core::linux::Errno>(())
//! ```

#![expect(
    unsafe_code,
    reason = "three system calls that nix lacks, or whose result it cannot represent"
)]

use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

pub use nix::Result;
pub use nix::errno::Errno;
pub use nix::mount::{MntFlags, MsFlags, mount, umount2};
pub use nix::sched::{CloneFlags, setns, unshare};
pub use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, chroot, execv, fork, getgid, getpid, getppid, getuid,
    pivot_root, setgid, sethostname, setuid,
};

/// A new time namespace for the children of the calling process (`time_namespaces(7)`). [`nix`] lacks this
/// flag.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Call setns(2) with a descriptor that is only a number, as from another language.
///
/// The kernel checks the number. With an owned descriptor, use [`setns`].
///
/// # Errors
///
/// `EBADF` if the number is not an open descriptor, and the errors of setns(2).
pub fn setns_raw(fd: RawFd, nstype: CloneFlags) -> Result<()> {
    // SAFETY: setns(2) takes two integers and accesses no memory of this process. For a number that is not
    // a descriptor of a namespace it returns an error and closes nothing.
    let result = unsafe { libc::setns(fd, nstype.bits()) };
    Errno::result(result).map(drop)
}

/// Set the NIS domain name of the calling thread's UTS namespace: setdomainname(2).
///
/// # Errors
///
/// `EINVAL` for more than 64 bytes, `EPERM` without `CAP_SYS_ADMIN` in the user namespace that owns
/// the UTS namespace.
pub fn setdomainname<S: AsRef<OsStr>>(name: S) -> Result<()> {
    let bytes = name.as_ref().as_bytes();
    // SAFETY: the pointer and the length belong to one live slice. The call only reads it, keeps neither,
    // and needs no NUL at the end.
    let result = unsafe { libc::setdomainname(bytes.as_ptr().cast(), bytes.len()) };
    Errno::result(result).map(drop)
}

/// Wait for a change of state of a child: waitpid(2).
///
/// This returns the child's pid and the wait status as the kernel wrote it. With `WNOHANG` and no change,
/// both are 0.
///
/// Unlike [`nix::sys::wait::waitpid`], this can report every signal. nix reaps a child that a real-time signal
/// ended, and then fails with `EINVAL`.
///
/// # Errors
///
/// `ECHILD` if there is no such child, `EINTR` if a signal handler ran, `EINVAL` for unknown options.
pub fn waitpid(pid: Pid, options: libc::c_int) -> Result<(Pid, libc::c_int)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call, and the kernel writes it only during the call. The other two
    // arguments are integers, which the kernel checks.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, options) };
    Errno::result(reaped).map(|reaped| (Pid::from_raw(reaped), status))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    /// Run a shell command line and return the wait status of the shell.
    #[expect(clippy::zombie_processes, reason = "the waitpid under test reaps it")]
    fn status_of(script: &str) -> libc::c_int {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().expect("sh starts");
        let pid = Pid::from_raw(child.id() as i32);
        let (reaped, status) = waitpid(pid, 0).expect("a child of this process");
        assert_eq!(reaped, pid);
        status
    }

    #[test]
    fn waitpid_returns_exit_status_and_signal() {
        assert_eq!(libc::WEXITSTATUS(status_of("exit 7")), 7);
        assert_eq!(libc::WTERMSIG(status_of("kill -9 $$")), libc::SIGKILL);
    }

    #[test]
    fn waitpid_reports_a_real_time_signal() {
        assert_eq!(libc::WTERMSIG(status_of("kill -40 $$")), 40);
    }

    #[test]
    fn waitpid_for_a_process_that_is_not_a_child_is_echild() {
        assert_eq!(waitpid(getpid(), 0), Err(Errno::ECHILD));
    }

    #[test]
    fn setns_refuses_a_descriptor_that_is_not_a_namespace() {
        assert_eq!(setns_raw(-1, CloneFlags::empty()), Err(Errno::EBADF));
        let file = File::open("/dev/null").expect("a device that always exists");
        assert_eq!(setns(&file, CloneFlags::empty()), Err(Errno::EINVAL));
    }

    #[test]
    fn a_domain_name_of_65_bytes_is_refused() {
        let refused = setdomainname("d".repeat(65));
        assert!(matches!(refused, Err(Errno::EINVAL | Errno::EPERM)), "{refused:?}");
    }

    #[test]
    fn the_time_flag_is_the_kernels() {
        assert_eq!(CLONE_NEWTIME.bits(), 0x80);
    }
}
