//! Tests of the parser: the profiles that it accepts, and its errors.

use super::{Action, Arch, Comparison, Condition, KernelVersion, SeccompProfile, Width};
use crate::spec::capabilities::Capability;

fn refused(text: &str) -> String {
    SeccompProfile::parse(text).unwrap_err().to_string()
}

/// Return a profile with this one entry in `syscalls`.
fn with_entry(entry: &str) -> String {
    format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{entry}]}}"#)
}

/// Return a profile with one rule for read(2) that has these `args`.
fn with_arg(arg: &str) -> String {
    with_entry(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{arg}]}}"#))
}

#[test]
fn a_complete_profile_is_parsed() {
    let profile = SeccompProfile::parse(
        r#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}
            ],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {
                    "names": ["clone", "swapcontext"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 13,
                    "args": [{"index": 1, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
                    "comment": "as docker has it",
                    "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"], "minKernel": "4.8"},
                    "excludes": {}
                },
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null}
            ]
        }"#,
    )
    .unwrap();
    assert_eq!(profile.default_action, Action::UNKNOWN);
    assert_eq!(profile.compat, [Arch::X86]);
    assert_eq!(profile.flags, 2);
    let [clone, read] = profile.rules.as_slice() else { panic!("{:?}", profile.rules) };
    assert_eq!(clone.action, Action::Errno(13));
    assert_eq!(
        clone.calls.iter().map(|call| call.name()).collect::<Vec<_>>(),
        ["clone", "swapcontext"]
    );
    let comparison = Comparison::MaskedEqual { mask: 0x7e02_0000, value: 0 };
    assert_eq!(clone.conditions, [Condition { index: 1, width: Width::Full64, comparison }]);
    assert_eq!(clone.includes.capabilities, [Capability::SYS_ADMIN]);
    assert_eq!(clone.includes.min_kernel, Some(KernelVersion { major: 4, minor: 8 }));
    assert_eq!((read.calls[0].name(), read.action), ("read", Action::Allow));
}

#[test]
fn podmans_names_of_errnos_are_parsed() {
    let profile = SeccompProfile::parse(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "defaultErrnoRet": 38,
            "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"},
                         {"names": ["read"], "action": "SCMP_ACT_ALLOW", "errno": ""}]}"#,
    )
    .unwrap();
    assert_eq!(profile.default_action, Action::UNKNOWN);
    assert_eq!(profile.rules[0].action, Action::Errno(13));
    assert!(
        refused(&with_entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EACCESS"}"#
        ))
        .ends_with("Did you mean \"EACCES\"?")
    );
    assert!(
        refused(&with_entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES", "errnoRet": 1}"#
        ))
        .contains("is 13, and errnoRet is 1")
    );
}

#[test]
fn comparisons_of_one_argument_are_alternatives_as_in_docker() {
    let profile = SeccompProfile::parse(&with_arg(
        r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
           {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"},
           {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}"#,
    ))
    .unwrap();
    assert_eq!(profile.rules.len(), 3);
    assert!(profile.rules.iter().all(|rule| rule.conditions.len() == 1));
    let profile = SeccompProfile::parse(&with_arg(
        r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 3, "op": "SCMP_CMP_EQ"}"#,
    ))
    .unwrap();
    assert_eq!(profile.rules.len(), 1);
}

#[test]
fn an_error_about_an_unknown_name_has_its_place_and_the_nearest_name() {
    for (text, message) in [
        (
            r#"{"defaultActoin": "SCMP_ACT_ALLOW"}"#.to_owned(),
            r#"seccomp={"defaultActoin": "SCMP_ACT_ALLOW"}: defaultActoin: unknown field `defaultActoin`, expected one of `defaultAction`, `defaultErrnoRet`, `defaultErrno`, `architectures`, `archMap`, `flags`, `listenerPath`, `listenerMetadata`, `syscalls` at line 1 column 16. Correct it there; docker's default profile shows the format"#,
        ),
        (
            with_entry(r#"{"names": ["opneat"], "action": "SCMP_ACT_ALLOW"}"#),
            r#"seccomp="opneat": syscalls[0].names[0] is not a system call of Linux. Did you mean "openat"?"#,
        ),
        (
            "{\"defaultAction\": \"SCMP_ACT_LOG\", \"syscalls\": [\n {\"acton\": \"SCMP_ACT_LOG\"}]}"
                .to_owned(),
            r#"seccomp={"acton": "SCMP_ACT_LOG"}]}: syscalls[0].acton: unknown field `acton`, expected one of `names`, `name`, `action`, `errnoRet`, `errno`, `args`, `comment`, `includes`, `excludes` at line 2 column 9. Correct it there; docker's default profile shows the format"#,
        ),
        (
            with_entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALOW"}"#),
            r#"seccomp="SCMP_ACT_ALOW": syscalls[0].action is not an action. Did you mean "SCMP_ACT_ALLOW"?"#,
        ),
        (
            with_arg(r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQL"}"#),
            r#"seccomp="SCMP_CMP_EQL": syscalls[0].args[0].op is not a comparison. Did you mean "SCMP_CMP_EQ"?"#,
        ),
        (
            with_entry(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"caps": ["CAP_SYS_ADMN"]}}"#,
            ),
            r#"seccomp="CAP_SYS_ADMN": syscalls[0].includes.caps[0] is not a capability. Did you mean "SYS_ADMIN"?"#,
        ),
        (
            with_entry(
                r#"{"names": ["read"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["amd46"]}}"#,
            ),
            r#"seccomp="amd46": syscalls[0].excludes.arches[0] is not an architecture. Did you mean "amd64"?"#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86_46"]}"#
                .to_owned(),
            r#"seccomp="SCMP_ARCH_X86_46": architectures[0] is not an architecture. Did you mean "SCMP_ARCH_X86_64"?"#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOGS"]}"#
                .to_owned(),
            r#"seccomp="SECCOMP_FILTER_FLAG_LOGS": flags[0] is not a flag of a filter. Did you mean "SECCOMP_FILTER_FLAG_LOG"?"#,
        ),
    ] {
        assert_eq!(refused(&text), message);
    }
}

#[test]
fn a_missing_or_repeated_key_is_refused() {
    for (text, part) in [
        ("{}".to_owned(), "the profile: missing field `defaultAction`"),
        (r#"{"defaultAction": null}"#.to_owned(), "defaultAction: invalid type: null"),
        (with_entry(r#"{"action": "SCMP_ACT_LOG"}"#), "\"names\": it is missing from syscalls[0]"),
        (
            with_entry(r#"{"names": [], "action": "SCMP_ACT_LOG"}"#),
            "\"names\": it is missing from syscalls[0]",
        ),
        (with_entry(r#"{"names": ["read"]}"#), "syscalls[0]: missing field `action`"),
        (
            with_entry(r#"{"name": "read", "names": ["write"], "action": "SCMP_ACT_LOG"}"#),
            "Keep one",
        ),
        (
            with_arg(r#"{"value": 1, "op": "SCMP_CMP_EQ"}"#),
            "syscalls[0].args[0]: missing field `index`",
        ),
        (with_arg(r#"{"index": 1, "value": 1}"#), "syscalls[0].args[0]: missing field `op`"),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "defaultAction": "SCMP_ACT_ALLOW"}"#.to_owned(),
            "the profile: duplicate field `defaultAction`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#
                .to_owned(),
            "\"archMap\": it is given together with architectures",
        ),
    ] {
        let message = refused(&text);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_value_of_another_type_or_out_of_range_is_refused() {
    for (text, part) in [
        ("[]".to_owned(), "the profile: invalid type: sequence, expected an object"),
        (String::new(), "is not a profile in JSON"),
        ("{\"defaultAction\":\n  oops}".to_owned(), "\"oops}\": it is not a profile in JSON"),
        (
            r#"{"defaultAction": 5}"#.to_owned(),
            "defaultAction: invalid type: integer `5`, expected a string",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "syscalls": {}}"#.to_owned(),
            "syscalls: invalid type: map, expected a sequence",
        ),
        (with_entry("7"), "syscalls[0]: invalid type: integer `7`, expected an object"),
        (with_entry(r#"["read"]"#), "syscalls[0]: invalid type: sequence, expected an object"),
        (
            with_entry(r#"{"names": "read", "action": "SCMP_ACT_LOG"}"#),
            "syscalls[0].names: invalid type: string \"read\", expected a sequence",
        ),
        (with_arg(r#"{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}"#), "from 0 to 5"),
        (
            with_arg(r#"{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}"#),
            "syscalls[0].args[0].value: invalid value: integer `-1`, expected u64",
        ),
        (
            with_arg(r#"{"index": 0, "value": 1.5, "op": "SCMP_CMP_EQ"}"#),
            "syscalls[0].args[0].value: invalid type: floating point `1.5`",
        ),
        (
            with_arg(r#"{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}"#),
            "syscalls[0].args[0].value: invalid type: floating point",
        ),
        (
            with_arg(r#"{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}"#),
            "has no meaning",
        ),
        (
            with_arg(r#"{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}"#),
            "never match",
        ),
        (
            with_entry(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}"#),
            "from 0 to 4095",
        ),
        (
            with_entry(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#),
            "is given for an action that returns no errno",
        ),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(), "a process outside"),
        (
            r#"{"defaultAction": "SCMP_ACT_LOG", "listenerPath": "/run/agent"}"#.to_owned(),
            "a process outside",
        ),
    ] {
        let message = refused(&text);
        assert!(message.contains(part), "{message}");
    }
    for version in ["4", "4.", "4.8.1", "x.y", "+4.8", "0.0", "4.-8"] {
        let entry = format!(
            r#"{{"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {{"minKernel": "{version}"}}}}"#
        );
        assert!(refused(&with_entry(&entry)).contains("is not a version of Linux"), "{version}");
    }
    // Deep nesting does not overflow the stack.
    assert!(refused(&"[".repeat(100_000)).contains("expected an object"));
}
