//! The profile for untrusted code.
//!
//! It is Docker's list without the calls of past container escapes, and without calls that are not
//! needed to compute, compile, fork or use sockets. No capability makes it allow more.

use std::sync::{Arc, LazyLock};

use super::docker::{ALWAYS, NEW_NAMESPACES, clones_without, personalities};
use super::{Action, Comparison, Condition, Guard, Horizon, Rule, SeccompProfile, Syscall, Width};

/// Calls that Docker allows in every container and this profile refuses. The profile begins with Docker's list
/// for a container without capabilities, which has no mounts, bpf, setns, unshare, modules or keys. Docker
/// never allows keyctl, userfaultfd, `io_uring`, `pivot_root` and kexec.
const NOT_ALLOWED: &str = "
    fanotify_mark io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
    io_submit ipc listmount memfd_secret name_to_handle_at process_mrelease remap_file_pages
    socketcall statmount vmsplice";

/// Allowed in addition to Docker's list. It sets the thread pointer of x86-64, without which no program starts.
const ALSO: &str = "arch_prctl";

/// Calls for NUMA policies, which fail as in a kernel without NUMA. `OpenBLAS`, and so numpy, tries them and
/// works without them, so the profile must not kill it.
const NUMA: &str = "
    get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node";

/// The ioctls that inject input into a terminal or change its line discipline: `TIOCSTI`, `TIOCLINUX`,
/// `TIOCSETD`.
const TERMINAL_INJECTION: [u64; 3] = [0x5412, 0x541c, 0x5423];

/// `S_ISUID` and `S_ISGID`.
const SET_ID: u64 = (libc::S_ISUID | libc::S_ISGID) as u64;

/// The bit that `S_IFCHR` and `S_IFBLK` have, and pipes, sockets and plain files lack.
const DEVICE: u64 = libc::S_IFCHR as u64;

/// The flags with which open(2) makes a file. `O_TMPFILE` is this bit and `O_DIRECTORY`.
const NEW_FILE: u64 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;

/// The new process would be a child of the caller, outside.
const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;

const AF_UNIX: u64 = libc::AF_UNIX as u64;
const AF_INET: u64 = libc::AF_INET as u64;
const AF_INET6: u64 = libc::AF_INET6 as u64;
const AF_NETLINK: u64 = libc::AF_NETLINK as u64;

/// The allowed protocols of internet sockets: the default of the type, ICMP, TCP, UDP, `ICMPv6`. Others load
/// rarely used kernel modules.
const INTERNET_PROTOCOLS: [u64; 5] = [
    libc::IPPROTO_IP as u64,
    libc::IPPROTO_ICMP as u64,
    libc::IPPROTO_TCP as u64,
    libc::IPPROTO_UDP as u64,
    libc::IPPROTO_ICMPV6 as u64,
];

/// From linux/ioprio.h, for every process of a user.
const IOPRIO_WHO_USER: i32 = 3;

/// Return the profile for untrusted code, which has no 32-bit interface.
///
/// It allows no file with a set-user-ID or set-group-ID bit, and in the caller's PID namespace no change to other
/// processes. It allows local sockets, sockets of the usual internet protocols, and `NETLINK_ROUTE`. Another family or
/// protocol fails as in a kernel that does not have it.
#[must_use]
pub fn untrusted() -> Arc<SeccompProfile> {
    static PROFILE: LazyLock<Arc<SeccompProfile>> = LazyLock::new(|| Arc::new(build()));
    Arc::clone(&PROFILE)
}

fn build() -> SeccompProfile {
    let conditional = [file_modes(), sockets()].concat();
    let mut removed = Syscall::listed(NOT_ALLOWED);
    removed.extend(conditional.iter().flat_map(|rule| &rule.calls));
    let mut calls = Syscall::listed(ALWAYS);
    calls.retain(|call| !removed.contains(call));
    calls.extend(Syscall::listed(ALSO));
    let mut rules = vec![Rule::new(calls, Action::Allow)];
    rules.push(Rule::new(Syscall::listed(NUMA), Action::UNKNOWN));
    rules.extend(personalities());
    rules.extend(clones_without(NEW_NAMESPACES | CLONE_PARENT));
    rules.extend(TERMINAL_INJECTION.map(|request| {
        // The kernel reads 32 bits, so the filter must ignore the others.
        refuse("ioctl", Action::REFUSE).when(vec![low(1, Comparison::Equal(request))])
    }));
    rules.extend(conditional);
    rules.extend(other_processes());
    SeccompProfile {
        default_action: Action::REFUSE,
        compat: Vec::new(),
        flags: 0,
        rules,
        horizon: Horizon::Rules,
    }
}

fn sockets() -> Vec<Rule> {
    let family_unknown = Action::Errno(libc::EAFNOSUPPORT as u16);
    let protocol_unknown = Action::Errno(libc::EPROTONOSUPPORT as u16);
    let none_of = |index, values: &[u64]| -> Vec<Condition> {
        values.iter().map(|&value| low(index, Comparison::NotEqual(value))).collect()
    };
    let protocols_of = |family, protocols: &[u64]| {
        let mut conditions = vec![low(0, Comparison::Equal(family))];
        conditions.extend(none_of(2, protocols));
        refuse("socket", protocol_unknown).when(conditions)
    };
    vec![
        refuse("socket", family_unknown)
            .when(none_of(0, &[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK])),
        protocols_of(AF_INET, &INTERNET_PROTOCOLS),
        protocols_of(AF_INET6, &INTERNET_PROTOCOLS),
        protocols_of(AF_NETLINK, &[libc::NETLINK_ROUTE as u64]),
        Rule::new(Syscall::listed("socket"), Action::Allow),
        refuse("socketpair", family_unknown).when(none_of(0, &[AF_UNIX])),
        Rule::new(Syscall::listed("socketpair"), Action::Allow),
    ]
}

/// Return rules that allow the calls that set modes only without set-user-ID and set-group-ID bits, and mknod(2) for no
/// device.
///
/// Other users of the host could execute such a file in a mount. openat2(2) has its mode in memory, which a filter
/// cannot read; on ENOSYS, programs use openat(2).
fn file_modes() -> Vec<Rule> {
    let allow_without = |bits, index, names| {
        let none = Comparison::MaskedEqual { mask: bits, value: 0 };
        Rule::new(Syscall::listed(names), Action::Allow).when(vec![low(index, none)])
    };
    vec![
        allow_without(SET_ID, 1, "chmod creat fchmod mkdir"),
        allow_without(SET_ID, 2, "fchmodat fchmodat2 mkdirat"),
        allow_without(SET_ID | DEVICE, 1, "mknod"),
        allow_without(SET_ID | DEVICE, 2, "mknodat"),
        // Of the arguments, the kernel reads the mode only for a new file.
        allow_without(NEW_FILE, 1, "open"),
        allow_without(SET_ID, 2, "open"),
        allow_without(NEW_FILE, 2, "openat"),
        allow_without(SET_ID, 3, "openat"),
        refuse("openat2", Action::UNKNOWN),
    ]
}

/// Return rules for the caller's PID namespace, where these calls reach processes outside the container: they apply to
/// the calling thread and to its process group, both given as 0, and to no other process.
///
/// Landlock refuses signals to the others, and tracing them.
fn other_processes() -> Vec<Rule> {
    let refuse = |names, conditions| Rule {
        includes: Guard { shared_pids: true, ..Guard::default() },
        ..refuse(names, Action::REFUSE).when(conditions)
    };
    let by_id = |index| low(index, Comparison::NotEqual(0));
    let of_user = |which: i32| low(0, Comparison::Equal(which as u64));
    let new_limit =
        Condition { index: 2, width: Width::Full64, comparison: Comparison::NotEqual(0) };
    vec![
        refuse("sched_setaffinity sched_setattr sched_setparam sched_setscheduler", vec![by_id(0)]),
        refuse("prlimit64", vec![by_id(0), new_limit]),
        refuse("ioprio_set setpriority", vec![by_id(1)]),
        refuse("ioprio_set", vec![of_user(IOPRIO_WHO_USER)]),
        refuse("setpriority", vec![of_user(libc::PRIO_USER as i32)]),
    ]
}

fn refuse(name: &str, action: Action) -> Rule {
    Rule::new(Syscall::listed(name), action)
}

/// Return a comparison of the 32 bits that the kernel reads of an `int`.
fn low(index: u8, comparison: Comparison) -> Condition {
    Condition { index, width: Width::Low32, comparison }
}
