//! Writes the id maps of the child's new user namespace while the child waits.

use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::clone::kill_and_reap;
use crate::clone::wait::Wait;
use crate::error::{LaunchError, SpawnError};
use crate::plan::ids::{IdMaps, MapRows};
use crate::step::Step;
use crate::sys::{self, fd};

/// How long to retry when the caller's memory is not dumpable. A child of another thread, which shares that memory,
/// makes it so for a moment when it changes its ids; a plain caller cannot open /proc/PID of its own child then.
const DUMPABLE_TIMEOUT: Duration = Duration::from_millis(200);

/// The most bytes of the output of newuidmap(1) that an error shows.
const MAX_OUTPUT: u64 = 4096;

impl IdMaps {
    /// Writes the maps of the process `pid`.
    pub(super) fn write(&self, pid: i32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        #[cfg(test)]
        std::thread::sleep(tests::DELAY.get());
        if self.deny_setgroups {
            write_file(pid, "setgroups", "deny")?;
        }
        self.uid.write(pid, "uid_map", "newuidmap", wait)?;
        self.gid.write(pid, "gid_map", "newgidmap", wait)
    }
}

impl MapRows {
    fn write(
        &self,
        pid: i32,
        file: &str,
        program: &str,
        wait: &mut Wait<'_>,
    ) -> Result<(), LaunchError> {
        let text = self.text();
        if self.through_helper {
            write_through(program, pid, file, &text, wait)
        } else {
            Ok(write_file(pid, file, &text)?)
        }
    }
}

fn write_file(pid: i32, file: &str, text: &str) -> Result<(), SpawnError> {
    let path = format!("/proc/{pid}/{file}");
    let write = || {
        // One write(2): the kernel requires the whole map in one.
        let mut file = std::fs::OpenOptions::new().write(true).open(&path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    let mut waited = Duration::ZERO;
    loop {
        match write() {
            Err(error) if is_of_dumpable(&error) && waited < DUMPABLE_TIMEOUT => {
                let pause = Duration::from_micros(100);
                std::thread::sleep(pause);
                waited += pause;
            }
            result => return result.map_err(|error| refused(&error).about(path)),
        }
    }
}

/// Whether the error may come from memory that is not dumpable. Root owns the files of such a process in /proc, and a
/// /proc with `hidepid` hides the process.
fn is_of_dumpable(error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EACCES) => true,
        Some(libc::ENOENT) => nix::sys::prctl::get_dumpable() == Ok(false),
        _ => false,
    }
}

/// The error for a map that the kernel refused. Replaces the hint if the error number alone would mislead.
fn refused(error: &io::Error) -> SpawnError {
    let mut refused = SpawnError::from_io(Step::IdMaps, error);
    let dumpable = nix::sys::prctl::get_dumpable().unwrap_or(true);
    if !sys::has_own_proc() {
        refused.hint = SpawnError::new(Step::IdMaps, libc::ENOENT).hint;
    } else if is_of_dumpable(error) && !dumpable {
        let remedy = "The caller is not dumpable (for example because it has changed its user id), so \
                      its child's files in /proc belong to root: call prctl(PR_SET_DUMPABLE, 1) first";
        refused.hint = Some(remedy.into());
    }
    refused
}

/// Writes a map through newuidmap(1) or newgidmap(1). These may hang, since they query the user database.
fn write_through(
    program: &str,
    pid: i32,
    file: &str,
    text: &str,
    wait: &mut Wait<'_>,
) -> Result<(), LaunchError> {
    let failed = |error: &io::Error| SpawnError::from_io(Step::IdMaps, error).about(program);
    // A file, because a pipe could fill up before it is read.
    let output = fd::memfd(c"minidocker-output", b"", false).map_err(|error| failed(&error))?;
    let output = std::fs::File::from(output);
    let copy = output.try_clone().map_err(|error| failed(&error))?;
    let mut child = Command::new(program)
        .arg(pid.to_string())
        .args(text.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(copy)
        // With its own process group, a launch that gives up can kill all processes of the program.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&error))?;
    let status = match await_end(&mut child, wait) {
        Ok(status) => status,
        Err(error) => {
            let _ = sys::kill(-(child.id() as i32), libc::SIGKILL);
            kill_and_reap(child.id() as i32);
            return Err(error);
        }
    };
    let succeeded = status.map_or_else(
        // There is no status if SIGCHLD is ignored. The file is empty unless the map was written.
        || std::fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|map| !map.is_empty()),
        |status| status.success(),
    );
    if succeeded { Ok(()) } else { Err(program_failure(program, output).into()) }
}

/// Waits for the program's end; `None` where other code of the caller has reaped it.
fn await_end(child: &mut Child, wait: &mut Wait<'_>) -> Result<Option<ExitStatus>, LaunchError> {
    let pidfd = fd::pidfd_open(child.id() as i32);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) => {}
            Err(_) => return Ok(None),
        }
        wait.check()?;
        wait.until_readable(pidfd.as_ref().ok());
    }
}

fn program_failure(program: &str, mut output: std::fs::File) -> SpawnError {
    let mut bytes = Vec::new();
    let read = output.rewind().and_then(|()| output.take(MAX_OUTPUT).read_to_end(&mut bytes));
    let mut error = SpawnError::new(Step::IdMaps, libc::EPERM).about(program);
    let output = String::from_utf8_lossy(&bytes);
    if read.is_ok() && !output.trim().is_empty() {
        error.hint = error.hint.map(|hint| hint.after(&format!("It said: {}", output.trim())));
    }
    error
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ffi::CString;

    use super::*;
    use crate::clone::reap;
    use crate::host::Host;
    use crate::launch::{LaunchParams, launch};
    use crate::plan::Plan;
    use crate::spec::{CommandSpec, Payload, Spec};

    thread_local! {
        /// How long this thread waits before it writes the maps.
        pub(super) static DELAY: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    #[test]
    fn a_child_that_is_faster_than_its_caller_waits_for_the_maps() {
        let words = ["sh", "-c", "test $(id -u) = 0 && grep -q lab /etc/hosts && : >/dev/shm/file"];
        let argv = words.map(|word| CString::new(word).expect("no NUL")).to_vec();
        let command = CommandSpec::new(c"/bin/sh".to_owned(), argv);
        let lab = Spec { hostname: Some(b"lab".to_vec()), ..Spec::default() };
        DELAY.set(Duration::from_millis(50));
        for spec in [Spec { rootfs: Some(c"/".to_owned()), ..lab.clone() }, lab] {
            let host = Host::gather(&spec).expect("what a plan needs");
            let plan = Plan::new(&spec, Payload::Command(&command), &host, None).expect("a plan");
            let launched = launch(&plan, None, LaunchParams::default()).expect("a container");
            assert_eq!(reap(launched.pid), Some(0));
        }
        DELAY.set(Duration::ZERO);
    }
}
