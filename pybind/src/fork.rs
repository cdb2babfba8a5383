//! `minidocker._core.fork`: a copy of the interpreter in a new container.

use std::os::fd::IntoRawFd;

use minidocker_core::caller;
use minidocker_core::launch::{self, Forked};
use minidocker_core::process;
use minidocker_core::spec::Payload;
use pyo3::prelude::*;

use crate::at_fork::as_python_does;
use crate::container::{Command, Process, Spec, launch_detached, make_plan};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(fork, module)?)
}

/// Forks this process into a new container. Returns twice: true in the caller, false in the copy. Sets
/// `owner.channel` in both to a stream socket to the other, and in the caller `owner._process` to the container's
/// process and `owner._pidfd` to a pidfd of it (-1 if no descriptor is left). In the caller it also records both
/// descriptors, as `hold` does. All that happens before a signal handler can run in Python and raise.
#[pyfunction]
#[pyo3(signature = (spec, command, owner, *, timeout=None, inject=None))]
fn fork(
    py: Python<'_>,
    spec: &Spec,
    command: &Command,
    owner: &Bound<'_, PyAny>,
    timeout: Option<f64>,
    inject: Option<(u32, i32)>,
) -> PyResult<bool> {
    let (plan, _) = make_plan(py, &spec.0, Payload::Fork(&command.0), None)?;
    let forked = launch_detached(py, timeout, None, inject, |options| {
        launch::fork(&plan, options, &mut |fork| Python::attach(|py| as_python_does(py, fork)))
    })?;
    let (process, channel) = match forked {
        Forked::Caller(launched, channel) => {
            (Some(process::Process::from(launched)), channel.into_raw_fd())
        }
        Forked::Copy(channel) => (None, channel.into_raw_fd()),
    };
    owner.setattr("channel", channel)?;
    let Some(process) = process else { return Ok(false) };
    let pidfd = process.pidfd().map_or(-1, IntoRawFd::into_raw_fd);
    owner.setattr("_process", Process(process))?;
    owner.setattr("_pidfd", pidfd)?;
    caller::hold(&[channel, pidfd]);
    Ok(true)
}
