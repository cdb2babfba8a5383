//! The descriptors that a launch needs until it ends.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::caller::WatchdogFds;
use crate::clone::wait::Wait;
use crate::error::{LaunchError, SpawnError};
use crate::host::target::Target;
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::step::Step;
use crate::sys::fd;
use crate::sys::kept::KeptFd;
use crate::watchdog::PendingWatch;
use crate::{caller, watchdog};

/// Opens a pidfd of this process.
pub(super) fn own_pidfd() -> Result<OwnedFd, SpawnError> {
    fd::pidfd_open(std::process::id() as i32)
        .map_err(|error| SpawnError::from_io(Step::Prepare, &error))
}

pub(super) struct LaunchFds {
    helper: Option<Arc<KeptFd>>,
    watchdog: Option<Arc<WatchdogFds>>,
    /// A pidfd of the caller, which init polls.
    caller: Option<OwnedFd>,
    /// The pipe on which the helper reports, if not on `control`: the read end, and the write end.
    report: Option<(OwnedFd, OwnedFd)>,
    /// The socket on which init reports how the command ended: the caller's end, and init's end.
    control: Option<(OwnedFd, OwnedFd)>,
}

impl LaunchFds {
    pub(super) fn open(plan: &Plan, wait: &mut Wait<'_>) -> Result<Self, LaunchError> {
        let failed = |error: io::Error| SpawnError::from_io(Step::Prepare, &error);
        let has_helper = plan.stages.len() > 1;
        let has_report = has_helper && !plan.reports_on_control;
        Ok(Self {
            helper: has_helper.then(caller::helper).transpose()?,
            watchdog: plan.watched.map(|_| watchdog::connect(wait)).transpose()?,
            caller: plan.watched.filter(|_| plan.init).map(|_| own_pidfd()).transpose()?,
            report: has_report.then(fd::pipe).transpose().map_err(failed)?,
            control: plan.init.then(fd::socket_pair).transpose().map_err(failed)?,
        })
    }

    /// The container's registration with the watchdog, if it has one.
    pub(super) fn pending_watch(&self, plan: &Plan) -> Option<PendingWatch> {
        let used = self.watchdog.as_ref()?;
        plan.watched.map(|kind| PendingWatch::new(kind, used))
    }

    /// The descriptors that only the child needs, and the caller's ends of `control` and `report`.
    pub(super) fn split(self) -> (Option<impl Sized>, Option<OwnedFd>, Option<OwnedFd>) {
        let (control, init) = self.control.unzip();
        let (report, helper) = self.report.unzip();
        (Some((init, helper, self.helper, self.watchdog, self.caller)), control, report)
    }

    pub(super) fn handles(&self, target: Option<&Target>) -> Handles {
        let raw = |fd: &OwnedFd| fd.as_raw_fd();
        let control = self.control.as_ref().map_or(-1, |(_, theirs)| raw(theirs));
        let caller_control = self.control.as_ref().map_or(-1, |(ours, _)| raw(ours));
        Handles {
            helper: self.helper.as_ref().map_or(-1, |kept| kept.raw()),
            watchdog: self.watchdog.as_ref().map_or(-1, |kept| kept.socket.raw()),
            caller: self.caller.as_ref().map_or(-1, raw),
            report: self.report.as_ref().map_or(control, |(_, write)| raw(write)),
            control,
            caller_control,
            target: target.map_or(-1, Target::raw_fd),
            ..Handles::NONE
        }
    }
}
