//! Seccomp profiles, and the BPF programs that enforce them.
//!
//! A [`SeccompProfile`] comes from docker's JSON format ([`SeccompProfile::parse`]) or from lists
//! ([`SeccompProfile::from_calls`]), or is built in ([`docker()`], [`untrusted()`]). [`compile()`] turns it
//! into a [`Filter`] for one architecture, kernel and set of capabilities; [`compiled`] does so once per
//! process. This module makes no system call: a plan installs the program.
//!
//! The module has its own assembler, because `seccompiler` cannot express docker's format. Its filters have
//! one action for all matching calls (docker's list answers some calls with one errno and some with another),
//! compare system call numbers one after the other, support one architecture, and treat calls through the x32
//! interface of x86-64 as unknown numbers.

mod assembler;
mod cache;
mod compile;
mod docker;
mod document;
mod errno;
#[cfg(test)]
mod interpreter;
mod lists;
mod parse;
#[cfg(test)]
mod parse_tests;
#[cfg(test)]
mod properties;
mod syscalls;
#[cfg(test)]
mod tests;
mod untrusted;

use std::str::FromStr;

pub use cache::compiled;
pub use compile::compile;
pub use docker::docker;
pub use lists::{ArgCondition, CallRule};
pub use syscalls::Syscall;
pub use untrusted::untrusted;

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::capabilities::{Capability, CapabilitySet};

/// The kernel's action for a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ends the process with SIGSYS.
    KillProcess,
    /// Ends the thread with SIGSYS, and with the last thread the process.
    KillThread,
    /// Sends SIGSYS with this value in `si_errno`.
    Trap(u16),
    /// Does not make the call and returns this errno.
    Errno(u16),
    /// Stops for a tracer, which can read this number; without a tracer, fails with ENOSYS.
    Trace(u16),
    /// Makes the call and writes it to the audit log.
    Log,
    /// Makes the call.
    Allow,
}

impl Action {
    /// `EPERM`: docker's answer if a profile names no errno.
    pub const REFUSE: Self = Self::Errno(libc::EPERM as u16);
    /// `ENOSYS`: the answer of a kernel that does not have the call.
    pub const UNKNOWN: Self = Self::Errno(libc::ENOSYS as u16);

    /// Return the value that a filter returns for the action.
    #[must_use]
    pub const fn value(self) -> u32 {
        match self {
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::Trap(data) => libc::SECCOMP_RET_TRAP | data as u32,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Self::Trace(data) => libc::SECCOMP_RET_TRACE | data as u32,
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }

    /// Return whether the call runs, possibly subject to a tracer.
    #[must_use]
    pub const fn is_permissive(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }

    /// Return the rank in the kernel's order of precedence, the strictest action first (see seccomp(2)).
    const fn leniency(self) -> u8 {
        match self {
            Self::KillProcess => 0,
            Self::KillThread => 1,
            Self::Trap(_) => 2,
            Self::Errno(_) => 3,
            Self::Trace(_) => 4,
            Self::Log => 5,
            Self::Allow => 6,
        }
    }
}

/// The action for a call that a filter denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnDenied {
    /// The call fails with the profile's errno.
    #[default]
    Errno,
    /// The process ends with SIGSYS. A call that the profile answers with ENOSYS still fails, because the
    /// program is meant to fall back.
    Kill,
    /// The call fails with the profile's errno, and the kernel logs it to the audit log.
    Log,
}

impl FromStr for OnDenied {
    type Err = SpecError;

    fn from_str(name: &str) -> Result<Self, SpecError> {
        match name {
            "errno" => Ok(Self::Errno),
            "kill" => Ok(Self::Kill),
            "log" => Ok(Self::Log),
            _ => Err(SpecError::of_text(
                "seccomp",
                name,
                Reason::new(ReasonKind::UnknownName, "on_denied has no such value"),
                "It is one of errno, kill, log",
            )),
        }
    }
}

/// An instruction set and system call interface of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// x86-64, without its x32 interface.
    X86_64,
    /// 32-bit x86 programs on x86-64.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM programs on 64-bit ARM.
    Arm,
}

impl Arch {
    /// The architecture of this program; `None` if there are no filters for it.
    pub const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else {
        None
    };

    /// Return the 32-bit interface that a kernel of this architecture also has.
    #[must_use]
    pub const fn compat(self) -> Option<Self> {
        match self {
            Self::X86_64 => Some(Self::X86),
            Self::Aarch64 => Some(Self::Arm),
            Self::X86 | Self::Arm => None,
        }
    }

    /// Return the value of `seccomp_data.arch`: `AUDIT_ARCH_*`.
    #[must_use]
    pub const fn audit(self) -> u32 {
        const LITTLE_ENDIAN: u32 = 0x4000_0000;
        const SIXTY_FOUR_BIT: u32 = 0x8000_0000;
        match self {
            Self::X86_64 => 0x3e | SIXTY_FOUR_BIT | LITTLE_ENDIAN,
            Self::X86 => 0x03 | LITTLE_ENDIAN,
            Self::Aarch64 => 0xb7 | SIXTY_FOUR_BIT | LITTLE_ENDIAN,
            Self::Arm => 0x28 | LITTLE_ENDIAN,
        }
    }

    /// Return its name in `includes.arches` of docker's format.
    const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// Return its column in the table of system calls.
    const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::Aarch64 => 2,
            Self::Arm => 3,
        }
    }
}

/// The first two parts of a kernel's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The 6 of 6.18.
    pub major: u16,
    /// The 18 of 6.18.
    pub minor: u16,
}

impl KernelVersion {
    /// Return the version in uname(2)'s release, such as `6.18.44-fc-v782`.
    #[must_use]
    pub fn of_release(release: &str) -> Option<Self> {
        let mut parts = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
}

/// The machine and container that a filter is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The architecture of the kernel: [`Arch::NATIVE`] outside of tests.
    pub arch: Arch,
    /// The version of the kernel, for the rules of `minKernel`.
    pub kernel: KernelVersion,
    /// The bounding set of the container, for the rules that depend on a capability.
    pub capabilities: CapabilitySet,
    /// Whether the container is in the PID namespace of its caller, for the rules about other processes.
    pub shares_pids: bool,
}

/// A comparison of an argument; all comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The argument equals this value.
    Equal(u64),
    /// The argument differs from this value.
    NotEqual(u64),
    /// The argument is less than this value.
    Less(u64),
    /// The argument is at most this value.
    LessOrEqual(u64),
    /// The argument is greater than this value.
    Greater(u64),
    /// The argument is at least this value.
    GreaterOrEqual(u64),
    /// The bits of the argument under the mask are those of the value.
    MaskedEqual {
        /// The bits to compare.
        mask: u64,
        /// Their required values; bits outside the mask are 0.
        value: u64,
    },
}

/// The part of an argument that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits, which are all that the kernel reads of an `int`.
    Low32,
    /// The whole register.
    Full64,
}

/// A condition on one argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub index: u8,
    /// The part that is compared.
    pub width: Width,
    /// The comparison.
    pub comparison: Comparison,
}

impl Condition {
    /// Return whether the condition holds for these arguments.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let whole = args[usize::from(self.index)];
        let (argument, bits) = match self.width {
            Width::Low32 => (whole & u64::from(u32::MAX), u64::from(u32::MAX)),
            Width::Full64 => (whole, u64::MAX),
        };
        match self.comparison {
            Comparison::Equal(value) => argument == value & bits,
            Comparison::NotEqual(value) => argument != value & bits,
            Comparison::Less(value) => argument < value & bits,
            Comparison::LessOrEqual(value) => argument <= value & bits,
            Comparison::Greater(value) => argument > value & bits,
            Comparison::GreaterOrEqual(value) => argument >= value & bits,
            Comparison::MaskedEqual { mask, value } => argument & mask & bits == value & bits,
        }
    }
}

/// The targets for which a rule is part of the filter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Guard {
    /// Capabilities of the container.
    pub capabilities: Vec<Capability>,
    /// docker's names of architectures.
    pub arches: Vec<String>,
    /// The oldest kernel.
    pub min_kernel: Option<KernelVersion>,
    /// The caller's PID namespace. Docker's format has no such criterion.
    pub shared_pids: bool,
}

impl Guard {
    /// Evaluate docker's `includes`: every given criterion must match, and the container must have every
    /// capability.
    fn includes(&self, target: &Platform) -> bool {
        let arch = target.arch.docker_name();
        (self.arches.is_empty() || self.arches.iter().any(|name| name == arch))
            && self.capabilities.iter().all(|&capability| target.capabilities.contains(capability))
            && self.min_kernel.is_none_or(|oldest| target.kernel >= oldest)
            && (!self.shared_pids || target.shares_pids)
    }

    /// Evaluate docker's `excludes`: one matching criterion suffices.
    fn excludes(&self, target: &Platform) -> bool {
        let arch = target.arch.docker_name();
        self.arches.iter().any(|name| name == arch)
            || self.capabilities.iter().any(|&capability| target.capabilities.contains(capability))
            || self.min_kernel.is_some_and(|oldest| target.kernel >= oldest)
            || (self.shared_pids && target.shares_pids)
    }
}

/// The action for some system calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The system calls.
    pub calls: Vec<Syscall>,
    /// The action for them.
    pub action: Action,
    /// The conditions, all of which must hold.
    pub conditions: Vec<Condition>,
    /// The targets to which the rule applies.
    pub includes: Guard,
    /// The targets to which the rule does not apply.
    pub excludes: Guard,
}

impl Rule {
    fn new(calls: Vec<Syscall>, action: Action) -> Self {
        let (includes, excludes) = (Guard::default(), Guard::default());
        Self { calls, action, conditions: Vec::new(), includes, excludes }
    }

    fn when(mut self, conditions: Vec<Condition>) -> Self {
        self.conditions = conditions;
        self
    }

    fn applies(&self, target: &Platform) -> bool {
        !self.excludes.excludes(target) && self.includes.includes(target)
    }
}

/// The limit above which call numbers are newer than the profile.
///
/// If the default action denies, the filter answers such a call with ENOSYS, and C libraries fall back to an
/// older call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Horizon {
    /// The highest number that a rule names, as in runc for docker's profiles.
    Rules,
    /// The highest number in the table of system calls, for short lists.
    Table,
}

/// A seccomp policy for any machine.
///
/// If several rules match a call, the strictest action wins, in the order that seccomp(2) gives for several
/// filters. Of several errnos, the first one in the profile wins.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeccompProfile {
    /// The action for a call that no rule matches.
    pub default_action: Action,
    /// The allowed 32-bit interfaces. A call through another one ends the process.
    pub compat: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*` for the filter.
    pub flags: u32,
    /// The rules.
    pub rules: Vec<Rule>,
    /// The limit above which call numbers are newer than the profile.
    pub horizon: Horizon,
}

impl SeccompProfile {
    /// Return the action for one call by testing every rule: the specification of a compiled filter.
    #[must_use]
    pub fn action_for(
        &self,
        target: &Platform,
        arch: Arch,
        number: u32,
        args: &[u64; 6],
    ) -> Action {
        if arch != target.arch && !self.has_compat(target, arch) {
            return Action::KillProcess;
        }
        if arch == Arch::X86_64 && number >= X32_BIT {
            return Action::UNKNOWN;
        }
        let names = |rule: &&Rule| rule.calls.iter().any(|call| call.number(arch) == Some(number));
        self.rules
            .iter()
            .filter(|rule| rule.applies(target))
            .filter(names)
            .filter(|rule| rule.conditions.iter().all(|condition| condition.holds(args)))
            .map(|rule| rule.action)
            .min_by_key(|action| action.leniency())
            .unwrap_or_else(|| self.default_for(arch, number))
    }

    fn has_compat(&self, target: &Platform, arch: Arch) -> bool {
        target.arch.compat() == Some(arch) && self.compat.contains(&arch)
    }

    /// Return the action for a number that no rule matches.
    fn default_for(&self, arch: Arch, number: u32) -> Action {
        if !self.default_action.is_permissive() && number > self.highest_known(arch) {
            Action::UNKNOWN
        } else {
            self.default_action
        }
    }

    /// Return the number at the [`Horizon`]. ARM's private calls are not part of the sequence.
    fn highest_known(&self, arch: Arch) -> u32 {
        const ARM_PRIVATE: u32 = 0x000f_0000;
        let highest = |calls: &mut dyn Iterator<Item = Syscall>| {
            calls
                .filter_map(|call| call.number(arch))
                .filter(|&n| n < ARM_PRIVATE)
                .max()
                .unwrap_or(0)
        };
        match self.horizon {
            Horizon::Rules => {
                highest(&mut self.rules.iter().flat_map(|rule| rule.calls.iter().copied()))
            }
            Horizon::Table => highest(&mut Syscall::all()),
        }
    }
}

/// Set in the number of a call through the x32 interface of x86-64. Kernels without that interface
/// answer ENOSYS, and so does every filter.
const X32_BIT: u32 = 0x4000_0000;

/// A compiled filter: the arguments of seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The instructions of `struct sock_fprog`; at most 4,096.
    pub program: Vec<libc::sock_filter>,
    /// The flags of `SECCOMP_SET_MODE_FILTER`.
    pub flags: u32,
}
