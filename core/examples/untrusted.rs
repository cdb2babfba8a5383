//! Runs an untrusted script: confined by the profile, for at most a second, with its output captured.
//!
//! `cargo run --example untrusted -- 'cat /etc/shadow; while :; do :; done'`

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

use minidocker_core::spec::Spec;
use minidocker_core::spec::confine::Confine;
use minidocker_core::spec::profile::Profile;
use minidocker_core::{Command, Stdio};

fn main() -> Result<(), Box<dyn Error>> {
    let script = std::env::args().nth(1).unwrap_or_else(|| "id; cat /etc/shadow".to_owned());
    let confine = Confine { profile: Profile::Untrusted, ..Confine::default() };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).env_clear().spec(Spec { confine, ..Spec::default() });

    let mut child = command.stdin(Stdio::Null).stdout(Stdio::Piped).current_dir("/").spawn()?;
    let exit = if let Some(exit) = child.wait_timeout(Duration::from_secs(1))? {
        exit
    } else {
        child.kill()?;
        child.wait()?
    };
    let mut output = String::new();
    child.stdout.take().ok_or("standard output is piped")?.read_to_string(&mut output)?;
    println!("{output}{:?}", exit.status);
    if let Some(usage) = exit.usage {
        println!("{:?} in user mode, {:?} in the kernel", usage.user, usage.system);
    }
    Ok(())
}
