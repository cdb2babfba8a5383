use std::ffi::CString;

use super::*;
use crate::host::Kernel;
use crate::plan::Plan;
use crate::spec::confine::Seccomp;
use crate::spec::namespaces::NamespaceOptions;
use crate::spec::profile::Profile;
use crate::spec::seccomp::KernelVersion;
use crate::spec::{CommandSpec, Payload, Spec};

const KERNEL: Kernel = Kernel {
    last_capability: 40,
    version: KernelVersion { major: 6, minor: 18 },
    throttled_cpus: 0,
    memory: 1 << 30,
};

fn root() -> Host {
    let limits = ["core", "nofile", "nproc", "memlock", "msgqueue", "sigpending", "rtprio", "nice"];
    let limits = limits.map(|name| Ulimit::of(name, 4096));
    let permitted = CapabilitySet::up_to(40);
    Host {
        kernel: KERNEL,
        landlock: Some(Abi::NEWEST),
        permitted,
        limits: limits.into(),
        dumpable: true,
        ..Host::default()
    }
}

fn plain() -> Host {
    Host { uid: 1000, gid: 1000, permitted: CapabilitySet::EMPTY, ..root() }
}

fn command() -> CommandSpec {
    let text = |text: &str| CString::new(text).expect("no NUL");
    CommandSpec::new(text("/bin/true"), vec![text("true")])
}

fn spec(confine: Confine) -> Spec {
    Spec { confine, ..Spec::default() }
}

fn of(profile: Profile) -> Confine {
    Confine { profile, ..Confine::default() }
}

fn plan(spec: &Spec, command: &CommandSpec, host: &Host) -> Result<Plan, SpecError> {
    Plan::new(spec, Payload::Command(command), host, None)
}

fn lines(confine: Confine, host: &Host) -> Vec<String> {
    let plan = plan(&spec(confine), &command(), host).unwrap();
    plan.lines().into_iter().map(|line| line.call).collect()
}

fn refused(confine: Confine, host: &Host) -> String {
    plan(&spec(confine), &command(), host).unwrap_err().to_string()
}

/// The index of the first line that starts with each of `beginnings`.
fn order(lines: &[String], beginnings: &[&str]) -> Vec<usize> {
    beginnings
        .iter()
        .map(|&begin| {
            let place = lines.iter().position(|line| line.starts_with(begin));
            place.unwrap_or_else(|| panic!("no {begin} in {lines:#?}"))
        })
        .collect()
}

#[test]
fn the_default_profile_makes_no_call_but_the_one_for_no_new_privileges() {
    let bare = Confined::new(&Spec::default(), &root(), None, NamespaceOptions::all()).unwrap();
    let mut sequence = Sequence::default();
    bare.before_user(&mut sequence);
    bare.after_user(&mut sequence, true);
    bare.last(&mut sequence);
    let steps: Vec<Step> = sequence.calls.iter().map(|call| call.step).collect();
    assert_eq!(steps, [Step::NoNewPrivileges]);
    let with = Confine { no_new_privileges: Some(false), ..Confine::default() };
    assert!(!lines(with, &root()).iter().any(|line| line.contains("NO_NEW_PRIVS")));
}

#[test]
fn the_filter_comes_last_where_no_privileges_are_gained() {
    let lines = lines(of(Profile::Untrusted), &plain());
    let places = order(
        &lines,
        &[
            "prctl(PR_CAPBSET_DROP",
            "capset",
            "prctl(PR_SET_NO_NEW_PRIVS",
            "landlock_restrict_self",
            "rt_sigprocmask",
            "prlimit64",
            "seccomp",
            "execve",
        ],
    );
    assert!(places.is_sorted(), "{places:?}");
    assert_eq!(places[7], places[6] + 1, "nothing but exec has to pass the filter");
}

#[test]
fn a_limit_above_the_callers_is_raised_first_and_a_lower_one_set_last() {
    let mut host = root();
    let nofile = Ulimit::new("nofile", Some(100), Some(1000)).unwrap();
    host.limits = vec![nofile, Ulimit::new("core", Some(0), Some(7)).unwrap()];
    let confine = Confine {
        ulimits: vec![
            Ulimit::new("core", Some(5), Some(7)).unwrap(),
            Ulimit::new("nofile", Some(2000), None).unwrap(),
        ],
        cap_drop: vec!["ALL".into()],
        ..of(Profile::Namespaces)
    };
    let places = order(
        &lines(confine, &host),
        &["prlimit64(0, RLIMIT_NOFILE", "prctl(PR_CAPBSET_DROP", "prlimit64(0, RLIMIT_CORE"],
    );
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn with_new_privileges_the_filter_comes_while_there_is_sys_admin() {
    let command = CommandSpec { user: Some(1000), group: Some(1000), ..command() };
    let plan = plan(&spec(of(Profile::Docker)), &command, &root()).unwrap();
    let lines: Vec<String> = plan.lines().into_iter().map(|line| line.call).collect();
    let calls = ["prctl(PR_CAPBSET_DROP", "seccomp", "setresgid", "setresuid", "capset", "execve"];
    let places = order(&lines, &calls);
    assert!(places.is_sorted(), "{places:?}");
    // A user that is not root has no capability after exec, and could not keep any now.
    assert!(lines[places[4]].contains("effective=[], permitted=[], inheritable=[]"));
}

#[test]
fn capabilities_are_shown_by_name() {
    let add = Confine { cap_drop: vec!["sys_admin".into()], ..Confine::default() };
    let lines = lines(add, &plain());
    assert!(lines.contains(&"prctl(PR_CAPBSET_DROP, [CAP_SYS_ADMIN])".to_owned()));
    let all_but = "permitted=[all but CAP_SYS_ADMIN], inheritable=[]";
    assert!(lines.iter().any(|line| line.contains(all_but)), "{lines:#?}");
}

#[test]
fn the_length_of_the_filter_is_shown() {
    let lines = lines(of(Profile::Docker), &root());
    let place = order(&lines, &["seccomp(SECCOMP_SET_MODE_FILTER, 0, {len="])[0];
    let length = lines[place].trim_end_matches("})").rsplit('=').next().unwrap();
    assert!(length.parse::<u16>().unwrap() > 100);
}

#[test]
fn limits_of_a_profile_are_lowered_and_never_raised() {
    let mut host = root();
    host.limits[1] = Ulimit { soft: 1024, hard: 1 << 20, ..host.limits[1] };
    let confine = Confine {
        ulimits: vec![Ulimit::new("core", Some(5), Some(7)).unwrap()],
        ..of(Profile::Untrusted)
    };
    let lines = lines(confine, &host);
    let limits: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("prlimit64(0, ")?.strip_suffix(", NULL)"))
        .collect();
    assert_eq!(
        limits,
        [
            "RLIMIT_CORE, {rlim_cur=5, rlim_max=7}",
            "RLIMIT_NOFILE, {rlim_cur=1024, rlim_max=4096}",
            "RLIMIT_SIGPENDING, {rlim_cur=1024, rlim_max=1024}",
            "RLIMIT_RTPRIO, {rlim_cur=0, rlim_max=0}",
            "RLIMIT_NICE, {rlim_cur=0, rlim_max=0}",
        ]
    );
}

#[test]
fn without_a_user_namespace_only_what_the_caller_has_is_kept() {
    let shared = NamespaceOptions::all().without_user();
    let make = |confine, host: &Host| {
        let spec = Spec { namespaces: shared, ..spec(confine) };
        plan(&spec, &command(), host)
            .map(|plan| plan.lines().into_iter().map(|line| line.call).collect::<Vec<_>>())
    };
    let mut host = root();
    host.permitted = CapabilitySet::DOCKER;
    let drop = || Confine { cap_drop: vec!["CHOWN".into()], ..Confine::default() };
    let lines = make(drop(), &host).unwrap();
    let set = "[CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP \
               CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP]";
    assert!(lines.iter().any(|line| line.contains(&format!("permitted={set}"))), "{lines:#?}");
    let add = Confine { cap_add: vec!["NET_ADMIN".into()], ..drop() };
    let error = make(add, &host).unwrap_err();
    assert_eq!((error.option, error.value), ("cap_add", "\"NET_ADMIN\"".into()));
    // "ALL" means every capability that the caller has.
    let all = Confine { cap_add: vec!["ALL".into()], ..drop() };
    assert!(make(all, &host).is_ok());
}

#[test]
fn without_privileges_and_with_new_ones_nothing_can_be_confined() {
    let shared = NamespaceOptions::none();
    let make = |no_new_privileges, confine| {
        let confine = Confine { no_new_privileges: Some(no_new_privileges), ..confine };
        plan(&Spec { namespaces: shared, ..spec(confine) }, &command(), &plain())
    };
    let dropping = || Confine { cap_drop: vec!["ALL".into()], ..Confine::default() };
    let filter = SeccompProfile::deny(&["ptrace"]).unwrap();
    let filtered = || Confine {
        seccomp: Seccomp::Custom(filter.clone().into(), OnDenied::Errno),
        ..Confine::default()
    };
    for confine in [dropping(), filtered()] {
        assert_eq!(make(false, confine.clone()).unwrap_err().option, "no_new_privileges");
        assert!(make(true, confine).is_ok());
    }
    // An exec gains no capability that is only in the bounding set, so that set may stay as it is.
    let lines = make(true, dropping()).unwrap().lines();
    assert!(!lines.iter().any(|line| line.call.contains("PR_CAPBSET_DROP")));
}

#[test]
fn a_filter_that_stops_the_start_of_the_command_is_refused_by_the_calls_name() {
    let only = |names: &[&str]| Confine {
        seccomp: Seccomp::Custom(SeccompProfile::allow(names).unwrap().into(), OnDenied::Errno),
        ..Confine::default()
    };
    assert!(
        refused(only(&["exit_group"]), &root())
            .starts_with("seccomp=\"execve\": it denies a call that comes after the filter")
    );
    assert!(refused(only(&["execve"]), &root()).starts_with("seccomp=\"exit_group\""));
    assert!(plan(&spec(only(&["execve", "exit_group"])), &command(), &root()).is_ok());
    // With init a failure is written to a pipe.
    let init = Spec { init: true, ..spec(only(&["execve", "exit_group"])) };
    assert_eq!(plan(&init, &command(), &root()).unwrap_err().value, "\"write\"".into());
    // Without no_new_privileges the change of user comes after the filter.
    let early = Confine { no_new_privileges: Some(false), ..only(&["execve", "exit_group"]) };
    let user = CommandSpec { user: Some(1000), ..command() };
    let error = plan(&spec(early), &user, &root()).unwrap_err();
    assert_eq!(error.value, "\"rt_sigprocmask\"".into());
}

#[test]
fn in_the_callers_pid_namespace_the_domain_gives_no_right_to_write_in_proc() {
    let lines = |namespaces| {
        let spec = Spec { namespaces, ..spec(of(Profile::Untrusted)) };
        let plan = plan(&spec, &command(), &root()).unwrap();
        plan.lines().into_iter().map(|line| line.call).collect::<Vec<_>>()
    };
    let rule = |lines: &[String]| {
        lines.iter().any(|line| line.starts_with("openat(AT_FDCWD, \"/proc\", O_PATH"))
    };
    assert!(rule(&lines(NamespaceOptions::all())));
    assert!(!rule(&lines(NamespaceOptions::all().without_pid())));
}

#[test]
fn a_kernel_without_landlock_is_not_asked_for_it() {
    let lines = lines(of(Profile::Untrusted), &Host { landlock: None, ..plain() });
    assert!(!lines.iter().any(|line| line.starts_with("landlock")));
}

#[test]
fn the_session_of_the_caller_is_refused_by_profiles_that_keep_its_terminal_out_of_reach() {
    let shared = CommandSpec { new_session: false, ..command() };
    let namespaces = NamespaceOptions::all().without_pid();
    for profile in [Profile::Docker, Profile::Untrusted] {
        let spec = Spec { namespaces, ..spec(of(profile)) };
        let error = plan(&spec, &shared, &root()).unwrap_err();
        assert_eq!(error.option, "new_session");
    }
    assert!(plan(&Spec { namespaces, ..Spec::default() }, &shared, &root()).is_ok());
}
