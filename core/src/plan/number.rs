//! The system calls that plans are made of: numbers and names.

use minidocker_init::program::pseudo;

/// A system call's number and its name in section 2 of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
}

macro_rules! numbers {
    ($($name:ident = $libc:ident),+ $(,)?) => {
        $(pub(crate) const $name: Number = Number {
            number: libc::$libc as u32,
            // "SYS_mount" without its prefix.
            name: stringify!($libc).split_at(4).1,
        };)+
    };
}

numbers! {
    CAPSET = SYS_capset,
    CHDIR = SYS_chdir,
    CLOSE = SYS_close,
    CLOSE_RANGE = SYS_close_range,
    DUP3 = SYS_dup3,
    EPOLL_CREATE1 = SYS_epoll_create1,
    EXECVE = SYS_execve,
    EXECVEAT = SYS_execveat,
    FCHDIR = SYS_fchdir,
    FCHMOD = SYS_fchmod,
    FCHMODAT = SYS_fchmodat,
    FCHOWNAT = SYS_fchownat,
    FCNTL = SYS_fcntl,
    FSCONFIG = SYS_fsconfig,
    FSETXATTR = SYS_fsetxattr,
    FSMOUNT = SYS_fsmount,
    FSOPEN = SYS_fsopen,
    GETPID = SYS_getpid,
    IOCTL = SYS_ioctl,
    LANDLOCK_ADD_RULE = SYS_landlock_add_rule,
    LANDLOCK_CREATE_RULESET = SYS_landlock_create_ruleset,
    LANDLOCK_RESTRICT_SELF = SYS_landlock_restrict_self,
    MKDIRAT = SYS_mkdirat,
    MKNODAT = SYS_mknodat,
    MOUNT = SYS_mount,
    MOUNT_SETATTR = SYS_mount_setattr,
    MOVE_MOUNT = SYS_move_mount,
    OPENAT = SYS_openat,
    OPENAT2 = SYS_openat2,
    OPEN_TREE = SYS_open_tree,
    PIDFD_OPEN = SYS_pidfd_open,
    PIVOT_ROOT = SYS_pivot_root,
    PRCTL = SYS_prctl,
    PWRITE64 = SYS_pwrite64,
    PRLIMIT64 = SYS_prlimit64,
    RT_SIGPROCMASK = SYS_rt_sigprocmask,
    SECCOMP = SYS_seccomp,
    SENDFILE = SYS_sendfile,
    SENDMSG = SYS_sendmsg,
    SETDOMAINNAME = SYS_setdomainname,
    SETGROUPS = SYS_setgroups,
    SETHOSTNAME = SYS_sethostname,
    SETNS = SYS_setns,
    SETPGID = SYS_setpgid,
    SETRESGID = SYS_setresgid,
    SETRESUID = SYS_setresuid,
    SETSID = SYS_setsid,
    SOCKET = SYS_socket,
    SYMLINKAT = SYS_symlinkat,
    UMASK = SYS_umask,
    UMOUNT2 = SYS_umount2,
    UNLINKAT = SYS_unlinkat,
    UNSHARE = SYS_unshare,
    UTIMENSAT = SYS_utimensat,
    WRITE = SYS_write,
}

/// `rt_sigaction(2)` for each signal that has a handler.
pub(crate) const RESET_SIGNALS: Number =
    Number { number: pseudo::RESET_SIGNALS, name: "reset_signal_handlers" };
/// futex(2) until the parent has written the id maps.
pub(crate) const AWAIT_PARENT: Number =
    Number { number: pseudo::AWAIT_PARENT, name: "await_id_maps" };
/// clone(2) in the joiner.
pub(crate) const FORK: Number = Number { number: pseudo::FORK, name: "clone" };
/// fork(3), called in place of the caller by the child that shares its memory.
pub(crate) const FORK_CALLER: Number = Number { number: pseudo::FORK_CALLER, name: "fork" };
/// prctl(2) for each capability of a set.
pub(crate) const DROP_BOUNDING: Number = Number { number: pseudo::DROP_BOUNDING, name: "prctl" };

#[cfg(test)]
mod tests {
    use minidocker_init::child;
    use minidocker_init::raw::nr;

    /// The helper does not use libc, so it has its own numbers.
    #[test]
    fn numbers_of_the_helper_are_those_of_libc() {
        let pairs = [
            (nr::WRITE, libc::SYS_write),
            (nr::WRITEV, libc::SYS_writev),
            (nr::CLOSE, libc::SYS_close),
            (nr::MMAP, libc::SYS_mmap),
            (nr::RT_SIGACTION, libc::SYS_rt_sigaction),
            (nr::RT_SIGPROCMASK, libc::SYS_rt_sigprocmask),
            (nr::SENDMSG, libc::SYS_sendmsg),
            (nr::RECVMSG, libc::SYS_recvmsg),
            (nr::CLONE, libc::SYS_clone),
            (nr::WAIT4, libc::SYS_wait4),
            (nr::KILL, libc::SYS_kill),
            (nr::CHDIR, libc::SYS_chdir),
            (nr::LSEEK, libc::SYS_lseek),
            (nr::READ, libc::SYS_read),
            (nr::OPENAT, libc::SYS_openat),
            (nr::FCNTL, libc::SYS_fcntl),
            (nr::GETDENTS64, libc::SYS_getdents64),
            (nr::PRCTL, libc::SYS_prctl),
            (nr::SETSID, libc::SYS_setsid),
            (nr::RT_SIGTIMEDWAIT, libc::SYS_rt_sigtimedwait),
            (nr::FUTEX, libc::SYS_futex),
            (nr::EXIT_GROUP, libc::SYS_exit_group),
            (nr::EPOLL_CTL, libc::SYS_epoll_ctl),
            (nr::EPOLL_PWAIT, libc::SYS_epoll_pwait),
            (nr::EPOLL_CREATE1, libc::SYS_epoll_create1),
            (nr::PRLIMIT64, libc::SYS_prlimit64),
            (nr::PIDFD_OPEN, libc::SYS_pidfd_open),
            (nr::PIDFD_SEND_SIGNAL, libc::SYS_pidfd_send_signal),
            (nr::CLOSE_RANGE, libc::SYS_close_range),
            (nr::FSTAT, libc::SYS_fstat),
            (nr::EXIT, libc::SYS_exit),
            (nr::GETPID, libc::SYS_getpid),
            (nr::PPOLL, libc::SYS_ppoll),
            (nr::SIGNALFD4, libc::SYS_signalfd4),
        ];
        assert_eq!(pairs.len(), nr::ALL.len());
        for (ours, libc) in pairs {
            assert_eq!(ours as i64, libc);
        }
        assert_eq!(child::MOUNT, super::MOUNT.number);
        assert_eq!(child::MOUNT_SETATTR, super::MOUNT_SETATTR.number);
    }
}
