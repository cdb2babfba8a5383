//! Tests of compiled filters, by interpreting them.

use std::sync::Arc;

use super::interpreter::run;
use super::{
    Action, Arch, ArgCondition, CallRule, Comparison, Filter, KernelVersion, OnDenied, Platform,
    SeccompProfile, Syscall, compile, docker, untrusted,
};
use crate::spec::capabilities::{Capability, CapabilitySet};

mod untrusted_list;

const X32: u32 = 0x4000_0000;

fn target(arch: Arch, capabilities: CapabilitySet) -> Platform {
    let kernel = KernelVersion { major: 6, minor: 18 };
    Platform { arch, kernel, capabilities, shares_pids: false }
}

fn number(arch: Arch, name: &str) -> u32 {
    name.parse::<Syscall>().unwrap().number(arch).unwrap()
}

/// A profile compiled for x86-64.
struct Compiled(Filter);

impl Compiled {
    fn of(profile: &SeccompProfile, capabilities: CapabilitySet) -> Self {
        Self::denying(profile, capabilities, OnDenied::Errno)
    }

    fn denying(profile: &SeccompProfile, set: CapabilitySet, on_denied: OnDenied) -> Self {
        Self(compile(profile, &target(Arch::X86_64, set), on_denied).unwrap())
    }

    fn on(&self, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
        run(&self.0.program, arch, number(arch, name), &args)
    }

    fn call(&self, name: &str, args: [u64; 6]) -> u32 {
        self.on(Arch::X86_64, name, args)
    }

    fn plain(&self, name: &str) -> u32 {
        self.call(name, [0; 6])
    }
}

const ALLOW: u32 = Action::Allow.value();
const EPERM: u32 = Action::REFUSE.value();
const ENOSYS: u32 = Action::UNKNOWN.value();
const KILL: u32 = Action::KillProcess.value();

fn errno(number: i32) -> u32 {
    Action::Errno(number as u16).value()
}

/// Return every number that the table has on `arch`, the number after each, and edge cases.
fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let known = Syscall::all().filter_map(move |call| call.number(arch));
    known.flat_map(|number| [number, number + 1]).chain([
        0,
        1023,
        X32,
        X32 + 59,
        u32::MAX - 1,
        u32::MAX,
    ])
}

/// Assert that the filter's answer to every number is the action that the rules give, tested one by one.
pub(super) fn assert_means_its_rules(
    profile: &SeccompProfile,
    target: &Platform,
    arguments: &[[u64; 6]],
) {
    let filter = compile(profile, target, OnDenied::Errno).unwrap();
    for arch in [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm] {
        let conditional: Vec<u32> = profile
            .rules
            .iter()
            .filter(|rule| !rule.conditions.is_empty())
            .flat_map(|rule| rule.calls.iter().filter_map(|call| call.number(arch)))
            .collect();
        for number in numbers(arch) {
            // Rules without conditions ignore arguments, so one set of arguments suffices.
            let tried = if conditional.contains(&number) { arguments.len() } else { 1 };
            for args in arguments.iter().rev().take(tried) {
                assert_eq!(
                    run(&filter.program, arch, number, args),
                    profile.action_for(target, arch, number, args).value(),
                    "{arch:?} {number} {:?} {args:x?}",
                    Syscall::from_number(arch, number),
                );
            }
        }
    }
}

#[test]
fn the_built_in_filters_mean_their_rules_on_every_architecture() {
    let first = [0, 1, 2, 10, 11, 12, 13, 16, 38, 40, 45, 46, 0x8, 0x20000, 0x0200_0000, 1 << 32];
    let arguments: Vec<[u64; 6]> = first
        .into_iter()
        .flat_map(|a| {
            [
                [a, 0, 0, 0, 0, 0],
                [a, 0x5412, 6, 0, 0, 0],
                [a | 1 << 40, 0x2000, 132, 0, 0, 0],
                [a, 0o4755, 0o102, 0o2755, 0, 0],
            ]
        })
        .collect();
    for profile in [docker(), untrusted()] {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for set in [CapabilitySet::EMPTY, CapabilitySet::DOCKER, CapabilitySet::up_to(40)] {
                let own = target(arch, set);
                assert_means_its_rules(&profile, &own, &arguments);
                assert_means_its_rules(
                    &profile,
                    &Platform { shares_pids: true, ..own },
                    &arguments,
                );
            }
        }
    }
}

#[test]
fn dockers_list_allows_the_calls_of_programs_and_refuses_those_that_docker_refuses() {
    let filter = Compiled::of(&docker(), CapabilitySet::DOCKER);
    for name in ["read", "execve", "openat", "mmap", "futex", "ptrace", "chroot", "arch_prctl"] {
        assert_eq!(filter.plain(name), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "umount2",
        "pivot_root",
        "setns",
        "unshare",
        "bpf",
        "keyctl",
        "add_key",
        "request_key",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "kexec_load",
        "init_module",
        "open_by_handle_at",
        "reboot",
        "swapon",
        "move_mount",
        "open_tree",
        "fsopen",
    ] {
        assert_eq!(filter.plain(name), EPERM, "{name}");
    }
    assert_eq!(filter.plain("clone3"), ENOSYS);
}

#[test]
fn dockers_list_follows_the_capabilities() {
    let admin = Compiled::of(&docker(), CapabilitySet::of(&[Capability::SYS_ADMIN]));
    for name in ["mount", "setns", "unshare", "bpf", "clone3", "open_tree", "syslog"] {
        assert_eq!(admin.plain(name), ALLOW, "{name}");
    }
    assert_eq!(admin.call("clone", [0x1000_0000, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(admin.plain("chroot"), EPERM);
    let none = Compiled::of(&docker(), CapabilitySet::EMPTY);
    assert_eq!(none.plain("chroot"), EPERM);
    let old = Platform {
        kernel: KernelVersion { major: 4, minor: 7 },
        ..target(Arch::X86_64, CapabilitySet::EMPTY)
    };
    let filter = Compiled(compile(&docker(), &old, OnDenied::Errno).unwrap());
    assert_eq!(filter.plain("ptrace"), EPERM, "before 4.8 ptrace could bypass a filter");
}

#[test]
fn clone_cannot_create_a_namespace() {
    for profile in [docker(), untrusted()] {
        let filter = Compiled::of(&profile, CapabilitySet::DOCKER);
        let thread = 0x003d_0f00;
        assert_eq!(filter.call("clone", [thread, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(filter.call("clone", [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
        for flag in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWCGROUP,
        ] {
            let flags = u64::from(flag as u32) | libc::SIGCHLD as u64;
            for junk in [0, 0xdead_beef << 32] {
                assert_eq!(filter.call("clone", [flags | junk, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
            }
        }
    }
}

#[test]
fn dockers_list_refuses_the_families_that_reach_outside() {
    let filter = Compiled::of(&docker(), CapabilitySet::DOCKER);
    let socket = |family: i32| filter.call("socket", [family as u64, 1, 0, 0, 0, 0]);
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET]
    {
        assert_eq!(socket(family), ALLOW, "{family}");
    }
    for family in [libc::AF_ALG, libc::AF_VSOCK, 12, 46, 255] {
        assert_eq!(socket(family), EPERM, "{family}");
    }
    assert_eq!(filter.call("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(filter.call("personality", [0x0040_0000, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn x32_never_passes_and_a_foreign_architecture_ends_the_process() {
    for profile in [docker(), untrusted(), Arc::new(SeccompProfile::deny(&["ptrace"]).unwrap())] {
        for on_denied in [OnDenied::Errno, OnDenied::Kill, OnDenied::Log] {
            let set = CapabilitySet::up_to(63);
            let filter = Compiled::denying(&profile, set, on_denied).0.program;
            for call in [0, 1, 59, 101, 462, 512, 547, 0x3fff_ffff] {
                assert_eq!(run(&filter, Arch::X86_64, X32 | call, &[0; 6]), ENOSYS);
            }
            assert_eq!(run(&filter, Arch::X86_64, u32::MAX, &[0; 6]), ENOSYS);
            for arch in [Arch::Aarch64, Arch::Arm] {
                assert_eq!(run(&filter, arch, 63, &[0; 6]), KILL);
            }
        }
    }
    let read = |profile: &SeccompProfile| {
        Compiled::of(profile, CapabilitySet::EMPTY).on(Arch::X86, "read", [0; 6])
    };
    assert_eq!(read(&docker()), ALLOW, "docker runs 32-bit programs");
    assert_eq!(read(&untrusted()), KILL);
    assert_eq!(read(&SeccompProfile::deny(&["ptrace"]).unwrap()), KILL);
}

#[test]
fn a_denial_can_kill_or_be_logged_and_enosys_is_unchanged() {
    let kill = Compiled::denying(&docker(), CapabilitySet::DOCKER, OnDenied::Kill);
    assert_eq!(kill.plain("mount"), KILL);
    assert_eq!(kill.plain("clone3"), ENOSYS, "a C library falls back to clone");
    assert_eq!(kill.plain("file_getattr"), ENOSYS);
    assert_eq!(kill.plain("read"), ALLOW);
    let log = Compiled::denying(&docker(), CapabilitySet::DOCKER, OnDenied::Log);
    assert_eq!(log.plain("mount"), EPERM);
    assert_eq!(log.0.flags, libc::SECCOMP_FILTER_FLAG_LOG as u32);
}

#[test]
fn the_strictest_of_several_rules_wins() {
    let rule = |action, args: &[ArgCondition]| CallRule {
        names: vec!["socket".into()],
        action,
        args: args.to_vec(),
    };
    let family =
        |value| ArgCondition { index: 0, comparison: Comparison::Equal(value), low32: true };
    let rules = [
        rule(Action::Allow, &[]),
        rule(Action::Errno(97), &[family(38)]),
        rule(Action::Errno(98), &[family(38)]),
        rule(Action::KillProcess, &[family(40)]),
        rule(Action::Log, &[family(2)]),
    ];
    for rules in [rules.to_vec(), rules.iter().rev().cloned().collect()] {
        let profile = SeccompProfile::from_calls(Action::REFUSE, &rules).unwrap();
        let filter = Compiled::of(&profile, CapabilitySet::EMPTY);
        let socket = |family: u64| filter.call("socket", [family, 0, 0, 0, 0, 0]);
        assert_eq!(socket(40), KILL);
        assert_eq!(socket(2), Action::Log.value());
        assert_eq!(socket(1), ALLOW);
        let first = if rules[0].action == Action::Allow { 97 } else { 98 };
        assert_eq!(socket(38), errno(first), "of two errnos the first one wins");
    }
}

#[test]
fn a_short_list_answers_enosys_only_to_calls_that_the_table_lacks() {
    let filter = Compiled::of(&SeccompProfile::allow(&["read"]).unwrap(), CapabilitySet::EMPTY);
    assert_eq!(filter.plain("read"), ALLOW);
    assert_eq!(filter.plain("mount_setattr"), EPERM);
    assert_eq!(run(&filter.0.program, Arch::X86_64, 5000, &[0; 6]), ENOSYS);
    let open = Compiled::of(&SeccompProfile::deny(&["ptrace"]).unwrap(), CapabilitySet::EMPTY);
    assert_eq!(open.plain("ptrace"), EPERM);
    assert_eq!(run(&open.0.program, Arch::X86_64, 5000, &[0; 6]), ALLOW);
}

#[test]
fn a_list_with_a_mistake_is_refused() {
    let message = |profile: Result<SeccompProfile, _>| {
        let error: crate::error::SpecError = profile.unwrap_err();
        error.to_string()
    };
    assert_eq!(
        message(SeccompProfile::deny(&["ptarce"])),
        "seccomp=\"ptarce\": it is not a system call of Linux. Did you mean \"ptrace\"?"
    );
    assert!(message(SeccompProfile::deny::<&str>(&[])).contains("names no system call"));
    let with = |index, comparison, low32| {
        let args = vec![ArgCondition { index, comparison, low32 }];
        let names = vec!["read".into()];
        SeccompProfile::from_calls(
            Action::Allow,
            &[CallRule { names, action: Action::REFUSE, args }],
        )
    };
    assert!(message(with(6, Comparison::Equal(0), false)).contains("from 0 to 5"));
    assert!(message(with(0, Comparison::Equal(1 << 32), true)).contains("low 32 bits"));
    let never = Comparison::MaskedEqual { mask: 1, value: 2 };
    assert!(message(with(0, never, false)).contains("outside its mask"));
    assert!(message(SeccompProfile::from_calls(Action::Errno(5000), &[])).contains("4095"));
}

#[test]
fn a_filter_longer_than_the_kernel_takes_is_refused() {
    let args = |value: u64| {
        vec![
            ArgCondition {
                index: 0,
                comparison: Comparison::Greater(value << 33 | value),
                low32: false,
            },
            ArgCondition {
                index: 1,
                comparison: Comparison::NotEqual(value << 33 | value),
                low32: false,
            },
        ]
    };
    let rules: Vec<CallRule> = (1..600)
        .map(|value| CallRule {
            names: vec!["read".into()],
            action: Action::Allow,
            args: args(value),
        })
        .collect();
    let target = target(Arch::X86_64, CapabilitySet::EMPTY);
    let profile = SeccompProfile::from_calls(Action::REFUSE, &rules).unwrap();
    let error = compile(&profile, &target, OnDenied::Errno).unwrap_err();
    assert!(error.reason.text().contains("4096"), "{error}");
    // A long filter that fits contains jumps over more than 255 instructions.
    let profile = SeccompProfile::from_calls(Action::REFUSE, &rules[..300]).unwrap();
    let filter = compile(&profile, &target, OnDenied::Errno).unwrap();
    assert!(filter.program.len() > 2000);
    assert_means_its_rules(
        &profile,
        &target,
        &[[0; 6], [5 << 33 | 5, 1, 0, 0, 0, 0], [u64::MAX; 6]],
    );
}

#[test]
fn a_filter_decides_in_a_few_steps() {
    let filter = Compiled::of(&docker(), CapabilitySet::DOCKER).0.program;
    assert!(filter.len() < 500, "{} instructions", filter.len());
}
