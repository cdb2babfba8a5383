//! Filters in the real kernel, each installed in a forked child that reports the results of its calls.

#![cfg(target_arch = "x86_64")]
#![expect(
    unsafe_code,
    reason = "fork, prctl, seccomp and the calls that must fail have no safe wrapper; a filter cannot \
              be removed, so each needs its own process"
)]

use std::io::Error;

use libc::{c_int, c_long};
use minidocker_core::probe::landlock_version;
use minidocker_core::spec::capabilities::CapabilitySet;
use minidocker_core::spec::landlock::{Abi, AccessFs, Handled, RULE_PATH_BENEATH, path_beneath};
use minidocker_core::spec::seccomp::{
    Arch, Filter, KernelVersion, OnDenied, Platform, SeccompProfile, compile, docker, untrusted,
};

fn compiled(profile: &SeccompProfile, on_denied: OnDenied) -> Filter {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let target = Platform {
        arch: Arch::NATIVE.unwrap(),
        kernel: KernelVersion::of_release(&release).unwrap(),
        capabilities: CapabilitySet::EMPTY,
        shares_pids: false,
    };
    compile(profile, &target, on_denied).unwrap()
}

/// Make a system call with three arguments, then zeros; return its result or the negated errno.
fn call(number: c_long, args: [u64; 3]) -> c_long {
    // SAFETY: the arguments of the calls in these tests are numbers, pointers that the kernel checks, or
    // descriptors. No call writes memory of this process.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], 0_u64, 0_u64, 0_u64) };
    if result < 0 {
        -c_long::from(Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        result
    }
}

/// Run `child` in a forked process and return the wait status.
///
/// The test program has threads, so `child` must make system calls only.
fn in_child(child: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the child makes only system calls and ends by _exit. It does not allocate, and takes no lock
    // that another thread of this program could have held.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", Error::last_os_error());
    if pid == 0 {
        let status = child();
        // SAFETY: _exit ends this process and runs no exit handler of the parent.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    status
}

const SET_MODE_FILTER: u64 = 1;

/// Install the filter in this process; return 0 or the negated errno.
fn install(filter: &Filter) -> c_long {
    let program = libc::sock_fprog {
        len: filter.program.len() as u16,
        filter: filter.program.as_ptr().cast_mut(),
    };
    let no_new_privileges = call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0]);
    if no_new_privileges != 0 {
        return no_new_privileges;
    }
    call(libc::SYS_seccomp, [SET_MODE_FILTER, filter.flags.into(), &raw const program as u64])
}

/// Assert that each call behind the filter returns the expected value.
#[track_caller]
fn assert_answers(filter: &Filter, expected: &[(c_long, [u64; 3], c_long)]) {
    let status = in_child(|| {
        if install(filter) != 0 {
            return 255;
        }
        let wrong =
            expected.iter().position(|&(number, args, answer)| call(number, args) != answer);
        wrong.map_or(0, |place| place as c_int + 1)
    });
    assert!(libc::WIFEXITED(status), "status {status:#x}");
    match libc::WEXITSTATUS(status) {
        0 => {}
        255 => panic!("the kernel refuses the filter"),
        place => panic!("call {} returns another value", expected[place as usize - 1].0),
    }
}

#[track_caller]
fn assert_killed(filter: &Filter, number: c_long, args: [u64; 3]) {
    let status = in_child(|| match install(filter) {
        0 => {
            call(number, args);
            1
        }
        _ => 255,
    });
    assert!(libc::WIFSIGNALED(status), "status {status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGSYS);
}

const EPERM: c_long = -(libc::EPERM as c_long);
const ENOSYS: c_long = -(libc::ENOSYS as c_long);
const EBADF: c_long = -(libc::EBADF as c_long);
const EFAULT: c_long = -(libc::EFAULT as c_long);
const NO_FD: u64 = u64::MAX;
const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;

#[test]
fn without_a_filter_the_same_calls_return_other_values() {
    // The positive control for the tests below.
    let status = in_child(|| {
        let clone3 = call(libc::SYS_clone3, [0, 0, 0]);
        let tiocsti = call(libc::SYS_ioctl, [NO_FD, 0x5412, 0]);
        let bpf = call(libc::SYS_bpf, [0, 0, 0]);
        let ptrace = call(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0]);
        c_int::from(clone3 == ENOSYS || tiocsti != EBADF || bpf == ENOSYS || ptrace != 0)
    });
    assert_eq!(status, 0);
}

#[test]
fn dockers_filter_holds_in_the_kernel() {
    assert_answers(
        &compiled(&docker(), OnDenied::Errno),
        &[
            (libc::SYS_clone3, [0, 0, 0], ENOSYS),
            (libc::SYS_unshare, [NEW_USER, 0, 0], EPERM),
            (libc::SYS_clone, [NEW_USER | libc::SIGCHLD as u64, 0, 0], EPERM),
            (libc::SYS_mount, [0, 0, 0], EPERM),
            (libc::SYS_keyctl, [0, 0, 0], EPERM),
            (libc::SYS_socket, [libc::AF_VSOCK as u64, libc::SOCK_STREAM as u64, 0], EPERM),
            (libc::SYS_socket, [libc::AF_ALG as u64, libc::SOCK_SEQPACKET as u64, 0], EPERM),
            (libc::SYS_close, [NO_FD, 0, 0], EBADF),
            (libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0], 0),
            // Two calls through the x32 interface, and a call number above that of every kernel.
            (0x4000_0000 | libc::SYS_close, [NO_FD, 0, 0], ENOSYS),
            (0x4000_0000 + 521, [0, 0, 0], ENOSYS),
            (5000, [0, 0, 0], ENOSYS),
        ],
    );
}

#[test]
fn the_untrusted_filter_holds_in_the_kernel() {
    let af_unknown = -c_long::from(libc::EAFNOSUPPORT);
    assert_answers(
        &compiled(&untrusted(), OnDenied::Errno),
        &[
            (libc::SYS_ioctl, [NO_FD, 0x5412, 0], EPERM),
            (libc::SYS_ioctl, [NO_FD, 0x5412 | 1 << 32, 0], EPERM),
            (libc::SYS_ioctl, [NO_FD, 0x541c | 0xdead_beef << 32, 0], EPERM),
            (libc::SYS_ioctl, [NO_FD, 0x5423, 0], EPERM),
            (libc::SYS_ioctl, [NO_FD, 0x5401, 0], EBADF),
            (libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0], EPERM),
            (libc::SYS_bpf, [0, 0, 0], EPERM),
            (libc::SYS_io_uring_setup, [1, 0, 0], EPERM),
            (libc::SYS_userfaultfd, [0, 0, 0], EPERM),
            (libc::SYS_add_key, [0, 0, 0], EPERM),
            (libc::SYS_open_tree, [NO_FD, 0, 0], EPERM),
            (libc::SYS_pivot_root, [0, 0, 0], EPERM),
            (libc::SYS_setns, [NO_FD, 0, 0], EPERM),
            (libc::SYS_clone3, [0, 0, 0], ENOSYS),
            (libc::SYS_socket, [libc::AF_ALG as u64, libc::SOCK_SEQPACKET as u64, 0], af_unknown),
            (libc::SYS_mknodat, [NO_FD, 0, u64::from(libc::S_IFCHR)], EPERM),
            (libc::SYS_mknodat, [NO_FD, 0, u64::from(libc::S_IFIFO)], EFAULT),
        ],
    );
}

#[test]
fn a_denied_call_kills_under_on_denied_kill() {
    let filter = compiled(&untrusted(), OnDenied::Kill);
    assert_killed(&filter, libc::SYS_mount, [0, 0, 0]);
    assert_killed(&filter, libc::SYS_ioctl, [NO_FD, 0x5412 | 1 << 32, 0]);
    assert_answers(
        &filter,
        &[(libc::SYS_clone3, [0, 0, 0], ENOSYS), (libc::SYS_close, [NO_FD, 0, 0], EBADF)],
    );
}

#[test]
fn a_logged_denial_is_a_denial() {
    let filter = compiled(&untrusted(), OnDenied::Log);
    assert_answers(&filter, &[(libc::SYS_mount, [0, 0, 0], EPERM)]);
}

#[test]
fn a_profile_from_json_holds_in_the_kernel() {
    let profile = SeccompProfile::parse(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
             "args": [{"index": 1, "value": 4294967297, "op": "SCMP_CMP_GE"}]},
            {"names": ["getcpu"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
    )
    .unwrap();
    let filter = compiled(&profile, OnDenied::Errno);
    assert_answers(
        &filter,
        &[
            (libc::SYS_getpriority, [99, 0x1_0000_0001, 0], -77),
            (libc::SYS_getpriority, [99, 0x1_0000_0000, 0], -c_long::from(libc::EINVAL)),
        ],
    );
    assert_killed(&filter, libc::SYS_getcpu, [0, 0, 0]);
}

#[test]
fn lists_hold_in_the_kernel() {
    assert_answers(
        &compiled(&SeccompProfile::deny(&["getcpu", "umask"]).unwrap(), OnDenied::Errno),
        &[(libc::SYS_getcpu, [0, 0, 0], EPERM), (libc::SYS_close, [NO_FD, 0, 0], EBADF)],
    );
    assert_answers(
        &compiled(&SeccompProfile::allow(&["exit_group", "close"]).unwrap(), OnDenied::Errno),
        &[(libc::SYS_getcpu, [0, 0, 0], EPERM), (libc::SYS_close, [NO_FD, 0, 0], EBADF)],
    );
}

#[test]
fn a_call_of_32_bit_x86_works_under_docker_and_kills_untrusted_code() {
    /// Call close(-1), number 6 on 32-bit x86, by the gate `int 0x80`.
    fn close_by_the_gate() -> i64 {
        let result: i64;
        // SAFETY: int 0x80 makes a system call of 32-bit x86, here close(-1), which accesses no
        // memory. The second xchg restores rbx, which LLVM reserves.
        unsafe {
            std::arch::asm!(
                "xchg {fd}, rbx",
                "int 0x80",
                "xchg {fd}, rbx",
                fd = inout(reg) -1_i64 => _,
                inlateout("rax") 6_i64 => result,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
        i64::from(result as i32)
    }
    // A kernel without the gate kills every process that uses it.
    if !libc::WIFEXITED(in_child(|| c_int::from(close_by_the_gate() != EBADF))) {
        return;
    }
    let through = |filter: &Filter| {
        in_child(|| match install(filter) {
            0 => c_int::from(close_by_the_gate() != EBADF),
            _ => 255,
        })
    };
    assert_eq!(through(&compiled(&docker(), OnDenied::Errno)), 0);
    let status = through(&compiled(&untrusted(), OnDenied::Errno));
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
}

#[test]
fn the_kernel_accepts_the_structures_for_landlock() {
    let version = landlock_version().unwrap().map(i64::from);
    let Some(abi) = version.and_then(Abi::of_version) else {
        // This kernel has no Landlock.
        return;
    };
    let attr = Handled::files(abi).attr(abi);
    let status = in_child(|| {
        let ruleset =
            call(libc::SYS_landlock_create_ruleset, [attr.as_ptr() as u64, attr.len() as u64, 0]);
        let open = |path: &std::ffi::CStr, flags: c_int| {
            call(libc::SYS_open, [path.as_ptr() as u64, flags as u64, 0])
        };
        let tmp = open(c"/tmp", libc::O_PATH | libc::O_CLOEXEC);
        let null = open(c"/dev/null", libc::O_PATH | libc::O_CLOEXEC);
        if ruleset < 0 || tmp < 0 || null < 0 {
            return 1;
        }
        let add = |access, is_directory, fd: c_long| {
            let rule = path_beneath(access, abi, is_directory, fd as i32);
            // Four arguments: the last are flags, which must be 0.
            // SAFETY: the kernel reads 12 bytes at `rule`, which outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_landlock_add_rule,
                    ruleset,
                    RULE_PATH_BENEATH,
                    rule.as_ptr(),
                    0_u64,
                )
            }
        };
        if add(AccessFs::WRITE, true, tmp) != 0 || add(AccessFs::USE, false, null) != 0 {
            return 2;
        }
        if call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0]) != 0
            || call(libc::SYS_landlock_restrict_self, [ruleset as u64, 0, 0]) != 0
        {
            return 3;
        }
        let denied = -c_long::from(libc::EACCES);
        c_int::from(
            open(c"/etc/passwd", libc::O_RDONLY) != denied
                || open(c"/tmp", libc::O_RDONLY) < 0
                || open(c"/dev/null", libc::O_WRONLY) < 0,
        ) * 4
    });
    assert_eq!(libc::WEXITSTATUS(status), 0, "status {status:#x}");
    assert!(libc::WIFEXITED(status));
}
