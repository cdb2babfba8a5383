//! A started command.

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::panic::resume_unwind;
use std::process::{ExitStatus, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::stdio::Streams;
use crate::process::{Exit, Process};

/// The longest time for one poll(2), whose timeout is an `int` of milliseconds.
const MAX_POLL: Duration = Duration::from_secs(86_400);

/// A started container, like [`std::process::Child`]. Dropping it does not end the container, which runs until the
/// command or the calling process ends. Only a wait reaps it.
///
/// ```
/// use std::io::{Read as _, Write as _};
/// use minidocker_core::{Command, Stdio};
///
/// let mut child = Command::new("cat").stdin(Stdio::Piped).stdout(Stdio::Piped).spawn()?;
/// child.stdin.take().expect("piped").write_all(b"through a container")?;
/// let mut text = String::new();
/// child.stdout.take().expect("piped").read_to_string(&mut text)?;
/// assert_eq!(text, "through a container");
///
/// let exit = child.wait()?;
/// assert!(exit.success());
/// let usage = exit.usage.expect("no other wait took it");
/// println!("{:?} in user mode", usage.user);
/// # Ok::<(), minidocker_core::CommandError>(())
/// ```
#[derive(Debug)]
pub struct Child {
    /// The writing end of its standard input, if that is piped.
    pub stdin: Option<PipeWriter>,
    /// The reading end of its standard output, if that is piped.
    pub stdout: Option<PipeReader>,
    /// The reading end of its standard error, if that is piped.
    pub stderr: Option<PipeReader>,
    process: Process,
}

impl Child {
    pub(super) fn new(process: Process, streams: Streams) -> Self {
        let Streams { stdin, stdout, stderr, .. } = streams;
        Self { stdin, stdout, stderr, process }
    }

    /// The pid as the caller sees it: the command's, or with [`Spec::init`](crate::spec::Spec::init) init's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.pid().unsigned_abs()
    }

    /// Kills the command, and with a new PID namespace every process of the container.
    ///
    /// ```
    /// use std::os::unix::process::ExitStatusExt as _;
    /// use std::time::Duration;
    /// use minidocker_core::Command;
    ///
    /// let mut child = Command::new("sleep").arg("60").spawn()?;
    /// assert!(child.wait_timeout(Duration::from_millis(20))?.is_none());
    /// child.kill()?;
    /// assert_eq!(child.wait()?.status.and_then(|status| status.signal()), Some(9));
    /// # Ok::<(), minidocker_core::CommandError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`signal`](Self::signal).
    pub fn kill(&mut self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to the command. It has the same effect on a PID 1 as on any other process: see
    /// [`Process::signal`]. Does nothing once the command has ended.
    ///
    /// # Errors
    ///
    /// `EPERM` or `EINVAL` from kill(2).
    pub fn signal(&mut self, signal: i32) -> io::Result<()> {
        match self.process.signal(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent,
        }
    }

    /// Closes standard input, waits for the end, and reaps the command.
    ///
    /// # Errors
    ///
    /// Errors of waitid(2).
    pub fn wait(&mut self) -> io::Result<Exit> {
        self.stdin = None;
        retry_on_eintr(|| self.process.wait())
    }

    /// Reaps the command if it has ended; `None` if it still runs.
    ///
    /// # Errors
    ///
    /// Errors of waitid(2).
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        retry_on_eintr(|| self.process.try_wait())
    }

    /// Waits for at most `timeout`; `None` if the command still runs then.
    ///
    /// # Errors
    ///
    /// Errors of waitid(2) and `pidfd_open(2)`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> io::Result<Option<Exit>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(exit) = self.try_wait()? {
                return Ok(Some(exit));
            }
            let left = deadline.map_or(MAX_POLL, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            let _ = self.process.watch()?.ends_within(left.min(MAX_POLL));
        }
    }

    /// Closes standard input, reads the piped streams to their end, and returns the status and the output.
    ///
    /// # Errors
    ///
    /// Errors of read(2) and waitid(2).
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.stdin = None;
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = thread::scope(|scope| {
            let stderr = scope.spawn(|| read_to_end(stderr));
            (read_to_end(stdout), stderr.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let status = known_status(self.wait()?)?;
        Ok(Output { status, stdout: stdout?, stderr: stderr? })
    }
}

fn read_to_end(pipe: Option<PipeReader>) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut read)).map(|_| read)
}

fn retry_on_eintr<T>(mut wait: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match wait() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn known_status(exit: Exit) -> io::Result<ExitStatus> {
    exit.status.ok_or_else(|| {
        io::Error::other("the exit status is lost: SIGCHLD is ignored, or another wait took it")
    })
}
