//! Properties of any profile.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::tests::assert_means_its_rules;
use super::{
    Action, Arch, Comparison, Condition, Guard, Horizon, KernelVersion, OnDenied, Platform, Rule,
    SeccompProfile, Syscall, Width, compile,
};
use crate::spec::capabilities::{Capability, CapabilitySet};

fn arb_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        select(vec![
            0,
            1,
            2,
            5,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
            1 << 32,
            (1 << 32) + 1,
            5 << 32,
            (5 << 32) | 5,
            u64::MAX - 1,
            u64::MAX,
        ]),
        any::<u64>(),
    ]
}

fn arb_comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        3 => arb_value().prop_map(Comparison::Equal),
        1 => arb_value().prop_map(Comparison::NotEqual),
        1 => arb_value().prop_map(Comparison::Less),
        1 => arb_value().prop_map(Comparison::LessOrEqual),
        1 => arb_value().prop_map(Comparison::Greater),
        1 => arb_value().prop_map(Comparison::GreaterOrEqual),
        1 => (arb_value(), arb_value())
            .prop_map(|(mask, value)| Comparison::MaskedEqual { mask, value: value & mask }),
    ]
}

fn arb_condition() -> impl Strategy<Value = Condition> {
    (0..3u8, any::<bool>(), arb_comparison()).prop_map(|(index, low, comparison)| Condition {
        index,
        width: if low { Width::Low32 } else { Width::Full64 },
        comparison,
    })
}

fn arb_action() -> impl Strategy<Value = Action> {
    select(vec![
        Action::Allow,
        Action::Log,
        Action::REFUSE,
        Action::UNKNOWN,
        Action::Errno(13),
        Action::KillProcess,
        Action::KillThread,
        Action::Trap(0),
        Action::Trace(7),
    ])
}

fn arb_calls() -> impl Strategy<Value = Vec<Syscall>> {
    let few = select(Syscall::listed("read write openat socket set_tls mseal clone ioctl _llseek"));
    let any = select(Syscall::all().collect::<Vec<_>>());
    prop_oneof![vec(few, 1..4), vec(any, 1..40)]
}

fn arb_guard() -> impl Strategy<Value = Guard> {
    let capability = select(vec![Capability::CHOWN, Capability::SYS_ADMIN]);
    let arch = select(vec!["amd64".to_owned(), "arm64".to_owned(), "s390x".to_owned()]);
    let version = (3..8u16, 0..20u16).prop_map(|(major, minor)| KernelVersion { major, minor });
    prop_oneof![
        2 => Just(Guard::default()),
        1 => (vec(capability, 0..2), vec(arch, 0..2), proptest::option::of(version)).prop_map(
            |(capabilities, arches, min_kernel)| {
                Guard { capabilities, arches, min_kernel, shared_pids: false }
            }
        ),
    ]
}

fn arb_rule() -> impl Strategy<Value = Rule> {
    let conditions = vec(arb_condition(), 0..4);
    (arb_calls(), arb_action(), conditions, arb_guard(), arb_guard()).prop_map(
        |(calls, action, conditions, includes, excludes)| Rule {
            calls,
            action,
            conditions,
            includes,
            excludes,
        },
    )
}

fn arb_profile() -> impl Strategy<Value = SeccompProfile> {
    let compat = select(vec![vec![], vec![Arch::X86], vec![Arch::Arm], vec![Arch::X86, Arch::Arm]]);
    let horizon = select(vec![Horizon::Rules, Horizon::Table]);
    (arb_action(), compat, 0..8u32, vec(arb_rule(), 0..15), horizon).prop_map(
        |(default_action, compat, flags, rules, horizon)| SeccompProfile {
            default_action,
            compat,
            flags,
            rules,
            horizon,
        },
    )
}

fn arb_target() -> impl Strategy<Value = Platform> {
    let set = select(vec![CapabilitySet::EMPTY, CapabilitySet::DOCKER, CapabilitySet::up_to(40)]);
    (select(vec![Arch::X86_64, Arch::Aarch64]), 4..8u16, set, any::<bool>()).prop_map(
        |(arch, major, capabilities, shares_pids)| {
            let kernel = KernelVersion { major, minor: 8 };
            Platform { arch, kernel, capabilities, shares_pids }
        },
    )
}

fn arb_args() -> impl Strategy<Value = [u64; 6]> {
    [arb_value(), arb_value(), arb_value(), arb_value(), arb_value(), arb_value()]
}

/// Return the profile in docker's format.
fn to_json(profile: &SeccompProfile) -> String {
    let action = |action: Action| match action {
        Action::KillProcess => "\"SCMP_ACT_KILL_PROCESS\"".to_owned(),
        Action::KillThread => "\"SCMP_ACT_KILL\"".to_owned(),
        Action::Trap(_) => "\"SCMP_ACT_TRAP\"".to_owned(),
        Action::Log => "\"SCMP_ACT_LOG\"".to_owned(),
        Action::Allow => "\"SCMP_ACT_ALLOW\"".to_owned(),
        Action::Errno(_) => "\"SCMP_ACT_ERRNO\"".to_owned(),
        Action::Trace(_) => "\"SCMP_ACT_TRACE\"".to_owned(),
    };
    let number = |key: &str, action: Action| match action {
        Action::Errno(number) | Action::Trace(number) => format!(", {key:?}: {number}"),
        _ => format!(", {key:?}: null"),
    };
    let guard = |guard: &Guard| {
        let capabilities: Vec<String> =
            guard.capabilities.iter().map(|capability| format!("\"{capability}\"")).collect();
        let kernel = guard.min_kernel.map_or(String::new(), |version| {
            format!(", \"minKernel\": \"{}.{}\"", version.major, version.minor)
        });
        format!(
            "{{\"caps\": [{}], \"arches\": {:?}{kernel}}}",
            capabilities.join(","),
            guard.arches
        )
    };
    let args = |conditions: &[Condition]| {
        let arguments: Vec<String> = conditions
            .iter()
            .map(|condition| {
                let (op, value, two) = match condition.comparison {
                    Comparison::Equal(value) => ("EQ", value, 0),
                    Comparison::NotEqual(value) => ("NE", value, 0),
                    Comparison::Less(value) => ("LT", value, 0),
                    Comparison::LessOrEqual(value) => ("LE", value, 0),
                    Comparison::Greater(value) => ("GT", value, 0),
                    Comparison::GreaterOrEqual(value) => ("GE", value, 0),
                    Comparison::MaskedEqual { mask, value } => ("MASKED_EQ", mask, value),
                };
                let index = condition.index;
                format!(
                    "{{\"index\": {index}, \"value\": {value}, \"valueTwo\": {two}, \"op\": \"SCMP_CMP_{op}\"}}"
                )
            })
            .collect();
        format!("[{}]", arguments.join(", "))
    };
    let rules: Vec<String> = profile
        .rules
        .iter()
        .map(|rule| {
            format!(
                "{{\"names\": {:?}, \"action\": {}{}, \"args\": {}, \"includes\": {}, \"excludes\": {}}}",
                rule.calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
                action(rule.action),
                number("errnoRet", rule.action),
                args(&rule.conditions),
                guard(&rule.includes),
                guard(&rule.excludes),
            )
        })
        .collect();
    let map = |main, sub, arch| {
        let subs = if profile.compat.contains(&arch) {
            format!("[\"SCMP_ARCH_{sub}\"]")
        } else {
            "null".into()
        };
        format!("{{\"architecture\": \"SCMP_ARCH_{main}\", \"subArchitectures\": {subs}}}")
    };
    let flags: Vec<&str> = ["TSYNC", "LOG", "SPEC_ALLOW"]
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| profile.flags & 1 << bit != 0)
        .map(|(_, name)| name)
        .collect();
    let flags: Vec<String> =
        flags.iter().map(|name| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
    format!(
        "{{\"defaultAction\": {}{}, \"archMap\": [{}, {}], \"flags\": {flags:?}, \"syscalls\": [{}]}}",
        action(profile.default_action),
        number("defaultErrnoRet", profile.default_action),
        map("X86_64", "X86", Arch::X86),
        map("AARCH64", "ARM", Arch::Arm),
        rules.join(",\n"),
    )
}

/// Reduce a profile to what docker's format can express: 64-bit comparisons, no argument twice.
fn in_dockers_terms(mut profile: SeccompProfile) -> SeccompProfile {
    profile.horizon = Horizon::Rules;
    for rule in &mut profile.rules {
        rule.conditions.sort_by_key(|condition| condition.index);
        rule.conditions.dedup_by_key(|condition| condition.index);
        for condition in &mut rule.conditions {
            condition.width = Width::Full64;
        }
    }
    profile
}

proptest! {
    #![proptest_config(crate::property_cases(96))]

    #[test]
    fn every_filter_means_its_rules(
        profile in arb_profile(),
        target in arb_target(),
        arguments in vec(arb_args(), 3),
    ) {
        prop_assume!(compile(&profile, &target, OnDenied::Errno).is_ok(), "too long");
        assert_means_its_rules(&profile, &target, &arguments);
    }

    #[test]
    fn a_profile_in_dockers_format_is_parsed_back_unchanged(profile in arb_profile()) {
        let profile = in_dockers_terms(profile);
        prop_assert_eq!(SeccompProfile::parse(&to_json(&profile)), Ok(profile));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        // A profile needs a default action, which random text does not have.
        prop_assert!(SeccompProfile::parse(&text).is_err());
    }

    #[test]
    fn a_profile_with_one_wrong_character_is_a_profile_or_an_error(
        profile in arb_profile(),
        at in any::<proptest::sample::Index>(),
        with in select("{}[]\",:0-9.eExX \u{e9}\u{0}".chars().collect::<Vec<_>>()),
    ) {
        let mut text: Vec<char> = to_json(&in_dockers_terms(profile)).chars().collect();
        let place = at.index(text.len());
        text[place] = with;
        if let Err(error) = SeccompProfile::parse(&text.iter().collect::<String>()) {
            prop_assert_eq!(error.option, "seccomp");
            prop_assert!(!error.reason.text().is_empty() && !error.remedy.text().is_empty());
        }
    }
}
