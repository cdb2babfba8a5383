//! Errors of the core as the package's exceptions, which are defined in Python: an exception class
//! cannot be extended in Rust under the stable ABI.

use std::io;

use minidocker_core::error::{SpawnError, SpecError};
use minidocker_core::step::Step;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

static SPEC_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SPAWN_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// `minidocker._errors.SpecError`.
pub(crate) fn spec_error(py: Python<'_>, error: &SpecError) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let class = SPEC_ERROR.import(py, "minidocker._errors", "spec_error")?;
        let made = class.call1((error.option, &error.value, &error.reason, &error.remedy))?;
        Ok(PyErr::from_value(made))
    };
    make().unwrap_or_else(|failure| failure)
}

/// `minidocker._errors.spawn_error`, which picks the class by the error number.
pub(crate) fn spawn_error(py: Python<'_>, error: &SpawnError) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let function = SPAWN_ERROR.import(py, "minidocker._errors", "spawn_error")?;
        let options = PyDict::new(py);
        options.set_item("filename", error.filename.as_ref())?;
        options.set_item("step", error.step.name())?;
        options.set_item("doing", error.step.text())?;
        options.set_item("hint", error.hint.as_ref())?;
        options.set_item("command", error.step == Step::Exec)?;
        Ok(PyErr::from_value(function.call((error.errno,), Some(&options))?))
    };
    make().unwrap_or_else(|failure| failure)
}

/// `OSError` with errno, which Python makes `ProcessLookupError` and the like of.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else { return PyOSError::new_err(error.to_string()) };
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (errno,)));
    text.map_or_else(|failure| failure, |text| PyOSError::new_err((errno, text.unbind())))
}
