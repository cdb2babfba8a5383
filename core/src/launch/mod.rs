//! From a plan to a running container: descriptors, programs, clone, id maps, report.

mod encoder;
mod fds;
mod fork;
mod id_maps;
pub(crate) mod layers;
mod own_ids;
mod point;
mod report;
mod trees;
mod walk;

pub use crate::clone::Side;
// For the Python binding: a copy of the interpreter.
#[doc(hidden)]
pub use fork::{Forked, fork};
pub(crate) use walk::{Walked, walk};

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use encoder::StageEncoder;
use fds::LaunchFds;
use layers::{LayerLocks, Layers};
use report::{await_introduction, await_report};

use crate::clone::wait::Wait;
use crate::clone::{clone_and_wait, kill_and_reap, program_memfd, reap};
use crate::error::{LaunchError, SpawnError};
use crate::host::target::Target;
use crate::plan::Plan;
use crate::plan::call::Handles;
use crate::spec::namespaces::Kind;
use crate::step::Step;
use crate::sys::dumpable::{EndangeredDumpable, make_dumpable};
use crate::watchdog::PendingWatch;
use crate::{caller, watchdog};

/// Launch parameters that are not part of the plan.
#[derive(Default)]
pub struct LaunchParams<'a> {
    /// Called at intervals while the launch waits. `true` ends the launch, and nothing is left.
    pub interrupted: Option<&'a mut dyn FnMut() -> bool>,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// The descriptor that the line of each call is written to once the call is done.
    pub trace: Option<RawFd>,
    /// For tests: the number of a call (see [`Plan::call_count`]) that fails, and its error number.
    #[doc(hidden)]
    pub inject: Option<(u32, i32)>,
}

/// The result of a launch, from which a [`Process`](crate::process::Process) is made.
#[derive(Debug)]
pub struct Launched {
    /// The first process of the container, a child of the caller.
    pub(crate) pid: i32,
    /// The socket to init, if the container has one.
    pub(crate) control: Option<OwnedFd>,
    /// Whether the command is PID 1 of its namespace.
    pub(crate) is_pid_1: bool,
    /// Whether the first process leads a session.
    pub(crate) leads_session: bool,
    /// Whether the first process shared the caller's memory until exec. One that enters a container does not.
    pub(crate) shared_memory: bool,
    /// The locks on the layers that the container writes to.
    pub(crate) layers: LayerLocks,
}

impl Launched {
    fn new(pid: i32, plan: &Plan, control: Option<OwnedFd>, layers: LayerLocks) -> Self {
        Self {
            pid,
            is_pid_1: plan.namespaces().contains(Kind::Pid) && control.is_none(),
            leads_session: plan.leads_session(),
            shared_memory: !plan.enters,
            control,
            layers,
        }
    }
}

/// Executes a plan. Returns once the command has been executed. After an error nothing is left.
///
/// # Errors
///
/// [`LaunchError::Spawn`] with the step that failed, and the error number of the process that made the call;
/// [`LaunchError::Spec`] for an option that this machine refuses;
/// [`LaunchError::Interrupted`] and [`LaunchError::TimedOut`] when the parameters end the launch.
pub fn launch(
    plan: &Plan,
    target: Option<&Target>,
    params: LaunchParams<'_>,
) -> Result<Launched, LaunchError> {
    debug_assert_eq!(plan.enters, target.is_some(), "the plan was made for this target");
    let LaunchParams { interrupted, deadline, trace, inject } = params;
    let mut wait = Wait::new(interrupted.map(|ask| ask as _), deadline);
    let encoder = StageEncoder::new(plan, trace, inject);
    with_a_watchdog(&mut wait, |wait| attempt(plan, target, &encoder, wait))
}

/// Calls `launch` again if the watchdog was killed or replaced meanwhile: the next call uses another one.
fn with_a_watchdog<T>(
    wait: &mut Wait<'_>,
    mut launch: impl FnMut(&mut Wait<'_>) -> Result<T, LaunchError>,
) -> Result<T, LaunchError> {
    const MOST_TIMES: u32 = 10;
    let mut times = 1;
    loop {
        match launch(wait) {
            Err(error) if watchdog::has_gone(&error) && times < MOST_TIMES => times += 1,
            launched => return launched,
        }
    }
}

fn attempt(
    plan: &Plan,
    target: Option<&Target>,
    encoder: &StageEncoder<'_>,
    wait: &mut Wait<'_>,
) -> Result<Launched, LaunchError> {
    let fds = LaunchFds::open(plan, wait)?;
    let mut watch = fds.pending_watch(plan);
    let layers = Layers::open(plan)?;
    if let Some(target) = target {
        layers.set_up_for(plan, target)?;
    }
    let (kept, trees) = (layers.numbers(), layers.trees());
    let mut handles = Handles { layers: kept, trees, ..fds.handles(target) };
    let mut programs: Vec<OwnedFd> = Vec::new();
    // Later stages first: each memfd's number goes into the stage before it.
    for number in (1..plan.stages.len()).rev() {
        let memfd = program_memfd(&encoder.encode(number, &handles, handles.report))
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        handles.programs[number - 1] = memfd.as_raw_fd();
        programs.push(memfd);
    }
    let program = encoder.encode(0, &handles, -1);
    encoder.trace_caller();
    let (mut child_fds, control, report) = fds.split();
    let endangered = plan.endangers_dumpable.then(EndangeredDumpable::begin);
    let mut parents_part = |pid, wait: &mut Wait<'_>| {
        // Close them, since the child has copies: the caller's would keep sockets and pipes open. Besides, writing
        // the id maps takes a descriptor, and the caller may be near its limit.
        child_fds = None;
        programs.clear();
        // A joiner is not the container's process.
        if let Some(watch) = watch.as_mut().filter(|_| !plan.enters) {
            watch.record(pid)?;
        }
        if plan.endangers_dumpable {
            make_dumpable();
        }
        layers.write_id_maps(plan, pid, wait)
    };
    let outcome = clone_and_wait(program, layers.namespaces(plan), &mut parents_part, wait);
    drop(endangered);
    let outcome = match (outcome, &report) {
        (Err(error), Some(report)) => {
            report::end_the_command(report.as_fd());
            return Err(error);
        }
        (outcome, _) => outcome?,
    };
    let pid = outcome.pid;
    if let Some((index, errno)) = outcome.failed {
        reap(pid);
        return Err(plan.failure(0, index, errno).into());
    }
    let pid = match (report, &control) {
        (Some(report), _) => await_report(plan, pid, report.as_fd(), wait)?,
        (None, Some(control)) => await_introduction(plan, pid, control.as_fd(), wait)?,
        (None, None) => pid,
    };
    if let Err(error) = complete(watch, pid, wait) {
        kill_and_reap(pid);
        return Err(error);
    }
    Ok(Launched::new(pid, plan, control, layers.keep()))
}

/// Forgets a launched process that is about to be reaped.
pub(crate) fn forget(pid: i32) {
    caller::forget_watched(pid);
}

/// Ends a launch whose command has been executed: checks that it was not given up, and that it is watched.
fn complete(watch: Option<PendingWatch>, pid: i32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
    if let Some(error) = &wait.given_up {
        return Err(error.clone());
    }
    watch.map_or(Ok(()), |watch| watch.confirm(pid, wait))
}
