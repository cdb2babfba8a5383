use std::borrow::Borrow;
use std::ffi::CString;

use super::*;
use crate::spec::{CommandSpec, IdMap, IdRow};

fn plain() -> Host {
    Host { uid: 1000, gid: 1000, dumpable: true, ..Host::default() }
}

fn command() -> CommandSpec {
    let text = |text: &str| CString::new(text).expect("no NUL");
    CommandSpec::new(text("/bin/true"), vec![text("true")])
}

fn plan(spec: &Spec, command: impl Borrow<CommandSpec>) -> Result<Plan, SpecError> {
    Plan::new(spec, Payload::Command(command.borrow()), &plain(), None)
}

fn steps(plan: &Plan) -> Vec<Step> {
    let mut steps: Vec<Step> = plan.lines().iter().map(|line| line.step).collect();
    steps.dedup();
    steps
}

#[test]
fn what_needs_a_namespace_comes_after_it_and_exec_comes_last() {
    let spec = Spec { hostname: Some(b"lab".to_vec()), ..Spec::default() };
    let plan = plan(&spec, command()).unwrap();
    let steps = steps(&plan);
    let position =
        |step| steps.iter().position(|&found| found == step).expect("a step of this plan");
    assert_eq!(steps[0], Step::Clone);
    assert_eq!(*steps.last().unwrap(), Step::Exec);
    for step in [Step::Hostname, Step::Loopback, Step::PrivateMounts, Step::MountProc] {
        assert!(position(step) > position(Step::IdMaps));
    }
    assert!(position(Step::MountProc) > position(Step::PrivateMounts));
}

#[test]
fn a_plan_without_namespaces_only_executes() {
    let spec =
        Spec { namespaces: NamespaceOptions::none(), die_with_parent: false, ..Spec::default() };
    let plan = plan(&spec, command()).unwrap();
    assert_eq!(
        steps(&plan),
        [
            Step::Clone,
            Step::Signals,
            Step::Session,
            Step::Descriptors,
            Step::NoNewPrivileges,
            Step::SignalMask,
            Step::Exec
        ]
    );
}

#[test]
fn the_line_of_the_clone_has_its_flags_in_hex_and_by_name() {
    let line = plan(&Spec::default(), command()).unwrap().lines().remove(0).call;
    assert_eq!(
        line,
        "clone(0x7e220111 CLONE_NEWPID|CLONE_NEWNET|CLONE_NEWNS|CLONE_NEWUTS|CLONE_NEWIPC|\
         CLONE_NEWUSER|CLONE_NEWCGROUP|CLONE_VM|CLONE_CHILD_CLEARTID|SIGCHLD) = <child>"
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |spec: &Spec, command| plan(spec, command).unwrap_err().option;
    let all = NamespaceOptions::all();
    let with = |namespaces| Spec { namespaces, ..Spec::default() };
    let hostname = Spec { hostname: Some(b"x".to_vec()), ..with(all.without_uts()) };
    assert_eq!(refused(&hostname, command()), "hostname");
    assert_eq!(refused(&Spec { init: true, ..with(all.without_pid()) }, command()), "init");
    let network = Spec { network: Some(Network::None), ..with(all.without_net()) };
    assert_eq!(refused(&network, command()), "network");
    let maps = Spec { uid_map: IdMap::Auto, ..with(all.without_user()) };
    assert_eq!(refused(&maps, command()), "uid_map");
    let session = CommandSpec { new_session: false, ..command() };
    assert_eq!(refused(&Spec::default(), session), "new_session");
    assert_eq!(refused(&Spec::default(), CommandSpec { argv: vec![], ..command() }), "args");
    let offset = Some(crate::spec::TimeOffset { seconds: 1, nanoseconds: 0 });
    assert_eq!(
        refused(&Spec { monotonic_offset: offset, ..Spec::default() }, command()),
        "time_offsets"
    );
}

#[test]
fn init_executes_the_command_in_a_stage_of_its_own() {
    let plan = plan(&Spec { init: true, ..Spec::default() }, command()).unwrap();
    assert_eq!(plan.stages.len(), 2);
    assert_eq!(plan.stages[1].role, role::INIT);
    assert_eq!(plan.stages[0].sequence.calls.last().unwrap().step, Step::ExecHelper);
    assert_eq!(plan.stages[1].sequence.calls.last().unwrap().step, Step::Exec);
}

#[test]
fn a_user_of_its_own_is_the_one_row_of_a_plain_caller() {
    let command = CommandSpec { user: Some(1234), ..command() };
    let plan = plan(&Spec::default(), command).unwrap();
    assert_eq!(plan.maps.unwrap().uid.text(), "1234 1000 1\n");
}

fn fork(spec: &Spec, host: &Host) -> Plan {
    let how = CommandSpec::new(c"".into(), Vec::new());
    Plan::new(spec, Payload::Fork(&how), host, None).expect("a plan")
}

#[test]
fn a_copy_of_the_caller_keeps_its_handlers_and_descriptors() {
    let plan = fork(&Spec::default(), &plain());
    let steps: Vec<Step> = plan.stages[0].sequence.calls.iter().map(|call| call.step).collect();
    let forked = steps.iter().position(|&step| step == Step::ForkCaller).expect("a fork");
    for step in [Step::Signals, Step::Stdio, Step::Descriptors] {
        let first = steps.iter().position(|&found| found == step).expect("init's part");
        assert!(first > forked, "{step:?} comes after the fork");
    }
    assert_eq!(*steps.last().unwrap(), Step::ExecHelper);
    assert_eq!(plan.stages[1].role, role::INIT);
    assert_eq!(plan.stages[2].role, role::FORKED);
}

#[test]
fn a_copy_never_has_the_low_pid_that_its_caller_has() {
    let sets_pid = |pid| {
        let host = Host { pid, ..plain() };
        let lines = fork(&Spec::default(), &host).lines();
        lines.into_iter().any(|line| line.call.contains("ns_last_pid"))
    };
    assert!(sets_pid(2));
    assert!(!sets_pid(5000));
}

/// The child makes the calls before the wait for the id maps without a mapped id: none of them creates a file, and
/// none needs root inside.
#[test]
fn what_needs_ids_waits_for_the_id_maps() {
    const WITHOUT_IDS: [&str; 15] = [
        "close",
        "fsmount",
        "getpid",
        "ioctl",
        "mount",
        "move_mount",
        "open_tree",
        "pidfd_open",
        "reset_signal_handlers",
        "sendmsg",
        "setdomainname",
        "sethostname",
        "setsid",
        "socket",
        "clone",
    ];
    let host = Host {
        shm: true,
        mqueue: true,
        sys: true,
        sys_cgroup: true,
        hosts: Some(b"127.0.0.1 localhost\n".to_vec()),
        ..plain()
    };
    let rows = IdMap::Rows(vec![IdRow { inside: 0, outside: 1000, count: 1 }]);
    for spec in [
        Spec { hostname: Some(b"lab".to_vec()), ..Spec::default() },
        Spec { namespaces: NamespaceOptions::all().with_time(), ..Spec::default() },
        Spec { init: true, uid_map: rows, ..Spec::default() },
    ] {
        let plan = Plan::new(&spec, Payload::Command(&command()), &host, None).unwrap();
        let calls = || plan.stages[0].sequence.calls.iter();
        let waits = calls().position(|call| call.number == number::AWAIT_PARENT).unwrap();
        let before: Vec<&str> = calls().take(waits).map(|call| call.number.name).collect();
        assert!(before.contains(&"mount"), "{before:?}");
        assert_eq!(before.iter().find(|name| !WITHOUT_IDS.contains(*name)), None);
        assert_eq!(calls().filter(|call| call.number == number::AWAIT_PARENT).count(), 1);
    }
}

/// If root inside is not the caller, the child has to become root inside before it creates files.
#[test]
fn a_change_of_ids_waits_for_the_id_maps() {
    let row = |inside, outside| IdMap::Rows(vec![IdRow { inside, outside, count: 10 }]);
    let spec = Spec { uid_map: row(0, 100_000), gid_map: row(0, 100_000), ..Spec::default() };
    let host = Host { uid: 0, gid: 0, shm: true, ..plain() };
    let plan = Plan::new(&spec, Payload::Command(&command()), &host, None).unwrap();
    let calls = || plan.stages[0].sequence.calls.iter();
    let position = |wanted| calls().position(|call| call.number == wanted).unwrap();
    assert!(position(number::AWAIT_PARENT) < position(number::SETRESUID));
    let shm = calls().position(|call| call.step == Step::MountShm).unwrap();
    assert!(position(number::SETRESUID) < shm);
}
