//! The compiler from a profile to BPF.
//!
//! Consecutive numbers with the same answer become one interval, and the intervals become a binary tree of
//! comparisons: eight comparisons decide docker's list of 430 names. This also speeds up the installation,
//! when the kernel runs the program once for every number to find the calls that are allowed with any
//! arguments.

use super::assembler::{Assembler, Next, Test};
use super::{
    Action, Arch, Comparison, Condition, Filter, OnDenied, Platform, SeccompProfile, Width, X32_BIT,
};
use crate::error::SpecError;

/// `offsetof(struct seccomp_data, nr)`.
const NUMBER: u32 = 0;
/// `offsetof(struct seccomp_data, arch)`.
const ARCH: u32 = 4;
/// `offsetof(struct seccomp_data, args)`.
const ARGS: u32 = 16;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// Compile `profile` for `target`.
///
/// With any profile, a call through the x32 interface fails with ENOSYS, and a call of an architecture that
/// the profile does not have ends the process.
///
/// # Errors
///
/// The filter would be longer than the kernel's maximum of 4,096 instructions.
pub fn compile(
    profile: &SeccompProfile,
    target: &Platform,
    on_denied: OnDenied,
) -> Result<Filter, SpecError> {
    let mut assembler = Assembler::new();
    let mut start = Next::Return(Action::KillProcess.value());
    let compat = target.arch.compat().filter(|&arch| profile.has_compat(target, arch));
    for arch in compat.into_iter().chain([target.arch]) {
        let calls = calls(&mut assembler, profile, target, arch, on_denied);
        start = assembler.branch(Test::Equal, arch.audit(), calls, start);
    }
    let start = assembler.load(ARCH, start);
    let program = assembler.finish(start);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SpecError::new(
            "seccomp",
            format!("<{} rules>", profile.rules.len()),
            format!(
                "they compile to {} instructions; the kernel takes at most {MAX_INSTRUCTIONS}",
                program.len()
            ),
            "Compare fewer arguments, or use masks",
        ));
    }
    let log = if on_denied == OnDenied::Log { libc::SECCOMP_FILTER_FLAG_LOG as u32 } else { 0 };
    Ok(Filter { program, flags: profile.flags | log })
}

/// A rule for a call: the call's number, the rule's leniency, and the rule's index in the profile.
///
/// Sorting groups the rules of a call, the strictest first, and equally strict ones in the profile's order.
type RankedRule = (u32, u8, usize);

/// Write the part for one architecture's calls and return its start.
fn calls(
    assembler: &mut Assembler,
    profile: &SeccompProfile,
    target: &Platform,
    arch: Arch,
    on_denied: OnDenied,
) -> Next {
    let mut entries: Vec<RankedRule> = Vec::with_capacity(512);
    for (place, rule) in profile.rules.iter().enumerate().filter(|(_, rule)| rule.applies(target)) {
        let leniency = rule.action.leniency();
        let numbers = rule.calls.iter().filter_map(|call| call.number(arch));
        entries.extend(numbers.map(|number| (number, leniency, place)));
    }
    entries.sort_unstable();
    entries.dedup();

    let horizon = profile.highest_known(arch);
    let default = |number| {
        let known = number <= horizon || profile.default_action.is_permissive();
        answer(if known { profile.default_action } else { Action::UNKNOWN }, on_denied)
    };
    let mut intervals = Intervals(vec![(0, default(0))]);
    // Calls with the same conditional rules share the instructions that test them.
    let mut tried_before: Vec<(&[RankedRule], Next, Next)> = Vec::new();
    // ARM's private calls lie beyond the horizon; the numbers in between are unknown.
    let (sequence, private) = entries.split_at(entries.partition_point(|entry| entry.0 <= horizon));
    let in_order = sequence.chunk_by(same_number).map(Some).chain([None]);
    for call in in_order.chain(private.chunk_by(same_number).map(Some)) {
        let Some(call) = call else {
            intervals.begin(horizon + 1, default(horizon + 1));
            continue;
        };
        let number = call[0].0;
        // The first rule without conditions decides, so the filter tests no later rule.
        let last =
            call.iter().position(|&(_, _, place)| profile.rules[place].conditions.is_empty());
        let (tried, otherwise) = match last {
            Some(last) => (&call[..last], answer(profile.rules[call[last].2].action, on_denied)),
            None => (call, default(number)),
        };
        let same = |&&(before, other, _): &&(&[RankedRule], Next, Next)| {
            other == otherwise
                && before.iter().map(|entry| entry.2).eq(tried.iter().map(|entry| entry.2))
        };
        let next = match tried_before.iter().find(same) {
            _ if tried.is_empty() => otherwise,
            Some(&(_, _, next)) => next,
            None => {
                let rules = tried.iter().map(|&(_, _, place)| &profile.rules[place]);
                let alternatives: Vec<Alternative<'_>> =
                    rules.map(|rule| (&*rule.conditions, answer(rule.action, on_denied))).collect();
                let next = first_that_holds(assembler, &alternatives, otherwise);
                tried_before.push((tried, otherwise, next));
                next
            }
        };
        intervals.begin(number, next);
        intervals.begin(number + 1, default(number + 1));
    }

    let tree = tree(assembler, &intervals.0);
    let checked = if arch == Arch::X86_64 {
        assembler.branch(Test::GreaterOrEqual, X32_BIT, Next::Return(Action::UNKNOWN.value()), tree)
    } else {
        tree
    };
    assembler.load(NUMBER, checked)
}

fn same_number(a: &RankedRule, b: &RankedRule) -> bool {
    a.0 == b.0
}

/// Return the end of a filter that takes this action.
fn answer(action: Action, on_denied: OnDenied) -> Next {
    Next::Return(denied_as(action, on_denied).value())
}

fn denied_as(action: Action, on_denied: OnDenied) -> Action {
    match action {
        Action::Errno(_) if action != Action::UNKNOWN && on_denied == OnDenied::Kill => {
            Action::KillProcess
        }
        _ => action,
    }
}

/// The first number of each interval with one answer.
struct Intervals(Vec<(u32, Next)>);

impl Intervals {
    /// Begin an interval at `number` with the answer `next`. Numbers must ascend.
    fn begin(&mut self, number: u32, next: Next) {
        if self.0.last().is_some_and(|&(start, _)| start == number) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|&(_, last)| last != next) {
            self.0.push((number, next));
        }
    }
}

/// Write the balanced tree that finds the interval of the number in the accumulator.
fn tree(assembler: &mut Assembler, intervals: &[(u32, Next)]) -> Next {
    if let [(_, only)] = intervals {
        return *only;
    }
    let (left, right) = intervals.split_at(intervals.len() / 2);
    let start = right[0].0;
    let right = tree(assembler, right);
    let left = tree(assembler, left);
    assembler.branch(Test::GreaterOrEqual, start, right, left)
}

/// Write a test that goes to `yes` if every condition holds, else to `no`.
fn all_of(assembler: &mut Assembler, conditions: &[Condition], yes: Next, no: Next) -> Next {
    conditions.iter().rev().fold(yes, |yes, condition| check(assembler, condition, yes, no))
}

/// Conditions, and the next step if all of them hold.
type Alternative<'a> = (&'a [Condition], Next);

/// Write tests that go to the first alternative whose conditions hold, else to `otherwise`.
fn first_that_holds(
    assembler: &mut Assembler,
    alternatives: &[Alternative<'_>],
    otherwise: Next,
) -> Next {
    alternatives.chunk_by(|a, b| same_word(*a, *b)).rev().fold(otherwise, |no, group| match group {
        [(conditions, yes)] => all_of(assembler, conditions, *yes, no),
        _ => one_of(assembler, group, no),
    })
}

/// Return whether two alternatives can share their loads.
///
/// Both compare the same argument for equality, with the same next step and equal high words.
fn same_word(a: Alternative<'_>, b: Alternative<'_>) -> bool {
    match (equal_to(a.0), equal_to(b.0)) {
        (Some((first, x)), Some((second, y))) => {
            a.1 == b.1
                && (first.index, first.width) == (second.index, second.width)
                && (first.width == Width::Low32 || x >> 32 == y >> 32)
        }
        _ => false,
    }
}

fn equal_to(conditions: &[Condition]) -> Option<(&Condition, u64)> {
    match conditions {
        [condition] => match condition.comparison {
            Comparison::Equal(value) => Some((condition, value)),
            _ => None,
        },
        _ => None,
    }
}

/// Write the tests of alternatives that share their loads (see [`same_word`]).
fn one_of(assembler: &mut Assembler, group: &[Alternative<'_>], no: Next) -> Next {
    let yes = group[0].1;
    let mut low = no;
    for (_, value) in group.iter().rev().filter_map(|(conditions, _)| equal_to(conditions)) {
        low = assembler.branch(Test::Equal, value as u32, yes, low);
    }
    let Some((condition, value)) = equal_to(group[0].0) else {
        unreachable!("the alternatives of a group are comparisons");
    };
    let low = assembler.load(low_word(condition), low);
    match condition.width {
        Width::Low32 => low,
        Width::Full64 => high_is(assembler, condition, (value >> 32) as u32, low, no),
    }
}

fn low_word(condition: &Condition) -> u32 {
    ARGS + 8 * u32::from(condition.index)
}

fn high_is(assembler: &mut Assembler, of: &Condition, high: u32, yes: Next, no: Next) -> Next {
    let equal = assembler.branch(Test::Equal, high, yes, no);
    assembler.load(low_word(of) + 4, equal)
}

/// Write a test that goes to `yes` if the condition holds, else to `no`.
fn check(assembler: &mut Assembler, condition: &Condition, yes: Next, no: Next) -> Next {
    match condition.comparison {
        Comparison::Equal(value) => equal(assembler, condition, u64::MAX, value, yes, no),
        Comparison::NotEqual(value) => equal(assembler, condition, u64::MAX, value, no, yes),
        Comparison::MaskedEqual { mask, value } => {
            equal(assembler, condition, mask, value, yes, no)
        }
        Comparison::Greater(value) => above(assembler, condition, Test::Greater, value, yes, no),
        Comparison::GreaterOrEqual(value) => {
            above(assembler, condition, Test::GreaterOrEqual, value, yes, no)
        }
        Comparison::LessOrEqual(value) => {
            above(assembler, condition, Test::Greater, value, no, yes)
        }
        Comparison::Less(value) => {
            above(assembler, condition, Test::GreaterOrEqual, value, no, yes)
        }
    }
}

fn equal(
    assembler: &mut Assembler,
    condition: &Condition,
    mask: u64,
    value: u64,
    yes: Next,
    no: Next,
) -> Next {
    let low = word(assembler, low_word(condition), mask as u32, value as u32, yes, no);
    match condition.width {
        Width::Low32 => low,
        Width::Full64 => {
            let (mask, value) = ((mask >> 32) as u32, (value >> 32) as u32);
            word(assembler, low_word(condition) + 4, mask, value, low, no)
        }
    }
}

/// Write a comparison of the bits under `mask` in one 32-bit word.
fn word(
    assembler: &mut Assembler,
    offset: u32,
    mask: u32,
    value: u32,
    yes: Next,
    no: Next,
) -> Next {
    match mask {
        0 if value == 0 => yes,
        0 => no,
        u32::MAX => {
            let equal = assembler.branch(Test::Equal, value, yes, no);
            assembler.load(offset, equal)
        }
        _ if value == 0 => {
            let clear = assembler.branch(Test::AnyBit, mask, no, yes);
            assembler.load(offset, clear)
        }
        _ => {
            let equal = assembler.branch(Test::Equal, value, yes, no);
            let masked = assembler.and(mask, equal);
            assembler.load(offset, masked)
        }
    }
}

/// Write a test that goes to `yes` if the argument is above `value`.
///
/// `test` compares the low words: it decides whether an equal argument passes.
fn above(
    assembler: &mut Assembler,
    condition: &Condition,
    test: Test,
    value: u64,
    yes: Next,
    no: Next,
) -> Next {
    let low = assembler.branch(test, value as u32, yes, no);
    let low = assembler.load(low_word(condition), low);
    match condition.width {
        Width::Low32 => low,
        Width::Full64 => {
            let high = (value >> 32) as u32;
            let not_above = assembler.branch(Test::Equal, high, low, no);
            let decided = assembler.branch(Test::Greater, high, yes, not_above);
            assembler.load(low_word(condition) + 4, decided)
        }
    }
}
