//! Docker's default profile.
//!
//! The calls and their conditions are Docker's (see the file NOTICE), so a program that runs under docker runs
//! here too. The form is minidocker's own.

use std::sync::{Arc, LazyLock};

use super::{
    Action, Arch, Comparison, Condition, Guard, Horizon, KernelVersion, Rule, SeccompProfile,
    Syscall, Width,
};
use crate::spec::capabilities::Capability;

/// Calls allowed in every container, with any arguments.
pub(super) const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
    epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
    fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32
    geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
    inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
    ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv
    recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
    sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select
    semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
    setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
    utimes vfork vmsplice wait4 waitid waitpid write writev";

/// Calls allowed since Linux 4.8, where ptrace cannot bypass a filter.
const SINCE_4_8: &str = "process_vm_readv process_vm_writev ptrace";

/// Calls allowed on some architectures, by docker's names of the architectures.
const BY_ARCH: &[(&[&str], &str)] = &[
    (&["ppc64le"], "sync_file_range2 swapcontext"),
    (
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64", "x32"], "arch_prctl"),
    (&["amd64", "x32", "x86"], "modify_ldt"),
    (&["s390", "s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Calls allowed in a container that has the capability.
const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DAC_READ_SEARCH, "open_by_handle_at"),
    (
        Capability::SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree
         perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2
         unshare",
    ),
    (Capability::SYS_BOOT, "reboot"),
    (Capability::SYS_CHROOT, "chroot"),
    (Capability::SYS_MODULE, "delete_module init_module finit_module"),
    (Capability::SYS_PACCT, "acct"),
    (
        Capability::SYS_PTRACE,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SYS_RAWIO, "iopl ioperm"),
    (Capability::SYS_TIME, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SYS_TTY_CONFIG, "vhangup"),
    (Capability::SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::SYSLOG, "syslog"),
    (Capability::BPF, "bpf"),
    (Capability::PERFMON, "perf_event_open"),
];

/// The allowed families of socket(2) from 12 on; all below 12 are allowed. The others (`AF_ALG`, `AF_VSOCK`,
/// `AF_DECnet`) reach outside the namespaces or into code that few programs need.
const FAMILIES: &[u64] = &[
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44,
    45,
];

/// The arguments of personality(2): Linux or BSD, with or without `UNAME26`, and the query.
pub(super) const PERSONALITIES: &[u64] = &[0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/// Every `CLONE_NEW*` that clone(2) accepts.
pub(super) const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Docker's default profile.
///
/// Some rules depend on the capabilities of the container. With `CAP_SYS_ADMIN`, for example, the filter allows
/// mount(2) and leaves the decision to the kernel.
#[must_use]
pub fn docker() -> Arc<SeccompProfile> {
    static PROFILE: LazyLock<Arc<SeccompProfile>> = LazyLock::new(|| Arc::new(build()));
    Arc::clone(&PROFILE)
}

fn build() -> SeccompProfile {
    let allow = |names: &str| Rule::new(Syscall::listed(names), Action::Allow);
    let mut rules = vec![
        allow(ALWAYS),
        Rule {
            includes: Guard {
                min_kernel: Some(KernelVersion { major: 4, minor: 8 }),
                ..Guard::default()
            },
            ..allow(SINCE_4_8)
        },
        allow("socket").when(vec![argument(0, Comparison::Less(12))]),
    ];
    rules.extend(
        FAMILIES
            .iter()
            .map(|&family| allow("socket").when(vec![argument(0, Comparison::Equal(family))])),
    );
    rules.extend(personalities());
    rules.extend(BY_ARCH.iter().map(|&(arches, names)| Rule {
        includes: Guard {
            arches: arches.iter().map(|&arch| arch.to_owned()).collect(),
            ..Guard::default()
        },
        ..allow(names)
    }));
    rules.extend(BY_CAPABILITY.iter().map(|&(capability, names)| Rule {
        includes: Guard { capabilities: vec![capability], ..Guard::default() },
        ..allow(names)
    }));
    let without_sys_admin = Guard { capabilities: vec![Capability::SYS_ADMIN], ..Guard::default() };
    rules.extend(
        clones_without(NEW_NAMESPACES)
            .map(|rule| Rule { excludes: without_sys_admin.clone(), ..rule }),
    );
    SeccompProfile {
        default_action: Action::REFUSE,
        compat: vec![Arch::X86, Arch::Arm],
        flags: 0,
        rules,
        horizon: Horizon::Rules,
    }
}

/// Return rules that allow clone(2) only without these flags, and answer clone3(2) with ENOSYS.
///
/// The flags of clone3(2) are in memory, which a filter cannot read. On ENOSYS, C libraries use clone(2).
pub(super) fn clones_without(flags: u64) -> impl Iterator<Item = Rule> {
    let none = Comparison::MaskedEqual { mask: flags, value: 0 };
    [
        Rule::new(Syscall::listed("clone"), Action::Allow).when(vec![argument(0, none)]),
        Rule::new(Syscall::listed("clone3"), Action::UNKNOWN),
    ]
    .into_iter()
}

/// Return a rule for each allowed personality.
pub(super) fn personalities() -> impl Iterator<Item = Rule> {
    PERSONALITIES.iter().map(|&personality| {
        Rule::new(Syscall::listed("personality"), Action::Allow)
            .when(vec![argument(0, Comparison::Equal(personality))])
    })
}

/// Return a comparison of all 64 bits, as in docker's format.
fn argument(index: u8, comparison: Comparison) -> Condition {
    Condition { index, width: Width::Full64, comparison }
}
