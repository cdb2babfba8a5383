//! Warnings and reasons about files that exist outside and that a container does not show.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use minidocker_core::{plan, spec};
use pyo3::prelude::*;

use crate::container::{Command, Spec};
use crate::errors;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(explain_missing, module)?)?;
    module.add_function(wrap_pyfunction!(warn_of_entering, module)?)?;
    module.add_function(wrap_pyfunction!(warn_of_mounts, module)?)?;
    module.add_function(wrap_pyfunction!(warn_of_variables, module)?)
}

/// Gives the warnings of `spawn` about the mounts of `spec`, for a copy of this process.
#[pyfunction]
fn warn_of_mounts(py: Python<'_>, spec: &Spec) -> PyResult<()> {
    errors::warn(py, &plan::mount_notices(&spec.0))
}

/// Gives the warnings of `spawn` for a command that enters a container of `spec`.
#[pyfunction]
fn warn_of_entering(py: Python<'_>, spec: &Spec, command: &Command) -> PyResult<()> {
    errors::warn(py, &plan::entering_notices(&spec.0, &command.0))
}

/// Gives the warnings of `spawn` about variables, for a copy of this process.
#[pyfunction]
fn warn_of_variables(py: Python<'_>, spec: &Spec) -> PyResult<()> {
    // A copy of the interpreter has its import path already.
    let own = spec::Environment::of_caller().without(&["PYTHONHOME", "PYTHONPATH"]).as_given();
    errors::warn(py, &plan::variable_notices(&spec.0, &own))
}

/// Explains why an absolute path is missing in a container of `spec`: it exists outside, and the profile does not show
/// it. For a program, that may be its interpreter. Returns the reason and the remedy, or `None` if that is not so.
#[pyfunction]
#[pyo3(signature = (spec, path, *, is_program=false))]
fn explain_missing(
    py: Python<'_>,
    spec: &Spec,
    path: &[u8],
    is_program: bool,
) -> PyResult<Option<(Py<PyAny>, Py<PyAny>)>> {
    let path = Path::new(OsStr::from_bytes(path));
    let explained = py.detach(|| plan::explain_missing(&spec.0, path, is_program));
    explained.map(|notice| errors::spelled_notice(py, &notice)).transpose()
}
