//! From a plan to a running container: signals, clone, id maps, report. The only caller of `child`.
//!
//! The clone shares the caller's memory (`CLONE_VM`, as `posix_spawn(3)` does), so its cost does not
//! depend on the caller's size; but it does not suspend the caller (no `CLONE_VFORK`): the calling
//! thread writes the id maps meanwhile, then waits on the futex that exec clears, and that wait can
//! be interrupted. Everything that the child touches lives until then.

#![expect(unsafe_code, reason = "borrows the descriptor that the caller lends for the lines")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use crate::caller::{self, Kept};
use crate::error::{LaunchError, SpawnError};
use crate::host::files::Made;
use crate::host::target::Target;
use crate::plan::call::{EncodeFacts, Handles, Sequence};
use crate::plan::maps::Maps;
use crate::plan::{Line, Plan, Stage};
use crate::process::Process;
use crate::step::Step;
use crate::sys::fd;

mod clone;
mod fork;
mod maps;
mod point;
mod report;
mod stack;
mod wait;

pub use fork::{Forked, Side, fork};

use clone::{clone_and_wait, kill_and_reap, reap, signal_mask};
use report::{await_introduction, await_report};
use wait::Wait;

/// What a launch may be told beside the plan.
#[derive(Default)]
pub struct Options<'a> {
    /// Asked now and then while the launch waits: `true` ends it, and nothing is left.
    pub interrupted: Option<&'a mut dyn FnMut() -> bool>,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Where the line of each call goes once it is done.
    pub trace: Option<RawFd>,
    /// For tests: the call with this number (see [`Plan::call_count`]) fails with this error number.
    pub inject: Option<(u32, i32)>,
}

/// Executes a plan. Returns once the command has been executed; nothing is left behind otherwise.
///
/// # Errors
///
/// [`LaunchError::Spawn`] with the step that failed, as seen by the process that made it;
/// [`LaunchError::Interrupted`] and [`LaunchError::TimedOut`] as the options say.
pub fn launch(
    plan: &Plan,
    target: Option<&Target>,
    options: Options<'_>,
) -> Result<Process, LaunchError> {
    let mut wait = Wait::new(options.interrupted.map(|ask| ask as _), options.deadline);
    let trace = options.trace.unwrap_or(-1);
    let told = Told { trace, inject: options.inject };
    let kit = Kit::new(plan, target)?;
    let mask = signal_mask();
    let mut handles = kit.handles(target);
    let mut programs: Vec<OwnedFd> = Vec::new();
    let inject_at = told.inject_into(plan);
    let mut encoded = Vec::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        let lines = if trace >= 0 { stage_lines(plan, index) } else { Vec::new() };
        encoded.push((stage, lines, inject_at(index)));
    }
    // Later stages first: each memfd's number goes into the stage before it.
    for (index, (stage, lines, inject)) in encoded.iter().enumerate().skip(1).rev() {
        let facts = facts((index, stage), handles, mask, (trace, lines), *inject);
        let program = stage.sequence.encode(&facts);
        let memfd = fd::memfd(c"minidocker-program", &bytes_of(&program), false)
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        handles.programs[index - 1] = memfd.as_raw_fd();
        programs.push(memfd);
    }
    let (stage, lines, inject) = &encoded[0];
    let facts = facts((0, stage), handles, mask, (trace, lines), *inject);
    let facts = EncodeFacts { report: -1, ..facts };
    let program = stage.sequence.encode(&facts);
    if trace >= 0 {
        tell_before(plan, trace);
    }
    let made = Made::make(&plan.directories)
        .map_err(|(path, error)| SpawnError::from_io(Step::Overlay, &error).about(path))?;
    let (mut theirs, control, report) = kit.split();
    let mut parents_part = |pid, wait: &mut Wait<'_>| {
        // The child has copies. The caller's own would keep sockets and pipes open, and the id maps
        // need a descriptor where few are left.
        theirs = None;
        programs.clear();
        write_maps(plan, pid, wait)
    };
    let outcome = clone_and_wait(program, plan.clone_flags, &mut parents_part, &mut wait);
    if plan.endangers_dumpable {
        restore_dumpable();
    }
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
        (Some(report), _) => await_report(plan, pid, report.as_fd(), &mut wait)?,
        (None, Some(control)) => await_introduction(plan, pid, control.as_fd(), &mut wait)?,
        (None, None) => pid,
    };
    if let Some(error) = wait.given_up {
        kill_and_reap(pid);
        return Err(error);
    }
    made.keep();
    Ok(Process::new(pid, plan, control))
}

/// What a launch is told beside the plan.
#[derive(Clone, Copy)]
struct Told {
    /// Where the lines go; -1 for nowhere.
    trace: RawFd,
    inject: Option<(u32, i32)>,
}

impl Told {
    /// For each stage: the index of the call that is to fail, and its error number.
    fn inject_into(self, plan: &Plan) -> impl Fn(usize) -> Option<(u32, i32)> {
        let found = self.inject.and_then(|(number, errno)| {
            plan.call_with_number(number).map(|(stage, index)| (stage, (index, errno)))
        });
        move |stage| found.filter(|&(at, _)| at == stage).map(|(_, inject)| inject)
    }
}

/// Writes the child's id maps.
fn write_maps(plan: &Plan, pid: i32, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
    plan.maps.as_ref().map_or(Ok(()), |maps| maps.write(pid, wait))
}

/// Starts the watchdog, which is nobody's child: the process that is cloned here forks it and ends.
pub(crate) fn start_watchdog(
    helper: &Kept,
    socket: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
) -> Result<(), LaunchError> {
    let stages = Plan::watchdog();
    let mut handles = Handles {
        helper: helper.raw(),
        control: socket.as_raw_fd(),
        report: pidfd.as_raw_fd(),
        ..Handles::NONE
    };
    let facts = |stage: &Stage, handles| EncodeFacts {
        role: stage.role,
        stage: 0,
        handles,
        report: -1,
        control: -1,
        trace: -1,
        lines: &[],
        mask: signal_mask(),
        inject: None,
    };
    let header = EncodeFacts {
        report: handles.report,
        control: handles.control,
        ..facts(&stages[1], handles)
    };
    let program = stages[1].sequence.encode(&header);
    let memfd = fd::memfd(c"minidocker-program", &bytes_of(&program), false)
        .map_err(|error| SpawnError::from_io(Step::Watchdog, &error))?;
    handles.programs[0] = memfd.as_raw_fd();
    let program = stages[0].sequence.encode(&facts(&stages[0], handles));
    let mut wait = Wait::new(None, None);
    let outcome = clone_and_wait(program, 0, &mut |_, _| Ok(()), &mut wait)?;
    let status = reap(outcome.pid);
    match (outcome.failed, status) {
        (Some((_, errno)), _) => Err(SpawnError::new(Step::Watchdog, errno).into()),
        // It could not fork: the one thing that it says by its exit status.
        (None, Some(status)) if status != 0 => {
            Err(SpawnError::new(Step::Watchdog, libc::EAGAIN).into())
        }
        (None, _) => Ok(()),
    }
}

/// Makes the caller's memory dumpable again, where a child ended before it could.
fn restore_dumpable() {
    if nix::sys::prctl::get_dumpable() == Ok(false) {
        let restored = nix::sys::prctl::set_dumpable(true);
        debug_assert!(restored.is_ok(), "a process may always make itself dumpable");
    }
}

fn stage_lines(plan: &Plan, index: usize) -> Vec<Vec<u8>> {
    let bytes = |line: &Line| format!("{line}\n").into_bytes();
    plan.stage_lines(index).iter().map(bytes).collect()
}

/// The caller's own lines: the clone, and the maps that are written while the child waits.
fn tell_before(plan: &Plan, trace: RawFd) {
    let mut text = Vec::new();
    for line in plan.caller_lines() {
        text.extend_from_slice(format!("{line}\n").as_bytes());
    }
    // SAFETY: the caller lends the descriptor for the launch.
    let trace = unsafe { BorrowedFd::borrow_raw(trace) };
    // People who asked for lines and closed the reader do not want a failure instead.
    let _ = rustix::io::write(trace, &text);
}

fn bytes_of(program: &[u64]) -> Vec<u8> {
    program.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Descriptors that a launch needs while it is under way.
struct Kit {
    helper: Option<Arc<Kept>>,
    watchdog: Option<Arc<Kept>>,
    /// Where the helper reports, if not on `control`: the end to read, the end to write.
    report: Option<(OwnedFd, OwnedFd)>,
    /// Where init tells how the command ended: the caller's end, init's end.
    control: Option<(OwnedFd, OwnedFd)>,
}

impl Kit {
    fn new(plan: &Plan, target: Option<&Target>) -> Result<Self, LaunchError> {
        let failed = |error: io::Error| SpawnError::from_io(Step::Prepare, &error);
        debug_assert_eq!(plan.enters, target.is_some(), "the plan was made for this target");
        let has_helper = plan.stages.len() > 1;
        Ok(Self {
            helper: has_helper.then(caller::helper).transpose()?,
            watchdog: plan.watched.then(caller::watchdog).transpose()?,
            report: (has_helper && !plan.reports_on_control)
                .then(fd::pipe)
                .transpose()
                .map_err(failed)?,
            control: plan.init.then(fd::socket_pair).transpose().map_err(failed)?,
        })
    }

    /// What only the child needs, and the caller's ends of `control` and `report`.
    fn split(self) -> (Option<impl Sized>, Option<OwnedFd>, Option<OwnedFd>) {
        let (control, init) = self.control.unzip();
        let (report, helper) = self.report.unzip();
        (Some((init, helper, self.helper, self.watchdog)), control, report)
    }

    fn handles(&self, target: Option<&Target>) -> Handles {
        let raw = |fd: &OwnedFd| fd.as_raw_fd();
        let control = self.control.as_ref().map_or(-1, |(_, theirs)| raw(theirs));
        Handles {
            helper: self.helper.as_ref().map_or(-1, |kept| kept.raw()),
            watchdog: self.watchdog.as_ref().map_or(-1, |kept| kept.raw()),
            report: self.report.as_ref().map_or(control, |(_, write)| raw(write)),
            control,
            target: target.map_or(-1, Target::raw_fd),
            ..Handles::NONE
        }
    }
}

/// How the walk of a sequence ended that is no launch.
pub(crate) struct Walked {
    /// The index of the call that failed, and its error number; past the last call where none did.
    /// `None` where the process ended otherwise: it executed something, or a signal ended it.
    pub(crate) failed: Option<(u32, i32)>,
    /// Its wait status; `None` where somebody else has reaped it.
    pub(crate) status: Option<i32>,
}

/// Walks a sequence in a child of its own, for as long as `deadline` allows, and reaps it.
pub(crate) fn walk(
    sequence: &Sequence,
    flags: u64,
    maps: Option<&Maps>,
    handles: Handles,
    deadline: Option<Instant>,
) -> Result<Walked, LaunchError> {
    let stage = Stage { role: 0, sequence: sequence.clone() };
    let facts =
        EncodeFacts { report: -1, ..facts((0, &stage), handles, signal_mask(), (-1, &[]), None) };
    let program = sequence.encode(&facts);
    let mut parents_part =
        |pid, wait: &mut Wait<'_>| maps.map_or(Ok(()), |maps| maps.write(pid, wait));
    let mut wait = Wait::new(None, deadline);
    let outcome = clone_and_wait(program, flags, &mut parents_part, &mut wait)?;
    if let Some(error) = wait.given_up {
        kill_and_reap(outcome.pid);
        return Err(error);
    }
    let status = reap(outcome.pid);
    Ok(Walked { failed: outcome.failed, status })
}

/// What stage `number` is encoded with.
fn facts<'a>(
    (number, stage): (usize, &Stage),
    handles: Handles,
    mask: u64,
    (trace, lines): (RawFd, &'a [Vec<u8>]),
    inject: Option<(u32, i32)>,
) -> EncodeFacts<'a> {
    EncodeFacts {
        role: stage.role,
        stage: number as u32,
        handles,
        report: handles.report,
        control: handles.control,
        trace,
        lines,
        mask,
        inject,
    }
}
