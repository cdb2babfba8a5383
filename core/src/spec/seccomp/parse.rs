//! The parser of docker's JSON profile format.
//!
//! The format is that of docker's `--security-opt seccomp=FILE`, with the two keys that Podman adds: `errno` and
//! `defaultErrno` name the numbers in `errnoRet` and `defaultErrnoRet`. Docker ignores an unknown key, an
//! unknown system call and the first of two equal keys. Here each is an error, because an ignored rule gives
//! false confidence.

use std::fmt::Arguments;

use super::document::{
    self, JsonArchMap, JsonArg, JsonGuard, JsonProfile, JsonRule, OPTION, Object,
};
use super::syscalls::UnknownSyscall;
use super::{
    Action, Arch, Comparison, Condition, Guard, Horizon, KernelVersion, Rule, SeccompProfile,
    Syscall, Width, errno,
};
use crate::error::{Remedy, SpecError, Value};
use crate::spec::capabilities::{self, Capability};
use crate::spec::nearest::nearest_or;

/// libseccomp's names of actions. `action` sets the numbers of `ERRNO` and `TRACE`.
const ACTIONS: &[(&str, Action)] = &[
    ("SCMP_ACT_ALLOW", Action::Allow),
    ("SCMP_ACT_ERRNO", Action::REFUSE),
    ("SCMP_ACT_KILL", Action::KillThread),
    ("SCMP_ACT_KILL_PROCESS", Action::KillProcess),
    ("SCMP_ACT_KILL_THREAD", Action::KillThread),
    ("SCMP_ACT_LOG", Action::Log),
    ("SCMP_ACT_TRACE", Action::Trace(libc::EPERM as u16)),
    ("SCMP_ACT_TRAP", Action::Trap(0)),
];

/// libseccomp's names of architectures; `None` for those without filters here.
const ARCHITECTURES: &[(&str, Option<Arch>)] = &[
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Arch::Arm)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_RISCV64", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
    // Every filter refuses x32, as kernels without it do: see `SeccompProfile::action_for`.
    ("SCMP_ARCH_X32", None),
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
];

/// The names in `includes.arches` and `excludes.arches`.
const DOCKER_ARCHES: &[&str] = &[
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "loongarch64",
    "mips",
    "mips3l64n32",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "x32",
    "x86",
];

const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG as u32),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC as u32),
];

/// Returns the comparison with `value` and `valueTwo`.
type Operator = fn(u64, u64) -> Comparison;

const OPERATORS: &[(&str, Operator)] = &[
    ("SCMP_CMP_EQ", |value, _| Comparison::Equal(value)),
    ("SCMP_CMP_GE", |value, _| Comparison::GreaterOrEqual(value)),
    ("SCMP_CMP_GT", |value, _| Comparison::Greater(value)),
    ("SCMP_CMP_LE", |value, _| Comparison::LessOrEqual(value)),
    ("SCMP_CMP_LT", |value, _| Comparison::Less(value)),
    ("SCMP_CMP_MASKED_EQ", |mask, value| Comparison::MaskedEqual { mask, value }),
    ("SCMP_CMP_NE", |value, _| Comparison::NotEqual(value)),
];

impl SeccompProfile {
    /// Parse a profile in docker's JSON format.
    ///
    /// # Errors
    ///
    /// Text that is not JSON or not in the format. The error has the place, the value and the nearest correct
    /// value, if any.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        profile(&document::read(text)?)
    }
}

// The functions below take a value and `at`, its place in the document for error messages.

fn profile(document: &JsonProfile) -> Result<SeccompProfile, SpecError> {
    let default_action = action(
        format_args!(""),
        ["defaultAction", "defaultErrnoRet", "defaultErrno"],
        &document.default_action,
        document.default_errno_ret,
        document.default_errno.as_deref(),
    )?;
    for (key, value) in [
        ("listenerPath", &document.listener_path),
        ("listenerMetadata", &document.listener_metadata),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            return Err(no_listener(format_args!("{key}"), value));
        }
    }
    let flags = each(format_args!("flags"), document.flags.as_deref(), |at, flag| {
        one_of(at, "a flag of a filter", flag, FLAGS)
    })?;
    let listed =
        each(format_args!("architectures"), document.architectures.as_deref(), |at, name| {
            architecture(at, name)
        })?;
    let mapped = each(format_args!("archMap"), document.arch_map.as_deref(), arch_map)?;
    if !listed.is_empty() && !mapped.is_empty() {
        return Err(SpecError::of_text(
            OPTION,
            "archMap",
            "it is given together with architectures",
            "Keep one of the two",
        ));
    }
    let is_compat = |arch: &Arch| matches!(arch, Arch::X86 | Arch::Arm);
    let mut compat: Vec<Arch> = listed
        .into_iter()
        .flatten()
        .chain(mapped.into_iter().flatten())
        .filter(is_compat)
        .collect();
    compat.dedup();
    let rules = each(format_args!("syscalls"), document.syscalls.as_deref(), rules)?;
    Ok(SeccompProfile {
        default_action,
        compat,
        flags: flags.into_iter().fold(0, |flags, flag| flags | flag),
        rules: rules.into_iter().flatten().collect(),
        horizon: Horizon::Rules,
    })
}

/// Return the 32-bit interface of an entry of `archMap`, if its architecture has one.
fn arch_map(at: Arguments<'_>, Object(map): &Object<JsonArchMap>) -> Result<Vec<Arch>, SpecError> {
    let main = architecture(format_args!("{at}.architecture"), &map.architecture)?;
    let compat = main.and_then(Arch::compat);
    let subs = each(
        format_args!("{at}.subArchitectures"),
        map.sub_architectures.as_deref(),
        |at, name| architecture(at, name),
    )?;
    Ok(subs.into_iter().flatten().filter(|&sub| Some(sub) == compat).collect())
}

fn architecture(at: Arguments<'_>, name: &str) -> Result<Option<Arch>, SpecError> {
    one_of(at, "an architecture", name, ARCHITECTURES)
}

/// Return the action called `name` with its number, given as a number or as the name of an errno.
///
/// The three keys are those of the object at `at`.
fn action(
    at: Arguments<'_>,
    [name_key, number_key, errno_key]: [&str; 3],
    name: &str,
    number: Option<u64>,
    errno: Option<&str>,
) -> Result<Action, SpecError> {
    if name == "SCMP_ACT_NOTIFY" {
        return Err(no_listener(format_args!("{at}{name_key}"), name));
    }
    let action = one_of(format_args!("{at}{name_key}"), "an action", name, ACTIONS)?;
    if let Some(number) = number {
        within(format_args!("{at}{number_key}"), number, errno::HIGHEST.into())?;
    }
    let carried = match errno.filter(|errno| !errno.is_empty()) {
        None => number,
        Some(errno) => {
            let named = errno_number(format_args!("{at}{errno_key}"), errno)?;
            if let Some(number) = number.filter(|&number| number != named) {
                return Err(wrong_text(
                    format_args!("{at}{errno_key}"),
                    errno,
                    &format!("is {named}, and {number_key} is {number}"),
                    "Keep one of the two",
                ));
            }
            Some(named)
        }
    };
    match (action, carried) {
        (Action::Errno(_), Some(errno)) => Ok(Action::Errno(errno as u16)),
        (Action::Trace(_), Some(data)) => Ok(Action::Trace(data as u16)),
        // Docker writes 0 for a missing number.
        (_, None | Some(0)) => Ok(action),
        (_, Some(number)) => Err(wrong(
            format_args!("{at}{number_key}"),
            number.to_string(),
            "is given for an action that returns no errno",
            "Leave it out, or make the action SCMP_ACT_ERRNO",
        )),
    }
}

fn no_listener(at: Arguments<'_>, value: &str) -> SpecError {
    wrong_text(
        at,
        value,
        "needs a process outside that decides each call, which is not supported",
        "Deny the calls, or allow them: SCMP_ACT_ERRNO, SCMP_ACT_LOG or SCMP_ACT_ALLOW",
    )
}

fn errno_number(at: Arguments<'_>, name: &str) -> Result<u64, SpecError> {
    errno::by_name(name).map(u64::from).ok_or_else(|| {
        wrong_text(at, name, "is not the name of an errno", nearest_of(name, errno::names()))
    })
}

/// Return the rules of one entry of `syscalls`: several if it compares an argument twice.
fn rules(at: Arguments<'_>, Object(entry): &Object<JsonRule>) -> Result<Vec<Rule>, SpecError> {
    let single = entry.name.as_deref().unwrap_or_default();
    let calls = match (single, entry.names.as_deref().unwrap_or_default()) {
        ("", []) => {
            return Err(SpecError::of_text(
                OPTION,
                "names",
                format!("it is missing from {at}"),
                "List the system calls of the rule",
            ));
        }
        ("", names) => each(format_args!("{at}.names"), Some(names), |at, name| syscall(at, name))?,
        (_, []) => vec![syscall(format_args!("{at}.name"), single)?],
        (_, _) => {
            return Err(wrong_text(
                format_args!("{at}.name"),
                single,
                "is given together with names",
                "Keep one of the two",
            ));
        }
    };
    let action = action(
        format_args!("{at}."),
        ["action", "errnoRet", "errno"],
        &entry.action,
        entry.errno_ret,
        entry.errno.as_deref(),
    )?;
    let conditions = each(format_args!("{at}.args"), entry.args.as_deref(), condition)?;
    let includes = guard(format_args!("{at}.includes"), entry.includes.as_ref())?;
    let excludes = guard(format_args!("{at}.excludes"), entry.excludes.as_ref())?;
    let rule = |conditions| Rule {
        calls: calls.clone(),
        action,
        conditions,
        includes: includes.clone(),
        excludes: excludes.clone(),
    };
    // In runc and docker, several comparisons of one argument are alternatives (since 2016).
    let twice = (0..6).any(|index| conditions.iter().filter(|c| c.index == index).count() > 1);
    Ok(if twice {
        conditions.into_iter().map(|condition| rule(vec![condition])).collect()
    } else {
        vec![rule(conditions)]
    })
}

fn syscall(at: Arguments<'_>, name: &str) -> Result<Syscall, SpecError> {
    name.parse().map_err(|unknown: UnknownSyscall| {
        wrong_text(at, name, "is not a system call of Linux", unknown.remedy())
    })
}

fn condition(at: Arguments<'_>, Object(arg): &Object<JsonArg>) -> Result<Condition, SpecError> {
    let index = within(format_args!("{at}.index"), arg.index, 5)? as u8;
    let operator = one_of(format_args!("{at}.op"), "a comparison", &arg.op, OPERATORS)?;
    let second = arg.value_two.unwrap_or(0);
    let comparison = operator(arg.value.unwrap_or(0), second);
    let wrong_second = |reason: &str, remedy| {
        Err(wrong(format_args!("{at}.valueTwo"), second.to_string(), reason, remedy))
    };
    match comparison {
        Comparison::MaskedEqual { mask, value } if value & !mask != 0 => wrong_second(
            &format!("has bits outside the mask {mask}, so the rule can never match"),
            "Put the mask in value, and the bits to compare with in valueTwo",
        ),
        Comparison::MaskedEqual { .. } => Ok(()),
        _ if second != 0 => wrong_second(
            &format!("has no meaning with {}", arg.op),
            "Leave it out, or compare with SCMP_CMP_MASKED_EQ",
        ),
        _ => Ok(()),
    }?;
    Ok(Condition { index, width: Width::Full64, comparison })
}

fn guard(at: Arguments<'_>, object: Option<&Object<JsonGuard>>) -> Result<Guard, SpecError> {
    let Some(Object(guard)) = object else { return Ok(Guard::default()) };
    let arches = each(format_args!("{at}.arches"), guard.arches.as_deref(), |at, name| {
        let known = || DOCKER_ARCHES.iter().copied();
        match known().find(|known| known == name) {
            Some(name) => Ok(name.to_owned()),
            None => Err(wrong_text(at, name, "is not an architecture", nearest_of(name, known()))),
        }
    })?;
    let min_kernel = guard.min_kernel.as_deref().filter(|version| !version.is_empty());
    Ok(Guard {
        capabilities: each(format_args!("{at}.caps"), guard.caps.as_deref(), |at, name| {
            capability(at, name)
        })?,
        arches,
        min_kernel: min_kernel
            .map(|version| kernel_version(format_args!("{at}.minKernel"), version))
            .transpose()?,
        shared_pids: false,
    })
}

fn capability(at: Arguments<'_>, name: &str) -> Result<Capability, SpecError> {
    capabilities::named(OPTION, name).map_err(|mut error| {
        error.reason = format!("{at} is not a capability").into();
        error
    })
}

fn kernel_version(at: Arguments<'_>, text: &str) -> Result<KernelVersion, SpecError> {
    let number = |part: &str| {
        // `parse` would accept a sign.
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    text.split_once('.')
        .and_then(|(major, minor)| {
            Some(KernelVersion { major: number(major)?, minor: number(minor)? })
        })
        .filter(|version| (version.major, version.minor) != (0, 0))
        .ok_or_else(|| {
            wrong_text(
                at,
                text,
                "is not a version of Linux",
                "Write two numbers with a dot, \"4.8\" for example",
            )
        })
}

/// Call `read` with the place and the value of every item of a list, and return the results.
fn each<T, R>(
    at: Arguments<'_>,
    items: Option<&[T]>,
    read: impl Fn(Arguments<'_>, &T) -> Result<R, SpecError>,
) -> Result<Vec<R>, SpecError> {
    let items = items.unwrap_or_default().iter().enumerate();
    items.map(|(i, item)| read(format_args!("{at}[{i}]"), item)).collect()
}

/// Return the table's value for `name`.
fn one_of<T: Copy>(
    at: Arguments<'_>,
    what: &str,
    name: &str,
    table: &'static [(&'static str, T)],
) -> Result<T, SpecError> {
    table.iter().find(|(known, _)| *known == name).map(|&(_, value)| value).ok_or_else(|| {
        let known = table.iter().map(|&(known, _)| known);
        wrong_text(at, name, &format!("is not {what}"), nearest_of(name, known))
    })
}

fn within(at: Arguments<'_>, number: u64, most: u64) -> Result<u64, SpecError> {
    if number <= most {
        return Ok(number);
    }
    let remedy = format!("Write a whole number from 0 to {most}");
    Err(wrong(at, number.to_string(), "is out of range", remedy))
}

/// Return a remedy with the nearest of the known names, or with all of them.
fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    nearest_or(name, known.clone(), || {
        format!("It is one of {}", known.collect::<Vec<_>>().join(", "))
    })
}

/// Return an error about the value at `at`; `reason` is the predicate of a sentence about the place.
fn wrong(
    at: Arguments<'_>,
    value: impl Into<Value>,
    reason: &str,
    remedy: impl Into<Remedy>,
) -> SpecError {
    SpecError::new(OPTION, value, format!("{at} {reason}"), remedy)
}

fn wrong_text(at: Arguments<'_>, text: &str, reason: &str, remedy: impl Into<Remedy>) -> SpecError {
    wrong(at, format!("{text:?}"), reason, remedy)
}
