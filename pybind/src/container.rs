//! `minidocker._core.spawn` and `plan_lines`, and the classes that they take and return.

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use minidocker_core::caller;
use minidocker_core::error::{LaunchError, PlanError, SpawnError};
use minidocker_core::host::target::Target;
use minidocker_core::launch::LaunchParams;
use minidocker_core::linux::CloneFlags;
use minidocker_core::plan::{self, Plan};
use minidocker_core::process::{self, Exit, Usage};
use minidocker_core::spec::namespaces::NamespaceOptions;
use minidocker_core::spec::{self, IdMap, IdRow, Network, Payload, TimeOffset, WorkingDirectory};
use minidocker_core::step::Step;
use pyo3::exceptions::{PyException, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::IntoPyDict;
use pyo3::{create_exception, intern};

use crate::confine::Confine;
use crate::errors;
use crate::files::{MountArg, OverlayArg, c_string};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Spec>()?;
    module.add_class::<Command>()?;
    module.add_class::<Process>()?;
    module.add("DeadlineReached", module.py().get_type::<DeadlineReached>())?;
    module.add_function(wrap_pyfunction!(spawn, module)?)?;
    module.add_function(wrap_pyfunction!(plan_lines, module)?)?;
    module.add_function(wrap_pyfunction!(prepare_error, module)?)?;
    module.add_function(wrap_pyfunction!(call_count, module)?)?;
    module.add_function(wrap_pyfunction!(hold, module)?)?;
    module.add_function(wrap_pyfunction!(release, module)?)?;
    module.add_function(wrap_pyfunction!(register_at_fork, module)?)
}

type Row = (u32, u32, u32);

/// Rows, or the word `"auto"`, which stands for the subordinate ids.
#[derive(FromPyObject)]
enum IdMapArg {
    Rows(Vec<Row>),
    Named(String),
}

fn id_map(map: Option<IdMapArg>) -> PyResult<IdMap> {
    Ok(match map {
        None => IdMap::Caller,
        Some(IdMapArg::Named(name)) if name == "auto" => IdMap::Auto,
        Some(IdMapArg::Named(name)) => return Err(errors::unknown("id map", &name)),
        Some(IdMapArg::Rows(rows)) => IdMap::Rows(
            rows.into_iter()
                .map(|(inside, outside, count)| IdRow { inside, outside, count })
                .collect(),
        ),
    })
}

/// `"none"`, `"host"`, or the pid of a container's first process.
#[derive(FromPyObject)]
enum NetworkArg {
    Named(String),
    Container(i32),
}

impl NetworkArg {
    fn into_core(self) -> PyResult<Network> {
        Ok(match self {
            Self::Container(pid) => Network::Join(pid),
            Self::Named(name) if name == "host" => Network::Host,
            Self::Named(name) if name == "none" => Network::None,
            Self::Named(name) => return Err(errors::unknown("network", &name)),
        })
    }
}

/// The isolation options, as the core has them.
#[pyclass(frozen, module = "minidocker._core")]
pub(crate) struct Spec(pub(crate) spec::Spec);

#[pymethods]
impl Spec {
    #[new]
    #[pyo3(signature = (
        *, namespaces, hostname, domainname, uid_map, gid_map, network, rootfs, mounts, shown,
        named, read_only, overlay, confine, init, die_with_parent, monotonic, boottime,
    ))]
    #[expect(clippy::too_many_arguments, reason = "one keyword for each option")]
    fn new(
        py: Python<'_>,
        namespaces: i32,
        hostname: Option<OsString>,
        domainname: Option<OsString>,
        uid_map: Option<IdMapArg>,
        gid_map: Option<IdMapArg>,
        network: Option<NetworkArg>,
        rootfs: Option<PyBackedBytes>,
        mounts: Vec<MountArg>,
        shown: Vec<PyBackedBytes>,
        named: (Option<u32>, Option<u32>),
        read_only: bool,
        overlay: OverlayArg,
        confine: Option<&Confine>,
        init: bool,
        die_with_parent: bool,
        monotonic: Option<(i64, u32)>,
        boottime: Option<(i64, u32)>,
    ) -> PyResult<Self> {
        let namespaces = NamespaceOptions::from_flags(CloneFlags::from_bits_retain(namespaces))
            .map_err(|flags| PyValueError::new_err(format!("unknown namespaces: {flags:?}")))?;
        let offset = |(seconds, nanoseconds)| TimeOffset { seconds, nanoseconds };
        Ok(Self(spec::Spec {
            namespaces,
            hostname: hostname.map(OsString::into_vec),
            domainname: domainname.map(OsString::into_vec),
            uid_map: id_map(uid_map)?,
            gid_map: id_map(gid_map)?,
            network: network.map(NetworkArg::into_core).transpose()?,
            rootfs: rootfs.map(|rootfs| c_string(py, "rootfs", &rootfs)).transpose()?,
            mounts: mounts.into_iter().map(|mount| mount.into_core(py)).collect::<PyResult<_>>()?,
            shown: shown
                .into_iter()
                .map(|path| {
                    let path = c_string(py, "mounts", &path)?;
                    let path = OsString::from_vec(path.into_bytes()).into();
                    Ok(spec::ShownPath { path, target: None })
                })
                .collect::<PyResult<_>>()?,
            named_users: named.0.into_iter().collect(),
            named_groups: named.1.into_iter().collect(),
            read_only,
            overlay: overlay.into_core(py)?,
            confine: confine.map_or_else(Default::default, |confine| confine.0.clone()),
            init,
            die_with_parent,
            monotonic_offset: monotonic.map(offset),
            boottime_offset: boottime.map(offset),
        }))
    }

    /// Returns whether a command without an environment of its own inherits this variable.
    fn inherits_variable(&self, name: &[u8], value: &[u8]) -> bool {
        self.0.inherits_variable(name, value)
    }
}

/// The command and its process, as the core has them.
#[pyclass(frozen, module = "minidocker._core")]
pub(crate) struct Command(pub(crate) spec::CommandSpec);

#[pymethods]
impl Command {
    #[new]
    #[pyo3(signature = (
        *, candidates, argv, envp, cwd, stdio, pass_fds, close_fds, restore_signals, umask,
        new_session, process_group, terminal, user, group, groups,
    ))]
    #[expect(clippy::too_many_arguments, reason = "one keyword for each option of subprocess")]
    #[expect(clippy::fn_params_excessive_bools, reason = "the arguments are keywords")]
    fn new(
        py: Python<'_>,
        candidates: Vec<PyBackedBytes>,
        argv: Vec<PyBackedBytes>,
        envp: Option<Vec<PyBackedBytes>>,
        cwd: Option<&[u8]>,
        stdio: (RawFd, RawFd, RawFd),
        pass_fds: Vec<RawFd>,
        close_fds: bool,
        restore_signals: bool,
        umask: Option<u32>,
        new_session: bool,
        process_group: Option<i32>,
        terminal: bool,
        user: Option<u32>,
        group: Option<u32>,
        groups: Option<Vec<u32>>,
    ) -> PyResult<Self> {
        let texts = |option, list: Vec<PyBackedBytes>| {
            list.iter().map(|bytes| c_string(py, option, bytes)).collect::<PyResult<Vec<_>>>()
        };
        let descriptor = |fd: RawFd| (fd >= 0).then_some(fd);
        Ok(Self(spec::CommandSpec {
            candidates: texts("args", candidates)?,
            argv: texts("args", argv)?,
            envp: match envp {
                Some(envp) => texts("env", envp)?.into_iter().collect(),
                None => spec::Environment::of_caller(),
            },
            working_directory: match cwd {
                Some(cwd) => WorkingDirectory::Path(c_string(py, "cwd", cwd)?),
                None => WorkingDirectory::Caller,
            },
            stdio: [descriptor(stdio.0), descriptor(stdio.1), descriptor(stdio.2)],
            pass_fds,
            close_fds,
            restore_signals,
            umask,
            new_session,
            process_group,
            terminal,
            user,
            group,
            groups,
        }))
    }
}

fn payload(command: Option<&Command>) -> Payload<'_> {
    command.map_or(Payload::Hold, |command| Payload::Command(&command.0))
}

/// Makes the plan. Detaches from the interpreter, because it reads files.
pub(crate) fn make_plan(
    py: Python<'_>,
    spec: &spec::Spec,
    payload: Payload<'_>,
    enter: Option<i32>,
) -> PyResult<(Plan, Option<Target>)> {
    py.detach(|| Plan::gather(spec, payload, enter)).map_err(|error| match error {
        PlanError::Spec(error) => errors::spec_error(py, &error),
        PlanError::Spawn(error) => errors::spawn_error(py, &error),
    })
}

/// Starts a container. Returns once its command has been executed, or its idle init if there is no command. Sets
/// `owner._process` to its process before a signal handler can run in Python and raise: an interrupted owner
/// knows which container to end.
#[pyfunction]
#[pyo3(signature = (
    spec, command, *, enter=None, timeout=None, trace=None, inject=None, owner=None,
))]
#[expect(clippy::too_many_arguments, reason = "keywords of a private function")]
fn spawn(
    py: Python<'_>,
    spec: &Spec,
    command: Option<&Command>,
    enter: Option<i32>,
    timeout: Option<f64>,
    trace: Option<RawFd>,
    inject: Option<(u32, i32)>,
    owner: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<Process>> {
    let (plan, target) = make_plan(py, &spec.0, payload(command), enter)?;
    let mut notices = if enter.is_none() { plan::mount_notices(&spec.0) } else { Vec::new() };
    if let Some(command) = command {
        notices.extend(plan.notices(&spec.0, &command.0));
    }
    errors::warn(py, &notices)?;
    let process = launch_detached(py, timeout, trace, inject, |options| {
        process::Process::launch(&plan, target.as_ref(), options)
    })?;
    let process = Py::new(py, Process(process))?;
    if let Some(owner) = owner {
        owner.setattr(intern!(py, "_process"), &process)?;
    }
    Ok(process)
}

/// Launches while detached from the interpreter, and runs Python's signal handlers at intervals.
pub(crate) fn launch_detached<T>(
    py: Python<'_>,
    timeout: Option<f64>,
    trace: Option<RawFd>,
    inject: Option<(u32, i32)>,
    launch: impl FnOnce(LaunchParams<'_>) -> Result<T, LaunchError> + Send,
) -> PyResult<T>
where
    T: Send,
{
    let deadline = timeout.map(|timeout| {
        Instant::now() + Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::MAX / 4)
    });
    let mut interruption = None;
    let launched = py.detach(|| {
        let mut interrupted = || {
            // Give up if the interpreter is being finalized: no code is left to use the container.
            #[expect(
                clippy::redundant_closure_for_method_calls,
                reason = "the method is not generic over the lifetime"
            )]
            let checked = Python::try_attach(|py| py.check_signals());
            interruption = checked.map(Result::err);
            !matches!(interruption, Some(None))
        };
        launch(LaunchParams { interrupted: Some(&mut interrupted), deadline, trace, inject })
    });
    launched.map_err(|error| match error {
        LaunchError::Spawn(error) => errors::spawn_error(py, &error),
        LaunchError::Spec(error) => errors::spec_error(py, &error),
        LaunchError::Interrupted => interruption.flatten().unwrap_or_else(|| PyErr::fetch(py)),
        LaunchError::TimedOut => DeadlineReached::new_err(error.to_string()),
    })
}

create_exception!(
    minidocker._core,
    DeadlineReached,
    PyException,
    "The timeout of `spawn` expired. No signal handler of the caller raises this exception."
);

/// The exception for a launch that fails before it starts, for example because a pipe cannot be made.
#[pyfunction]
fn prepare_error(py: Python<'_>, errno: i32) -> Py<PyAny> {
    errors::spawn_error(py, &SpawnError::new(Step::Prepare, errno)).into_value(py).into_any()
}

type PlanLine = (String, &'static str, String, Option<&'static str>);

/// Returns the plan that [`spawn`] would execute: the actor, step, call and note of each line.
#[pyfunction]
#[pyo3(signature = (spec, command, *, enter=None))]
fn plan_lines(
    py: Python<'_>,
    spec: &Spec,
    command: Option<&Command>,
    enter: Option<i32>,
) -> PyResult<Vec<PlanLine>> {
    let (plan, _) = make_plan(py, &spec.0, payload(command), enter)?;
    let lines = plan.lines().into_iter();
    Ok(lines.map(|line| (line.actor.to_string(), line.step.name(), line.call, line.note)).collect())
}

/// Returns the number of calls that `inject` can make fail; with `fork`, in the plan for a copy of this process.
#[pyfunction]
#[pyo3(signature = (spec, command, *, enter=None, fork=false))]
fn call_count(
    py: Python<'_>,
    spec: &Spec,
    command: Option<&Command>,
    enter: Option<i32>,
    fork: bool,
) -> PyResult<usize> {
    if let Some(how) = command.filter(|_| fork) {
        return Ok(make_plan(py, &spec.0, Payload::Fork(&how.0), enter)?.0.call_count());
    }
    Ok(make_plan(py, &spec.0, payload(command), enter)?.0.call_count())
}

/// Records descriptors that copies of this process, made for other calls, must close.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 passes extracted arguments by value")]
fn hold(py: Python<'_>, fds: Vec<RawFd>) {
    py.detach(|| caller::hold(&fds));
}

/// Closes descriptors that [`hold`] recorded.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 passes extracted arguments by value")]
fn release(py: Python<'_>, fds: Vec<RawFd>) {
    py.detach(|| caller::release(&fds));
}

/// Registers the three functions below with `os.register_at_fork`, once in a process: the interpreter never removes
/// hooks, and a package that is imported again calls this again.
#[pyfunction]
fn register_at_fork(py: Python<'_>) -> PyResult<()> {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let hooks = [
        ("before", wrap_pyfunction!(before_fork, py)?),
        ("after_in_parent", wrap_pyfunction!(after_fork_in_parent, py)?),
        ("after_in_child", wrap_pyfunction!(after_fork_in_child, py)?),
    ];
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks.into_py_dict(py)?))?;
    Ok(())
}

/// Before a fork: locks the state of this process until one of the next two functions is called.
#[pyfunction]
fn before_fork(py: Python<'_>) {
    // Detach while waiting for the lock: another thread may hold it to start the watchdog.
    py.detach(caller::before_fork);
}

/// After a fork, in the parent.
#[pyfunction]
fn after_fork_in_parent() {
    caller::after_fork_in_parent();
}

/// After a fork, in the child: closes the descriptors that it inherited from its parent.
#[pyfunction]
fn after_fork_in_child() {
    caller::after_fork_in_child();
}

/// The time between two checks of the main thread for signals.
const SLICE: Duration = Duration::from_millis(100);

/// The first process of a container.
#[pyclass(frozen, module = "minidocker._core")]
pub(crate) struct Process(pub(crate) process::Process);

impl Process {
    /// Waits for the end, and runs Python's signal handlers meanwhile. A signal that arrives right before a blocking
    /// call, or that another thread receives, does not interrupt that call. So a blocking wait(2) could ignore Ctrl-C
    /// until the container ends by itself.
    fn await_end(&self, py: Python<'_>) -> PyResult<()> {
        // Out of descriptors, or the process has been reaped: only wait(2) is left.
        let Ok(watch) = self.0.watch() else { return Ok(()) };
        loop {
            py.check_signals()?;
            if py.detach(|| watch.ends_within(SLICE)) {
                return Ok(());
            }
        }
    }
}

#[pymethods]
impl Process {
    /// The pid in the caller's PID namespace.
    #[getter]
    fn pid(&self) -> i32 {
        self.0.pid()
    }

    /// Whether the process leads its own session.
    #[getter]
    fn leads_session(&self) -> bool {
        self.0.leads_session()
    }

    /// Whether it is a child of this process, and not of one that this process was forked from.
    #[getter]
    fn is_ours(&self) -> bool {
        self.0.is_ours()
    }

    /// Sends a signal.
    fn send_signal(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        py.detach(|| self.0.signal(signal)).map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidInput && !self.0.is_ours() {
                let text = "the container is outside this process's PID namespace: signal it from the process \
                            that started it, or from a fork in the same PID namespace";
                return PyOSError::new_err((error.raw_os_error(), text));
            }
            errors::os_error(py, &error)
        })
    }

    /// Reaps the process once it has ended. Returns `None` if it still runs and `block` is false.
    fn wait(&self, py: Python<'_>, block: bool) -> PyResult<Option<ExitTuple>> {
        if block && caller::is_main_thread() {
            self.await_end(py)?;
        }
        loop {
            let exit =
                py.detach(|| if block { self.0.wait().map(Some) } else { self.0.try_wait() });
            match exit {
                Ok(exit) => return Ok(exit.map(exit_tuple)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => py.check_signals()?,
                Err(error) => return Err(errors::os_error(py, &error)),
            }
        }
    }
}

/// Whether wait(2) returned the end, the wait status, and the usage: user seconds, system seconds and peak bytes.
/// `None`: the value is lost.
type ExitTuple = (bool, Option<i32>, Option<(f64, f64, Option<u64>)>);

fn exit_tuple(exit: Exit) -> ExitTuple {
    let used = |usage: Usage| (usage.user.as_secs_f64(), usage.system.as_secs_f64(), usage.peak);
    (exit.seen, exit.status.map(ExitStatusExt::into_raw), exit.usage.map(used))
}
