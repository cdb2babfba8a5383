//! Profiles from lists of system calls.

use super::{
    Action, Comparison, Condition, Horizon, Rule, SeccompProfile, Syscall, Width, errno,
    syscalls::UnknownSyscall,
};
use crate::error::SpecError;

/// What happens to some system calls, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRule {
    /// The names of the system calls.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// The conditions. **All** must hold, even several for the same argument.
    pub args: Vec<ArgCondition>,
}

/// A condition on an argument of a [`CallRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArgCondition {
    /// Which argument, from 0 to 5.
    pub index: u8,
    /// The comparison.
    pub comparison: Comparison,
    /// Whether only the low 32 bits are compared, as is right for an argument that the kernel reads as an `int`.
    pub low32: bool,
}

impl SeccompProfile {
    /// The profile that allows every call.
    pub const ALLOW_ALL: Self = Self::plain(Action::Allow);
    /// The profile that refuses every call with EPERM.
    pub const DENY_ALL: Self = Self::plain(Action::REFUSE);

    const fn plain(default_action: Action) -> Self {
        Self {
            default_action,
            compat: Vec::new(),
            flags: 0,
            rules: Vec::new(),
            horizon: Horizon::Table,
        }
    }

    /// Return this profile with the calls in `allow` allowed and those in `deny` refused with EPERM.
    ///
    /// The new rules hold for any arguments, and replace the existing rules for these calls.
    ///
    /// # Errors
    ///
    /// An unknown system call, or one in both lists.
    pub fn adjusted<S: AsRef<str>>(&self, allow: &[S], deny: &[S]) -> Result<Self, SpecError> {
        let calls = |names: &[S]| {
            names.iter().map(|name| call(name.as_ref())).collect::<Result<Vec<_>, _>>()
        };
        let (allowed, denied) = (calls(allow)?, calls(deny)?);
        if let Some(both) = allowed.iter().find(|call| denied.contains(call)) {
            return Err(SpecError::of_text(
                "seccomp",
                both.name(),
                "it is in both allow and deny",
                "Keep it in one of the two lists",
            ));
        }
        let mut adjusted = self.clone();
        for rule in &mut adjusted.rules {
            rule.calls.retain(|call| !allowed.contains(call) && !denied.contains(call));
        }
        adjusted.rules.retain(|rule| !rule.calls.is_empty());
        let new = [(allowed, Action::Allow), (denied, Action::REFUSE)];
        let new = new.into_iter().filter(|(calls, _)| !calls.is_empty());
        adjusted.rules.extend(new.map(|(calls, action)| Rule::new(calls, action)));
        Ok(adjusted)
    }

    /// Return the profile of `rules`, with `default_action` for every other call.
    ///
    /// # Errors
    ///
    /// An unknown system call, a rule without a name, an argument above 5, an errno above 4,095, a comparison
    /// that can never match.
    pub fn from_calls(default_action: Action, rules: &[CallRule]) -> Result<Self, SpecError> {
        check_action(default_action)?;
        let rules = rules.iter().map(rule).collect::<Result<_, _>>()?;
        let (compat, flags, horizon) = (Vec::new(), 0, Horizon::Table);
        Ok(Self { default_action, compat, flags, rules, horizon })
    }

    /// Return the profile that allows these calls and refuses every other with EPERM.
    ///
    /// # Errors
    ///
    /// An unknown system call, or no name.
    pub fn allow<S: AsRef<str>>(names: &[S]) -> Result<Self, SpecError> {
        Self::from_calls(Action::REFUSE, &[CallRule::of(names, Action::Allow)])
    }

    /// Return the profile that refuses these calls with EPERM and allows every other.
    ///
    /// # Errors
    ///
    /// An unknown system call, or no name.
    pub fn deny<S: AsRef<str>>(names: &[S]) -> Result<Self, SpecError> {
        Self::from_calls(Action::Allow, &[CallRule::of(names, Action::REFUSE)])
    }
}

impl CallRule {
    fn of<S: AsRef<str>>(names: &[S], action: Action) -> Self {
        let names = names.iter().map(|name| name.as_ref().to_owned()).collect();
        Self { names, action, args: Vec::new() }
    }
}

fn rule(rule: &CallRule) -> Result<Rule, SpecError> {
    check_action(rule.action)?;
    if rule.names.is_empty() {
        return Err(SpecError::new(
            "seccomp",
            "[]",
            "a rule names no system call",
            "List the calls of the rule",
        ));
    }
    let calls = rule.names.iter().map(|name| call(name)).collect::<Result<_, _>>()?;
    let conditions = rule.args.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(Rule::new(calls, rule.action).when(conditions))
}

fn call(name: &str) -> Result<Syscall, SpecError> {
    name.parse().map_err(|unknown: UnknownSyscall| {
        let reason = "it is not a system call of Linux";
        SpecError::of_text("seccomp", name, reason, unknown.remedy())
    })
}

fn condition(arg: &ArgCondition) -> Result<Condition, SpecError> {
    let wrong = |value: String, reason: &'static str, remedy: &'static str| {
        Err(SpecError::new("seccomp", value, reason, remedy))
    };
    if arg.index > 5 {
        return wrong(
            arg.index.to_string(),
            "it is not the index of an argument",
            "Number them from 0 to 5",
        );
    }
    let value = match arg.comparison {
        Comparison::Equal(value)
        | Comparison::NotEqual(value)
        | Comparison::Less(value)
        | Comparison::LessOrEqual(value)
        | Comparison::Greater(value)
        | Comparison::GreaterOrEqual(value) => value,
        Comparison::MaskedEqual { mask, value } if value & !mask != 0 => {
            return wrong(
                format!("{value:#x}"),
                "it has bits outside its mask, so the rule can never match",
                "Widen the mask, or clear those bits",
            );
        }
        Comparison::MaskedEqual { mask, .. } => mask,
    };
    if arg.low32 && value > u64::from(u32::MAX) {
        return wrong(
            format!("{value:#x}"),
            "it does not fit in the low 32 bits, and the rule compares only those",
            "Compare all 64 bits",
        );
    }
    let width = if arg.low32 { Width::Low32 } else { Width::Full64 };
    Ok(Condition { index: arg.index, width, comparison: arg.comparison })
}

fn check_action(action: Action) -> Result<(), SpecError> {
    match action {
        Action::Errno(number) if number > errno::HIGHEST => Err(SpecError::new(
            "seccomp",
            number.to_string(),
            "it is not an errno",
            "Give a number from 1 to 4095",
        )),
        _ => Ok(()),
    }
}
