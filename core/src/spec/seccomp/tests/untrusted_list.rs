//! Tests of the list for untrusted code.

use super::{ALLOW, Compiled, ENOSYS, EPERM, errno, run, target};
use crate::spec::capabilities::CapabilitySet;
use crate::spec::seccomp::{Arch, OnDenied, Platform, Syscall, compile, untrusted};

#[test]
fn untrusted_code_cannot_make_the_calls_of_past_escapes() {
    // No capability makes the filter allow a call.
    let filter = Compiled::of(&untrusted(), CapabilitySet::up_to(63));
    for name in [
        "unshare",
        "setns",
        "keyctl",
        "add_key",
        "request_key",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "mount",
        "umount2",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "open_tree",
        "move_mount",
        "mount_setattr",
        "pivot_root",
        "chroot",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "open_by_handle_at",
        "name_to_handle_at",
        "swapon",
        "reboot",
        "syslog",
        "acct",
        "quotactl",
        "kcmp",
        "pidfd_getfd",
        "process_madvise",
        "iopl",
        "ioperm",
        "modify_ldt",
        "vmsplice",
        "memfd_secret",
        "vhangup",
        "settimeofday",
        "sethostname",
        "lookup_dcookie",
        "fanotify_init",
        "nfsservctl",
        "uselib",
    ] {
        assert_eq!(filter.plain(name), EPERM, "{name}");
    }
    assert_eq!(filter.plain("clone3"), ENOSYS);
    assert_eq!(filter.plain("openat2"), ENOSYS);
    // As in a kernel without NUMA, even if denied calls kill: OpenBLAS tries mbind and works without it.
    let set = CapabilitySet::EMPTY;
    assert_eq!(Compiled::denying(&untrusted(), set, OnDenied::Kill).plain("mbind"), ENOSYS);
    // A call newer than the list fails as in an older kernel.
    assert_eq!(filter.plain("open_tree_attr"), ENOSYS);
}

#[test]
fn untrusted_code_can_compute_compile_and_use_sockets() {
    let filter = Compiled::of(&untrusted(), CapabilitySet::EMPTY);
    for name in [
        "execve",
        "execveat",
        "vfork",
        "fork",
        "wait4",
        "waitid",
        "pipe2",
        "dup2",
        "mmap",
        "mprotect",
        "munmap",
        "brk",
        "futex",
        "set_robust_list",
        "rseq",
        "sched_getaffinity",
        "getrandom",
        "memfd_create",
        "shmget",
        "semget",
        "mq_open",
        "openat",
        "statx",
        "newfstatat",
        "getdents64",
        "rename",
        "renameat2",
        "unlink",
        "mkdir",
        "symlink",
        "link",
        "chmod",
        "utimensat",
        "flock",
        "fsync",
        "ftruncate",
        "fallocate",
        "copy_file_range",
        "sendfile",
        "inotify_init1",
        "bind",
        "listen",
        "accept4",
        "connect",
        "sendto",
        "recvmsg",
        "epoll_create1",
        "epoll_pwait2",
        "eventfd2",
        "timerfd_create",
        "signalfd4",
        "pidfd_open",
        "pidfd_send_signal",
        "prctl",
        "arch_prctl",
        "prlimit64",
        "setsid",
        "setpgid",
        "kill",
        "tgkill",
        "rt_sigreturn",
        "exit_group",
        "clone",
        "mknod",
        "seccomp",
        "landlock_restrict_self",
        "close_range",
        "getrusage",
    ] {
        assert_eq!(filter.plain(name), ALLOW, "{name}");
    }
    let socket = |family: i32, kind: i32, protocol: i32| {
        filter.call("socket", [family as u64, kind as u64, protocol as u64, 0, 0, 0])
    };
    assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), ALLOW);
    for family in [libc::AF_INET, libc::AF_INET6] {
        assert_eq!(socket(family, libc::SOCK_STREAM, 0), ALLOW);
        assert_eq!(socket(family, libc::SOCK_STREAM, libc::IPPROTO_TCP), ALLOW);
        assert_eq!(socket(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP), ALLOW);
        assert_eq!(socket(family, libc::SOCK_SEQPACKET, 132), errno(libc::EPROTONOSUPPORT));
        assert_eq!(socket(family, libc::SOCK_STREAM, 262), errno(libc::EPROTONOSUPPORT));
    }
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE), ALLOW);
    assert_eq!(
        socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
        errno(libc::EPROTONOSUPPORT)
    );
    for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET, libc::AF_XDP, libc::AF_TIPC] {
        assert_eq!(socket(family, libc::SOCK_DGRAM, 0), errno(libc::EAFNOSUPPORT), "{family}");
        // The kernel ignores the high bits, so the filter must too.
        let junk = (7 << 32) | family as u64;
        assert_eq!(filter.call("socket", [junk, 2, 0, 0, 0, 0]), errno(libc::EAFNOSUPPORT));
    }
    assert_eq!(filter.call("socket", [0xffff_ffff_0000_0002, 1, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn untrusted_code_cannot_inject_terminal_input_whatever_the_high_bits_are() {
    let filter = Compiled::of(&untrusted(), CapabilitySet::up_to(63));
    for request in [0x5412, 0x541c, 0x5423] {
        for junk in [0, 1 << 32, 0xffff_ffff << 32, 0x8000_0000 << 32] {
            assert_eq!(
                filter.call("ioctl", [0, request | junk, 0, 0, 0, 0]),
                EPERM,
                "{request:#x}"
            );
        }
    }
    for request in [0x5401, 0x5413, 0x540e, 0x5421] {
        assert_eq!(filter.call("ioctl", [0x5412, request, 0x5412, 0, 0, 0]), ALLOW, "{request:#x}");
    }
}

#[test]
fn untrusted_code_can_make_pipes_but_not_devices() {
    let filter = Compiled::of(&untrusted(), CapabilitySet::up_to(63));
    for (kind, answer) in [
        (libc::S_IFCHR, EPERM),
        (libc::S_IFBLK, EPERM),
        (libc::S_IFIFO, ALLOW),
        (libc::S_IFREG, ALLOW),
        (libc::S_IFSOCK, ALLOW),
    ] {
        let mode = u64::from(kind | 0o666);
        assert_eq!(filter.call("mknod", [0, mode, 0, 0, 0, 0]), answer, "{kind:o}");
        assert_eq!(filter.call("mknodat", [0, 0, mode | 0xf000_0000, 0, 0, 0]), answer, "{kind:o}");
    }
}

/// The calls that set the mode of a file, with the index of their mode, and of the flags that say whether there is one.
const MODES: [(&str, usize, Option<usize>); 11] = [
    ("chmod", 1, None),
    ("fchmod", 1, None),
    ("fchmodat", 2, None),
    ("fchmodat2", 2, None),
    ("creat", 1, None),
    ("mkdir", 1, None),
    ("mkdirat", 2, None),
    ("mknod", 1, None),
    ("mknodat", 2, None),
    ("open", 2, Some(1)),
    ("openat", 3, Some(2)),
];

#[test]
fn untrusted_code_cannot_make_a_set_user_id_or_set_group_id_file_by_any_call() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let target = target(arch, CapabilitySet::up_to(63));
        let filter = compile(&untrusted(), &target, OnDenied::Errno).unwrap();
        let answer = |name: &str, args| {
            let number = name.parse::<Syscall>().unwrap().number(arch);
            number.map(|number| run(&filter.program, arch, number, &args))
        };
        for (name, mode, flags) in MODES {
            let new_file: &[i32] = match flags {
                None => &[0],
                Some(_) => &[libc::O_CREAT, libc::O_TMPFILE, libc::O_CREAT | libc::O_RDWR],
            };
            for &flag in new_file {
                // The kernel reads 16 bits of a mode, so the filter must ignore the others.
                for junk in [0, 1 << 32, 0xffff_0000, 0xffff_ffff_ffff_0000] {
                    let with = |bits: u64| {
                        let mut args = [0; 6];
                        args[mode] = bits | junk;
                        if let Some(index) = flags {
                            args[index] = flag as u64 | (junk & !0xffff_ffff);
                        }
                        answer(name, args)
                    };
                    for bits in [0o4000, 0o2000, 0o4755, 0o2755, 0o6777, 0o7000] {
                        assert_ne!(with(bits), Some(ALLOW), "{name} {flag:o} {bits:o} {junk:x}");
                    }
                    for bits in [0, 0o644, 0o755, 0o1777] {
                        let allowed = with(bits).is_none_or(|answer| answer == ALLOW);
                        assert!(allowed, "{name} {flag:o} {bits:o} {junk:x}");
                    }
                }
            }
        }
        // Without a new file, the kernel ignores what is in the place of the mode.
        let existing = (libc::O_RDWR | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
        assert_eq!(answer("openat", [0, 0, existing, 0o6777, 0, 0]), Some(ALLOW));
        // These have the mode in memory.
        assert_eq!(answer("openat2", [0; 6]), Some(ENOSYS));
        assert_eq!(answer("io_uring_setup", [0; 6]), Some(EPERM));
    }
}

#[test]
fn untrusted_code_may_be_given_one_of_these_calls_by_name() {
    let profile = untrusted().adjusted(&["fchmodat"], &[]).unwrap();
    let filter = Compiled::of(&profile, CapabilitySet::EMPTY);
    assert_eq!(filter.call("fchmodat", [0, 0, 0o4755, 0, 0, 0]), ALLOW);
    assert_eq!(filter.call("chmod", [0, 0o4755, 0, 0, 0, 0]), EPERM);
}

/// The address of a structure.
const POINTER: u64 = 0x7fff_0000_0000;

#[test]
fn in_the_callers_pid_namespace_untrusted_code_changes_only_its_own_processes() {
    let set = CapabilitySet::up_to(63);
    let own = Compiled::of(&untrusted(), set);
    let shared = Platform { shares_pids: true, ..target(Arch::X86_64, set) };
    let shared = Compiled(compile(&untrusted(), &shared, OnDenied::Errno).unwrap());
    // The kernel reads 32 bits of an id.
    for other in [1, 0x1000, u64::from(u32::MAX), 0x1000 | 1 << 32] {
        for (name, args) in [
            ("sched_setaffinity", [other, 8, POINTER, 0, 0, 0]),
            ("sched_setattr", [other, POINTER, 0, 0, 0, 0]),
            ("sched_setparam", [other, POINTER, 0, 0, 0, 0]),
            ("sched_setscheduler", [other, 0, POINTER, 0, 0, 0]),
            ("prlimit64", [other, 0, POINTER, 0, 0, 0]),
            ("setpriority", [0, other, 19, 0, 0, 0]),
            ("setpriority", [1, other, 19, 0, 0, 0]),
            ("setpriority", [2, 0, 19, 0, 0, 0]),
            ("setpriority", [2 | 7 << 32, 0, 19, 0, 0, 0]),
            ("ioprio_set", [1, other, 0x6000, 0, 0, 0]),
            ("ioprio_set", [2, other, 0x6000, 0, 0, 0]),
            ("ioprio_set", [3, 0, 0x6000, 0, 0, 0]),
        ] {
            assert_eq!(shared.call(name, args), EPERM, "{name} {args:x?}");
            assert_eq!(own.call(name, args), ALLOW, "{name} {args:x?}");
        }
        // Reading changes nothing.
        for (name, args) in [
            ("prlimit64", [other, 0, 0, POINTER, 0, 0]),
            ("sched_getaffinity", [other, 8, POINTER, 0, 0, 0]),
            ("getpriority", [0, other, 0, 0, 0, 0]),
        ] {
            assert_eq!(shared.call(name, args), ALLOW, "{name} {args:x?}");
        }
    }
    for (name, args) in [
        ("sched_setaffinity", [0, 8, POINTER, 0, 0, 0]),
        ("sched_setattr", [5 << 32, POINTER, 0, 0, 0, 0]),
        ("sched_setscheduler", [0, 3, POINTER, 0, 0, 0]),
        ("prlimit64", [0, 7, POINTER, POINTER, 0, 0]),
        ("setpriority", [0, 0, 19, 0, 0, 0]),
        ("setpriority", [1, 0, 19, 0, 0, 0]),
        ("ioprio_set", [1, 0, 0x6000, 0, 0, 0]),
        ("ioprio_set", [2, 0, 0x6000, 0, 0, 0]),
    ] {
        assert_eq!(shared.call(name, args), ALLOW, "{name} {args:x?}");
    }
}

#[test]
fn untrusted_code_cannot_give_the_caller_a_child() {
    let filter = Compiled::of(&untrusted(), CapabilitySet::up_to(63));
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as u64;
    assert_eq!(filter.call("clone", [flags, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(filter.call("clone", [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
}
