//! The chapter's runner: `runner <hostname> <command...>` creates the namespaces, becomes PID 1,
//! executes the command, waits for it, and reports how it ended.
//!
//! `cargo run --example runner -- mycontainer hostname`

use std::error::Error;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitCode;

use minidocker_core::Command;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(hostname), Some(program)) = (args.next(), args.next()) else {
        return Err("usage: runner <hostname> <command...>".into());
    };
    let mut command = Command::new(program);
    command.args(args).hostname(hostname);
    for line in command.plan()?.lines() {
        eprintln!("{line}");
    }

    let mut child = command.spawn()?;
    let status = child.wait()?.status.ok_or("the exit status is lost")?;
    eprintln!("PID {} of the host, PID 1 inside, ended: {status}", child.id());
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8)))
}
