//! A command receives its arguments and environment unchanged, whatever bytes they contain.
//!
//! They pass through the encoding of the plan, its relocation, a walk in shared memory or in the helper,
//! and a real execve(2).

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use minidocker_core::host::Host;
use minidocker_core::launch::LaunchParams;
use minidocker_core::plan::Plan;
use minidocker_core::process::Process;
use minidocker_core::spec::namespaces::NamespaceOptions;
use minidocker_core::spec::{CommandSpec, Payload, Spec};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use proptest::prelude::*;

/// Start a shell that waits for input, and return its arguments and environment as /proc shows them.
fn started(spec: &Spec, args: &[CString], env: &[CString]) -> (Vec<u8>, Vec<u8>) {
    let text = |text: &str| CString::new(text).expect("no NUL");
    let mut argv = vec![text("sh"), text("-c"), text("echo; read line")];
    argv.extend_from_slice(args);
    let mut command = CommandSpec::new(text("/bin/sh"), argv);
    command.envp = env.iter().cloned().collect();
    let (input, mut answer) = std::io::pipe().expect("a pipe");
    let (mut reader, output) = std::io::pipe().expect("a pipe");
    command.stdio = [Some(input.as_raw_fd()), Some(output.as_raw_fd()), None];
    let host = Host::gather(spec).expect("facts about the host");
    let plan = Plan::new(spec, Payload::Command(&command), &host, None).expect("a plan");
    let process = Process::launch(&plan, None, LaunchParams::default()).expect("a container");
    // The launch returns when the child has left the shared memory, before its new memory is complete.
    reader.read_exact(&mut [0]).expect("a line");
    let first = process.pid();
    let shell = if spec.init {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        children.expect("init's children").trim().parse().expect("one child")
    } else {
        first
    };
    let found = ["cmdline", "environ"]
        .map(|file| fs::read(format!("/proc/{shell}/{file}")).expect("a child of this process"));
    answer.write_all(b"\n").expect("the shell reads");
    let pid = Pid::from_raw(first);
    assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    let [args, env] = found;
    (args, env)
}

fn joined(strings: &[CString]) -> Vec<u8> {
    strings.iter().flat_map(CString::as_bytes_with_nul).copied().collect()
}

fn bytes() -> impl Strategy<Value = CString> {
    proptest::collection::vec(1_u8..=255, 0..300)
        .prop_map(|bytes| CString::new(bytes).expect("no NUL"))
}

fn variable() -> impl Strategy<Value = CString> {
    ("[A-Za-z_][A-Za-z0-9_]{0,20}", bytes()).prop_map(|(name, value)| {
        let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
        CString::new(line).expect("no NUL")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arguments_and_environment_arrive_unchanged(
        args in proptest::collection::vec(bytes(), 0..40),
        env in proptest::collection::vec(variable(), 0..20),
        init in any::<bool>(),
    ) {
        let namespaces = NamespaceOptions::none().with_user().with_pid();
        let spec = Spec { namespaces, init, ..Spec::default() };
        let (found_args, found_env) = started(&spec, &args, &env);
        let expected = [b"sh\0-c\0echo; read line\0".as_slice(), &joined(&args)].concat();
        prop_assert_eq!(found_args, expected);
        prop_assert_eq!(found_env, joined(&env));
    }
}
