//! From a plan to a running container: signals, clone, id maps, report. The only caller of `child`.
//!
//! The clone shares the caller's memory (`CLONE_VM`, as `posix_spawn(3)` does), so its cost does not
//! depend on the caller's size; but it does not suspend the caller (no `CLONE_VFORK`): the calling
//! thread writes the id maps meanwhile, then waits on the futex that exec clears, and that wait can
//! be interrupted. Everything that the child touches lives until then.

#![expect(unsafe_code, reason = "clone(2), and memory shared with the child")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::caller::{self, Kept};
use crate::error::{LaunchError, SpawnError};
use crate::join::Target;
use crate::linux::{self, Errno, Pid};
use crate::plan::call::{EncodeFacts, Handles, Sequence};
use crate::plan::maps::{Maps, Rows};
use crate::plan::{Plan, Stage, Step};
use crate::process::Process;
use crate::program::{Header, NOTHING_FAILED, go, relocate};
use crate::raw::{nr, syscall};
use crate::{child, fd, sys};

mod report;
mod stack;

use report::{await_introduction, await_report};
use stack::Stack;

/// How often a wait looks whether it has been interrupted: a signal does not always end it, since
/// another thread may have taken it.
const SLICE: Duration = Duration::from_millis(50);

/// How long a killed child may take to die before its memory is given up instead of freed.
const DEATH: Duration = Duration::from_secs(5);

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
    let kit = Kit::new(plan, target)?;
    let interrupted = options.interrupted;
    let mut wait = Wait { interrupted, deadline: options.deadline };
    let mask = signal_mask();
    let trace = options.trace.unwrap_or(-1);
    let mut handles = kit.handles(target);
    let mut programs: Vec<OwnedFd> = Vec::new();
    let mut first = 0;
    let mut encoded = Vec::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        let lines = if trace >= 0 { stage_lines(plan, index) } else { Vec::new() };
        let count = stage.sequence.calls.len() as u32;
        let inject = options.inject.and_then(|(at, errno)| {
            at.checked_sub(first).filter(|&at| at < count).map(|at| (at, errno))
        });
        first += count;
        encoded.push((stage, lines, inject));
    }
    // Later stages first: each memfd's number goes into the stage before it.
    for (index, (stage, lines, inject)) in encoded.iter().enumerate().skip(1).rev() {
        let facts = facts((index, stage), handles, mask, trace, lines, *inject);
        let program = stage.sequence.encode(&facts);
        let memfd = fd::memfd(c"minidocker-program", &bytes_of(&program), false)
            .map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
        handles.programs[index - 1] = memfd.as_raw_fd();
        programs.push(memfd);
    }
    let (stage, lines, inject) = &encoded[0];
    let facts =
        EncodeFacts { report: -1, ..facts((0, stage), handles, mask, trace, lines, *inject) };
    let program = stage.sequence.encode(&facts);
    if trace >= 0 {
        tell_before(plan, trace);
    }
    let flags = plan.clone_flags;
    let (mut theirs, control, report) = kit.split();
    let mut parents_part = |pid| {
        // The child has copies. The caller's own would keep sockets and pipes open, and the id maps
        // need a descriptor where few are left.
        theirs = None;
        programs.clear();
        plan.maps.as_ref().map_or(Ok(()), |maps| maps.write(pid))
    };
    let outcome = clone_and_wait(program, flags, &mut parents_part, &mut wait)?;
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
    Ok(Process::new(pid, plan, control))
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
    let mut wait = Wait { interrupted: None, deadline: None };
    let outcome = clone_and_wait(program, 0, &mut |_| Ok(()), &mut wait)?;
    reap(outcome.pid);
    match outcome.failed {
        Some((_, errno)) => Err(SpawnError::new(Step::Watchdog, errno).into()),
        None => Ok(()),
    }
}

fn stage_lines(plan: &Plan, index: usize) -> Vec<Vec<u8>> {
    plan.stage_lines(index).iter().map(|line| format!("{line}\n").into_bytes()).collect()
}

/// The caller's own lines: the clone, and the maps that are written while the child waits.
fn tell_before(plan: &Plan, trace: RawFd) {
    let mut text = Vec::new();
    for line in std::iter::once(plan.clone_line()).chain(plan.map_lines()) {
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
            programs: [-1; 2],
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
        EncodeFacts { report: -1, ..facts((0, &stage), handles, signal_mask(), -1, &[], None) };
    let program = sequence.encode(&facts);
    let mut parents_part = |pid| maps.map_or(Ok(()), |maps| maps.write(pid));
    let mut wait = Wait { interrupted: None, deadline };
    let outcome = clone_and_wait(program, flags, &mut parents_part, &mut wait)?;
    let pid = Pid::from_raw(outcome.pid);
    let status = loop {
        match linux::waitpid(pid, 0) {
            Err(Errno::EINTR) => {}
            waited => break waited.ok().map(|(_, status)| status),
        }
    };
    Ok(Walked { failed: outcome.failed, status })
}

/// What stage `number` is encoded with.
fn facts<'a>(
    (number, stage): (usize, &Stage),
    handles: Handles,
    mask: u64,
    trace: RawFd,
    lines: &'a [Vec<u8>],
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

/// How a wait of the launch may end early.
struct Wait<'a> {
    interrupted: Option<&'a mut (dyn FnMut() -> bool + 'a)>,
    deadline: Option<Instant>,
}

impl Wait<'_> {
    fn check(&mut self) -> Result<(), LaunchError> {
        if self.interrupted.as_mut().is_some_and(|interrupted| interrupted()) {
            return Err(LaunchError::Interrupted);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(LaunchError::TimedOut),
            _ => Ok(()),
        }
    }
}

/// How the walk of the first stage ended.
struct Outcome {
    pid: i32,
    /// The call that failed, and its error number; `None` where the walk ended in exec.
    failed: Option<(u32, i32)>,
}

extern "C" fn start_child(program: *mut c_void) -> c_int {
    // SAFETY: `clone_and_wait` hands over its relocated program, which it keeps until this process
    // has executed something else or has ended.
    unsafe { child::run(program.cast()) }
}

/// Clones a child that walks `program`, does the parent's part, and waits until the child has
/// executed something else or has ended.
fn clone_and_wait(
    program: Box<[u64]>,
    flags: u64,
    parents_part: &mut dyn FnMut(i32) -> Result<(), SpawnError>,
    wait: &mut Wait<'_>,
) -> Result<Outcome, LaunchError> {
    let stack = Stack::take().map_err(|error| SpawnError::from_io(Step::Prepare, &error))?;
    let program = Box::leak(program);
    let shared = Shared { header: program.as_mut_ptr().cast() };
    // SAFETY: a whole program, just encoded, in words, which nobody else has.
    unsafe { relocate(shared.header) };
    let flags = flags as c_int | libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // A handler of the caller's would run in the child too, in this memory.
    let mask = block_signals();
    // SAFETY: the stack is not in use; `start_child` keeps to raw system calls and never returns; the
    // program outlives the child's use of it, since it is only freed once the kernel has cleared
    // `tid`, which it does when the child executes or ends.
    let pid = unsafe {
        libc::clone(
            start_child,
            stack.top(),
            flags,
            shared.header.cast(),
            std::ptr::null_mut::<c_int>(),
            std::ptr::null_mut::<c_void>(),
            shared.tid(),
        )
    };
    let error = io::Error::last_os_error();
    restore_signals(mask);
    if pid < 0 {
        // SAFETY: no child came to be, so the program is this function's own again.
        unsafe { shared.free(program.len()) };
        stack.give_back();
        return Err(SpawnError::from_io(Step::Clone, &error).into());
    }
    let written = parents_part(pid);
    shared.tell(if written.is_ok() { go::ON } else { go::ABORT });
    let waited = shared.wait(wait);
    let failed = shared.failure();
    let waited = match (written, failed) {
        // The child had failed before, and what the parent met is what that left.
        (Err(_), Some((_, errno))) if errno != libc::ECANCELED => waited,
        (Err(error), _) => waited.and(Err(error.into())),
        (Ok(()), _) => waited,
    };
    if let Err(error) = waited {
        let _ = sys::kill(pid, libc::SIGKILL);
        let deadline = Some(Instant::now() + DEATH);
        let dead = shared.wait(&mut Wait { interrupted: None, deadline }).is_ok();
        if dead {
            // SAFETY: the child has ended.
            unsafe { shared.free(program.len()) };
            stack.give_back();
            reap(pid);
        }
        // A child that not even SIGKILL ends yet (it waits for a dead network file system, say) still
        // uses this memory, so that is given up.
        return Err(error);
    }
    // SAFETY: the child no longer uses this memory.
    unsafe { shared.free(program.len()) };
    stack.give_back();
    Ok(Outcome { pid, failed })
}

/// The program that parent and child both look at.
struct Shared {
    header: *mut Header,
}

impl Shared {
    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offset of a member, inside the header.
        let word = unsafe { self.header.cast::<u8>().add(offset) };
        // SAFETY: aligned as the member is, alive until `free`, and after the clone only accessed
        // atomically here and by the kernel, or by the child before it ends.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    fn tid(&self) -> *mut c_int {
        self.word(offset_of!(Header, tid)).as_ptr().cast()
    }

    /// Tells the child to go on, or to end.
    fn tell(&self, state: u32) {
        let word = self.word(offset_of!(Header, go));
        word.store(state, Ordering::Release);
        // FUTEX_WAKE, not private: parent and child are two processes.
        // SAFETY: a valid futex word.
        let _ = unsafe { syscall(nr::FUTEX, [word.as_ptr() as u64, 1, 1, 0, 0, 0]) };
    }

    /// Waits until the kernel has cleared `tid`.
    fn wait(&self, wait: &mut Wait<'_>) -> Result<(), LaunchError> {
        let word = self.word(offset_of!(Header, tid));
        loop {
            let value = word.load(Ordering::Acquire);
            if value == 0 {
                return Ok(());
            }
            let slice = [SLICE.as_secs(), u64::from(SLICE.subsec_nanos())];
            let args = [word.as_ptr() as u64, 0, value.into(), slice.as_ptr() as u64, 0, 0];
            // SAFETY: a valid futex word, and a timeout that lives on this stack.
            let slept = unsafe { syscall(nr::FUTEX, args) };
            // EAGAIN: it has been cleared meanwhile.
            if slept.is_err_and(|errno| errno != libc::EAGAIN) {
                wait.check()?;
            }
        }
    }

    fn failure(&self) -> Option<(u32, i32)> {
        let index = self.word(offset_of!(Header, failed_at)).load(Ordering::Acquire);
        let errno = self.word(offset_of!(Header, failed_errno)).load(Ordering::Acquire);
        (index != NOTHING_FAILED).then_some((index, errno as i32))
    }

    /// Frees the program.
    ///
    /// # Safety
    ///
    /// No child uses it any more, and `length` is its length in words.
    unsafe fn free(&self, length: usize) {
        let words = std::ptr::slice_from_raw_parts_mut(self.header.cast::<u64>(), length);
        // SAFETY: it came from `Box::leak` with that length.
        drop(unsafe { Box::from_raw(words) });
    }
}

/// The calling thread's signal mask, as the kernel has it.
fn signal_mask() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes the eight bytes of the mask.
    let read = unsafe { syscall(nr::RT_SIGPROCMASK, [0, 0, &raw mut mask as u64, 8, 0, 0]) };
    debug_assert!(read.is_ok(), "reading the signal mask cannot fail");
    mask
}

/// Blocks every signal, those that libc keeps for itself included, and returns the mask before.
fn block_signals() -> u64 {
    static EVERY: u64 = u64::MAX;
    let mut before = 0_u64;
    let args = [2, &raw const EVERY as u64, &raw mut before as u64, 8, 0, 0];
    // SAFETY: the kernel reads and writes the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
    before
}

fn restore_signals(mask: u64) {
    let args = [2, &raw const mask as u64, 0, 8, 0, 0];
    // SAFETY: the kernel reads the eight bytes of a mask.
    let _ = unsafe { syscall(nr::RT_SIGPROCMASK, args) };
}

/// Waits for a child that has ended or is about to.
fn reap(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    // Somebody else may have reaped it, a handler of SIGCHLD for example.
    while nix::sys::wait::waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
}

fn kill_and_reap(pid: i32) {
    let _ = sys::kill(pid, libc::SIGKILL);
    reap(pid);
}

impl Maps {
    /// Writes the maps of the child's new user namespace.
    fn write(&self, pid: i32) -> Result<(), SpawnError> {
        if self.deny_setgroups {
            write_file(&format!("/proc/{pid}/setgroups"), "deny")?;
        }
        self.uid.write(pid, "uid_map", "newuidmap")?;
        self.gid.write(pid, "gid_map", "newgidmap")
    }
}

impl Rows {
    fn write(&self, pid: i32, file: &str, program: &str) -> Result<(), SpawnError> {
        let text = self.text();
        if !self.through_helper {
            return write_file(&format!("/proc/{pid}/{file}"), &text);
        }
        let output = std::process::Command::new(program)
            .arg(pid.to_string())
            .args(text.split_whitespace())
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| SpawnError::from_io(Step::IdMaps, &error).about(program))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let mut error = SpawnError::new(Step::IdMaps, libc::EPERM).about(program);
        error.hint = Some(format!("It said: {said}. {}", error.hint.unwrap_or_default()));
        Err(error)
    }
}

fn write_file(path: &str, text: &str) -> Result<(), SpawnError> {
    // One write(2): the kernel takes a map whole or not at all.
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| SpawnError::from_io(Step::IdMaps, &error))
}
