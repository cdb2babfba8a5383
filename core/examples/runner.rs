//! The chapter's runner: `runner <hostname> <command...>` creates the namespaces, becomes PID 1,
//! executes the command, waits for it, and reports how it ended.
//!
//! `cargo run --example runner -- mycontainer hostname`

use std::error::Error;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use minidocker_core::host::Host;
use minidocker_core::launch;
use minidocker_core::plan::Plan;
use minidocker_core::spec::{Command, Environment, Payload, Spec};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1).map(OsStringExt::into_vec);
    let Some(hostname) = args.next() else {
        return Err("usage: runner <hostname> <command...>".into());
    };
    let argv = args.map(CString::new).collect::<Result<Vec<CString>, _>>()?;
    let program = argv.first().ok_or("usage: runner <hostname> <command...>")?;

    let mut command = Command::new(program.clone(), argv.clone());
    command.candidates = candidates(program)?;
    command.envp = Environment::of_caller();
    let spec = Spec { hostname: Some(hostname), ..Spec::default() };
    let plan = Plan::new(&spec, Payload::Command(&command), &Host::gather(&spec)?, None)?;

    let trace = Some(std::io::stderr().as_raw_fd());
    let options = launch::LaunchParams { trace, ..launch::LaunchParams::default() };
    let process = launch::launch(&plan, None, options)?;

    let status = waitpid(Pid::from_raw(process.pid()), None)?;
    eprintln!("parent  PID {} of the host, PID 1 inside, ended: {status:?}", process.pid());
    Ok(match status {
        WaitStatus::Exited(_, code) => ExitCode::from(code as u8),
        WaitStatus::Signaled(_, signal, _) => ExitCode::from(128 + signal as u8),
        _ => ExitCode::FAILURE,
    })
}

/// The files that a name may mean, as execvp(3) looks for them.
fn candidates(program: &CString) -> Result<Vec<CString>, Box<dyn Error>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![program.clone()]);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()).into_vec();
    let directories = path.split(|&byte| byte == b':');
    let join = |directory: &[u8]| CString::new([directory, program.as_bytes()].join(&b'/'));
    Ok(directories.map(join).collect::<Result<_, _>>()?)
}
