//! docker's JSON profile format → [`SeccompProfile`].
//!
//! The format is that of docker's `--security-opt seccomp=FILE`, with the two keys that Podman adds
//! (`errno` and `defaultErrno`, the names of the numbers in `errnoRet` and `defaultErrnoRet`). What
//! docker would drop in silence (an unknown key, an unknown system call, a key that is there twice)
//! is an error here: a rule that does not hold is worse than none, since somebody relies on it.

use super::document::{Node, OPTION, Object, Path, nearest_of};
use super::json::Json;
use super::{
    Action, Arch, Comparison, Condition, Guard, Horizon, KernelVersion, Rule, SeccompProfile,
    Syscall, Width, errno,
};
use crate::error::SpecError;
use crate::spec::capabilities;

/// libseccomp's names of actions; the number that may stand beside `ERRNO` and `TRACE` comes later.
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

/// libseccomp's names of architectures, and the ones that a filter here can have.
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
    // Refused by every filter, as by kernels without it: see `SeccompProfile::action_for`.
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

const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

impl SeccompProfile {
    /// The profile in `text`, in docker's JSON format.
    ///
    /// # Errors
    ///
    /// Text that is not JSON, and whatever the format does not have: the error names the place, the
    /// value and, where there is one, the nearest right one.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let document: Json = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
        profile(Node { value: &document, path: &Path::Root })
    }
}

fn not_json(text: &str, error: &serde_json::Error) -> SpecError {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default().trim();
    let shown: String = line.chars().take(60).collect();
    SpecError::of_text(
        OPTION,
        shown,
        format!("it is not a profile in JSON: {error}"),
        "Give a profile in docker's format, or the path of a file that has one",
    )
}

fn profile(root: Node<'_>) -> Result<SeccompProfile, SpecError> {
    let object = root.object(&[
        "defaultAction",
        "defaultErrnoRet",
        "defaultErrno",
        "architectures",
        "archMap",
        "flags",
        "listenerPath",
        "listenerMetadata",
        "syscalls",
    ])?;
    let path = root.path;
    let action = object
        .read(path, "defaultAction", action)?
        .ok_or_else(|| root.missing("defaultAction", "Say what happens to other calls"))?;
    let number = number_of(&object, path, "defaultErrnoRet", "defaultErrno")?;
    let default_action = with_number(&root, action, number, "defaultErrnoRet")?;
    for key in ["listenerPath", "listenerMetadata"] {
        object.read(path, key, |node| match node.text()? {
            "" => Ok(()),
            _ => Err(no_listener(&node)),
        })?;
    }
    let flags = object.read(path, "flags", |node| {
        let flags = node.each(|node| node.one_of("a flag of a filter", FLAGS))?;
        Ok(flags.into_iter().fold(0, |flags, flag| flags | flag))
    })?;
    let listed = object
        .read(path, "architectures", |node| {
            node.each(|node| node.one_of("an architecture", ARCHITECTURES))
        })?
        .unwrap_or_default();
    let mapped = object.read(path, "archMap", arch_map)?.unwrap_or_default();
    if let (false, Some(map)) = (listed.is_empty(), object.get("archMap"))
        && *map != Json::List(Vec::new())
    {
        return Err(SpecError::of_text(
            OPTION,
            "archMap",
            "it is there beside architectures",
            "Keep one of the two",
        ));
    }
    let is_compat = |arch: &Arch| matches!(arch, Arch::X86 | Arch::Arm);
    let mut compat: Vec<Arch> =
        listed.into_iter().flatten().chain(mapped).filter(is_compat).collect();
    compat.dedup();
    let rules = object.read(path, "syscalls", |node| node.each(rules))?.unwrap_or_default();
    Ok(SeccompProfile {
        default_action,
        compat,
        flags: flags.unwrap_or(0),
        rules: rules.into_iter().flatten().collect(),
        horizon: Horizon::Rules,
    })
}

fn no_listener(node: &Node<'_>) -> SpecError {
    node.error(
        "asks for a process outside that decides each call",
        "Deny the calls, or allow them: SCMP_ACT_ERRNO, SCMP_ACT_LOG or SCMP_ACT_ALLOW",
    )
}

/// The 32-bit interfaces below the architectures that have them.
fn arch_map(node: Node<'_>) -> Result<Vec<Arch>, SpecError> {
    let entries = node.each(|node| {
        let object = node.object(&["architecture", "subArchitectures"])?;
        let main = object
            .read(node.path, "architecture", |node| node.one_of("an architecture", ARCHITECTURES))?
            .ok_or_else(|| node.missing("architecture", "Name it, SCMP_ARCH_X86_64 for example"))?;
        let subs = object.read(node.path, "subArchitectures", |node| {
            node.each(|node| node.one_of("an architecture", ARCHITECTURES))
        })?;
        let compat = main.and_then(Arch::compat);
        Ok(subs.unwrap_or_default().into_iter().flatten().filter(move |&sub| Some(sub) == compat))
    })?;
    Ok(entries.into_iter().flatten().collect())
}

fn action(node: Node<'_>) -> Result<Action, SpecError> {
    if node.text()? == "SCMP_ACT_NOTIFY" {
        return Err(no_listener(&node));
    }
    node.one_of("an action", ACTIONS)
}

/// The number that an action carries, from its number or its name.
fn number_of(
    object: &Object<'_>,
    parent: &Path<'_>,
    number_key: &'static str,
    name_key: &'static str,
) -> Result<Option<u16>, SpecError> {
    let most = u64::from(errno::HIGHEST);
    let number = object.read(parent, number_key, |node| Ok(node.number(most)? as u16))?;
    object
        .read(parent, name_key, |node| {
            let text = node.text()?;
            if text.is_empty() {
                return Ok(number);
            }
            let named = errno::by_name(text).ok_or_else(|| {
                node.error("is not the name of an errno", nearest_of(text, errno::names()))
            })?;
            match number {
                Some(number) if number != named => Err(node.error(
                    &format!("is {named}, and {number_key} is {number}"),
                    "Keep one of the two",
                )),
                _ => Ok(Some(named)),
            }
        })
        .map(|named| named.flatten().or(number))
}

/// The action with its number, which only some can have.
fn with_number(
    node: &Node<'_>,
    action: Action,
    number: Option<u16>,
    key: &str,
) -> Result<Action, SpecError> {
    match (action, number) {
        (Action::Errno(_), Some(errno)) => Ok(Action::Errno(errno)),
        (Action::Trace(_), Some(data)) => Ok(Action::Trace(data)),
        // A zero is what docker writes when it has been asked for nothing.
        (_, None | Some(0)) => Ok(action),
        (_, Some(number)) => Err(SpecError::of_text(
            OPTION,
            format!("{key}: {number}"),
            format!("in {} it stands beside an action that returns no errno", node.path),
            "Leave it out, or make the action SCMP_ACT_ERRNO",
        )),
    }
}

/// The rules of one entry of `syscalls`: more than one where an argument is compared twice.
fn rules(node: Node<'_>) -> Result<Vec<Rule>, SpecError> {
    let object = node.object(&[
        "names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes",
    ])?;
    let path = node.path;
    object.read(path, "comment", |node| node.text().map(drop))?;
    let single = object.read(path, "name", |node| match node.text()? {
        "" => Ok(None),
        _ => syscall(node).map(Some),
    })?;
    let several = object.read(path, "names", |node| node.each(syscall))?.unwrap_or_default();
    let calls = match (single.flatten(), several) {
        (None, several) if several.is_empty() => {
            return Err(node.missing("names", "List the system calls that the rule is for"));
        }
        (None, several) => several,
        (Some(single), several) if several.is_empty() => vec![single],
        (Some(single), _) => {
            return Err(SpecError::of_text(
                OPTION,
                single.name(),
                format!("it is the name of {path}, which has names too"),
                "Keep one of the two",
            ));
        }
    };
    let action = object
        .read(path, "action", action)?
        .ok_or_else(|| node.missing("action", "Say what happens to these calls"))?;
    let number = number_of(&object, path, "errnoRet", "errno")?;
    let action = with_number(&node, action, number, "errnoRet")?;
    let conditions = object.read(path, "args", |node| node.each(condition))?.unwrap_or_default();
    let includes = object.read(path, "includes", guard)?.unwrap_or_default();
    let excludes = object.read(path, "excludes", guard)?.unwrap_or_default();
    let rule = |conditions| Rule {
        calls: calls.clone(),
        action,
        conditions,
        includes: includes.clone(),
        excludes: excludes.clone(),
    };
    // runc and docker since 2016: comparisons of one argument are alternatives.
    let twice = (0..6).any(|index| conditions.iter().filter(|c| c.index == index).count() > 1);
    Ok(if twice {
        conditions.into_iter().map(|condition| rule(vec![condition])).collect()
    } else {
        vec![rule(conditions)]
    })
}

fn syscall(node: Node<'_>) -> Result<Syscall, SpecError> {
    node.text()?.parse().map_err(|unknown: super::syscalls::UnknownSyscall| {
        let remedy = unknown.nearest.map_or_else(
            || "Leave it out; syscalls(2) lists them".into(),
            |nearest| format!("Did you mean {nearest:?}?"),
        );
        node.error("is not a system call of Linux", remedy)
    })
}

fn condition(node: Node<'_>) -> Result<Condition, SpecError> {
    let object = node.object(&["index", "value", "valueTwo", "op"])?;
    let path = node.path;
    let index = object
        .read(path, "index", |node| node.number(5))?
        .ok_or_else(|| node.missing("index", "Number the arguments from 0 to 5"))?;
    let value = object.read(path, "value", |node| node.number(u64::MAX))?.unwrap_or(0);
    let second = object.read(path, "valueTwo", |node| node.number(u64::MAX))?.unwrap_or(0);
    let operator = object
        .read(path, "op", |node| {
            let text = node.text()?;
            let known = OPERATORS.iter().copied().find(|known| *known == text);
            known.ok_or_else(|| {
                node.error("is not a comparison", nearest_of(text, OPERATORS.iter().copied()))
            })
        })?
        .ok_or_else(|| node.missing("op", "Say how it is compared, SCMP_CMP_EQ for example"))?;
    let comparison = match operator {
        "SCMP_CMP_EQ" => Comparison::Equal(value),
        "SCMP_CMP_NE" => Comparison::NotEqual(value),
        "SCMP_CMP_LT" => Comparison::Less(value),
        "SCMP_CMP_LE" => Comparison::LessOrEqual(value),
        "SCMP_CMP_GT" => Comparison::Greater(value),
        "SCMP_CMP_GE" => Comparison::GreaterOrEqual(value),
        _ => Comparison::MaskedEqual { mask: value, value: second },
    };
    let wrong = |reason: String, remedy: String| {
        Err(SpecError::of_text(OPTION, format!("valueTwo: {second}"), reason, remedy))
    };
    match comparison {
        Comparison::MaskedEqual { mask, value } if value & !mask != 0 => wrong(
            format!("{path} has bits outside the mask {mask}, so that the rule could never hold"),
            "The mask is value, and what it is compared with is valueTwo".into(),
        ),
        Comparison::MaskedEqual { .. } => Ok(()),
        _ if second != 0 => wrong(
            format!("in {path} it has no meaning beside {operator}"),
            "Leave it out, or compare with SCMP_CMP_MASKED_EQ".into(),
        ),
        _ => Ok(()),
    }?;
    Ok(Condition { index: index as u8, width: Width::Full64, comparison })
}

fn guard(node: Node<'_>) -> Result<Guard, SpecError> {
    let object = node.object(&["caps", "arches", "minKernel"])?;
    let path = node.path;
    let capabilities = object.read(path, "caps", |node| {
        node.each(|node| {
            capabilities::named(OPTION, node.text()?).map_err(|mut error| {
                error.reason = format!("{} is not a capability", node.path);
                error
            })
        })
    })?;
    let arches = object.read(path, "arches", |node| {
        node.each(|node| {
            let text = node.text()?;
            if DOCKER_ARCHES.contains(&text) {
                Ok(text.to_owned())
            } else {
                Err(node.error(
                    "is not an architecture",
                    nearest_of(text, DOCKER_ARCHES.iter().copied()),
                ))
            }
        })
    })?;
    let min_kernel = object.read(path, "minKernel", min_kernel)?.flatten();
    Ok(Guard {
        capabilities: capabilities.unwrap_or_default(),
        arches: arches.unwrap_or_default(),
        min_kernel,
    })
}

fn min_kernel(node: Node<'_>) -> Result<Option<KernelVersion>, SpecError> {
    let text = node.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let number = |part: &str| {
        // `parse` would take a sign.
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    text.split_once('.')
        .and_then(|(major, minor)| {
            Some(KernelVersion { major: number(major)?, minor: number(minor)? })
        })
        .filter(|version| (version.major, version.minor) != (0, 0))
        .map(Some)
        .ok_or_else(|| {
            node.error(
                "is not a version of Linux",
                "Write two numbers with a dot, \"4.8\" for example",
            )
        })
}
