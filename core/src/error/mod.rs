//! Errors: a specification that is wrong on any machine, or a step that the kernel refuses.
//!
//! The texts contain no syntax of a language. A binding spells a [`Value`] and a [`Setting`] as its users write
//! them.

mod hints;
mod notice;
mod reason;
mod remedy;

use std::ffi::OsString;

use minidocker_init::program::Message;
use minidocker_init::raw;

pub use notice::Notice;
pub(crate) use notice::quoted;
pub use reason::{Reason, ReasonKind, Value};
pub use remedy::{Remedy, Setting};

use crate::step::Step;

/// The specification is wrong on any machine. Nothing was created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}={value}: {reason}. {remedy}")]
pub struct SpecError {
    /// The option as the caller knows it, for example `hostname`.
    pub option: &'static str,
    /// Its value.
    pub value: Value,
    /// Why the value is wrong.
    pub reason: Reason,
    /// One thing to do about it.
    pub remedy: Remedy,
}

impl SpecError {
    pub(crate) fn new(
        option: &'static str,
        value: impl Into<Value>,
        reason: impl Into<Reason>,
        remedy: impl Into<Remedy>,
    ) -> Self {
        Self { option, value: value.into(), reason: reason.into(), remedy: remedy.into() }
    }

    /// For a value that is text, or a part of one: it is shown in quotes.
    pub(crate) fn of_text(
        option: &'static str,
        text: impl AsRef<str>,
        reason: impl Into<Reason>,
        remedy: impl Into<Remedy>,
    ) -> Self {
        Self::new(option, format!("{:?}", text.as_ref()), reason, remedy)
    }

    /// For text with a NUL in it: the kernel would read it only to there.
    #[must_use]
    pub fn embedded_nul(option: &'static str, bytes: &[u8]) -> Self {
        let reason = "it contains a NUL character";
        Self::of_text(option, String::from_utf8_lossy(bytes), reason, "Leave it out")
    }
}

/// The kernel refused a step. Nothing of the container is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct SpawnError {
    /// The step that failed.
    pub step: Step,
    /// The error number: errno(3).
    pub errno: i32,
    /// The file that the failed call was about, if any.
    pub filename: Option<OsString>,
    /// Why the call failed, if that is known better than from the error number: a clause, which may name a setting as
    /// a remedy does.
    pub reason: Option<Box<Remedy>>,
    /// One thing to do about it.
    pub hint: Option<Remedy>,
}

impl SpawnError {
    /// The failure of a step, with its remedy.
    #[must_use]
    pub fn new(step: Step, errno: i32) -> Self {
        Self { step, errno, filename: None, reason: None, hint: Some(hints::hint(step, errno)) }
    }

    /// The failure of a helper that cannot make a system call on which it depends.
    pub(crate) fn refused(step: Step, found: Message) -> Self {
        let name = raw::name(found.value as usize).unwrap_or("unknown").to_ascii_lowercase();
        let hint = match found.errno {
            // The hint for a shortage of processes is that of the caller's own clone(2).
            libc::EAGAIN | libc::ENOMEM | libc::ENOSPC => hints::hint(Step::Clone, found.errno),
            errno => hints::hint(step, errno),
        };
        let hint = Some(hint.after(&format!("The helper's {name}(2) was refused")));
        Self { step, errno: found.errno, filename: None, reason: None, hint }
    }

    /// The same error with the name of the system call that was refused.
    pub(crate) fn of_call(mut self, name: &str) -> Self {
        self.hint = self.hint.map(|hint| hint.after(&format!("{name}(2) was refused")));
        self
    }

    pub(crate) fn from_io(step: Step, error: &std::io::Error) -> Self {
        Self::new(step, error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(crate) fn about(mut self, filename: impl Into<OsString>) -> Self {
        self.filename = Some(filename.into());
        self
    }

    /// Whether a container around the caller may be the reason. Its engine, which a binding can look up, then has the
    /// better remedy.
    #[must_use]
    pub const fn may_be_the_outer_containers(&self) -> bool {
        match self.errno {
            libc::EPERM | libc::EACCES | libc::ENOSYS => matches!(
                self.step,
                Step::Clone
                    | Step::IdMaps
                    | Step::Time
                    | Step::PrivateMounts
                    | Step::MountProc
                    | Step::MountSys
                    | Step::MountShm
                    | Step::Dev
                    | Step::Loopback
                    | Step::Hostname
                    | Step::Domainname
                    | Step::Landlock
            ),
            libc::EOPNOTSUPP => matches!(self.step, Step::Landlock),
            libc::EROFS => matches!(self.step, Step::IdMaps),
            libc::ENOSPC => matches!(self.step, Step::Clone),
            _ => false,
        }
    }

    fn message(&self) -> String {
        let reason = match &self.reason {
            Some(reason) => reason.to_string(),
            None => std::io::Error::from_raw_os_error(self.errno).to_string(),
        };
        let file = self.filename.as_ref().map(|name| format!(" {}", name.display()));
        let hint = self.hint.as_ref().map(|hint| format!(". {hint}"));
        format!("{}{}: {reason}{}", self.step, file.unwrap_or_default(), hint.unwrap_or_default())
    }
}

/// Why [`Plan::gather`](crate::plan::Plan::gather) failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The specification is wrong on any machine.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The kernel refused a look at the host, or at the process to enter.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// Why [`launch`](crate::launch::launch) did not start a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refused a step.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// An option cannot have its value on this machine, which only the launch finds out.
    #[error(transparent)]
    Spec(#[from] Box<SpecError>),
    /// The caller interrupted the launch.
    #[error("interrupted while the container was being made")]
    Interrupted,
    /// The deadline passed before the command was executed.
    #[error("the time was up before the command was executed")]
    TimedOut,
}
