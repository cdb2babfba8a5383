//! The system calls that containers are made of, one by one, for whoever builds a container by hand.
//!
//! They change the calling thread or process, exactly as their manual pages say, and nothing in the
//! engine uses them: [`nix`] allocates and sets `errno`, which the child between clone and exec must
//! not do. What [`nix`] has is passed on as it is; what it lacks, or cannot tell truthfully, is here.
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
    reason = "three system calls that nix lacks, or whose result it cannot tell"
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

/// A new time namespace, for the children of the calling process (`time_namespaces(7)`); [`nix`]
/// does not name it.
pub const CLONE_NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// setns(2) on a descriptor that is only a number, as a foreign language has it.
///
/// The kernel checks the number; where a descriptor is owned, [`setns`] says more.
///
/// # Errors
///
/// `EBADF` for a number that is no open descriptor, and whatever setns(2) lists.
pub fn setns_raw(fd: RawFd, nstype: CloneFlags) -> Result<()> {
    // SAFETY: setns(2) takes two integers and reads and writes no memory of ours. A number that is
    // no descriptor, or one of something else, is answered with an error and closes nothing.
    let result = unsafe { libc::setns(fd, nstype.bits()) };
    Errno::result(result).map(drop)
}

/// setdomainname(2): the NIS domain name of the calling thread's UTS namespace.
///
/// # Errors
///
/// `EINVAL` for more than 64 bytes, `EPERM` without `CAP_SYS_ADMIN` in the user namespace that owns
/// the UTS namespace.
pub fn setdomainname<S: AsRef<OsStr>>(name: S) -> Result<()> {
    let bytes = name.as_ref().as_bytes();
    // SAFETY: the pointer and the length are those of one live slice, which the call only reads;
    // it keeps neither, and needs no NUL at the end.
    let result = unsafe { libc::setdomainname(bytes.as_ptr().cast(), bytes.len()) };
    Errno::result(result).map(drop)
}

/// waitpid(2): waits for a change of state of a child, and gives its pid and its wait status as the
/// kernel wrote it. With `WNOHANG` and no change both are 0.
///
/// Unlike [`nix::sys::wait::waitpid`] this can tell of every signal: there, a child that a real-time
/// signal ended is reaped and then reported as `EINVAL`.
///
/// # Errors
///
/// `ECHILD` where there is no such child, `EINTR` when a signal handler ran, `EINVAL` for unknown
/// options.
pub fn waitpid(pid: Pid, options: libc::c_int) -> Result<(Pid, libc::c_int)> {
    let mut status = 0;
    // SAFETY: `status` lives through the call and is written only during it; the other two
    // arguments are integers, which the kernel checks.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, options) };
    Errno::result(reaped).map(|reaped| (Pid::from_raw(reaped), status))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    /// Runs a shell command line and gives the wait status of the shell.
    #[expect(clippy::zombie_processes, reason = "the waitpid under test reaps it")]
    fn status_of(script: &str) -> libc::c_int {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().expect("sh starts");
        let pid = Pid::from_raw(child.id() as i32);
        let (reaped, status) = waitpid(pid, 0).expect("our own child");
        assert_eq!(reaped, pid);
        status
    }

    #[test]
    fn waitpid_tells_exit_status_and_signal() {
        assert_eq!(libc::WEXITSTATUS(status_of("exit 7")), 7);
        assert_eq!(libc::WTERMSIG(status_of("kill -9 $$")), libc::SIGKILL);
    }

    #[test]
    fn waitpid_tells_of_a_real_time_signal() {
        assert_eq!(libc::WTERMSIG(status_of("kill -40 $$")), 40);
    }

    #[test]
    fn waitpid_without_such_a_child_is_echild() {
        assert_eq!(waitpid(getpid(), 0), Err(Errno::ECHILD));
    }

    #[test]
    fn setns_refuses_what_is_no_namespace() {
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
