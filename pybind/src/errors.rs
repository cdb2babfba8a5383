//! Turns errors of the core into the package's exceptions. These are defined in Python, because Rust cannot extend an
//! exception class under the stable ABI.

use std::io;

use minidocker_core::error::{Notice, Remedy, SpawnError, SpecError, Value};
use minidocker_core::step::Step;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyImportError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

static SPEC_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SPELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static REMEDY_HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static WARN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static SPAWN_ERROR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The remedy with its setting spelled in Python, by `minidocker._spelling.spelled`.
fn spelled(py: Python<'_>, remedy: &Remedy) -> PyResult<Py<PyAny>> {
    let Some(setting) = remedy.setting() else { return remedy.text().into_py_any(py) };
    let function = SPELLED.import(py, "minidocker._spelling", "spelled")?;
    let arguments = (remedy.text(), setting.name(), setting.to_string(), setting.about());
    Ok(function.call1(arguments)?.unbind())
}

/// `minidocker._errors.spec_error`.
pub(crate) fn spec_error(py: Python<'_>, error: &SpecError) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let function = SPEC_ERROR.import(py, "minidocker._errors", "spec_error")?;
        let (value, shown) = match &error.value {
            Value::Flag(flag) => (flag.into_py_any(py)?, None),
            Value::Word(word) => (word.into_py_any(py)?, None),
            Value::Shown(text) => (py.None(), Some(text)),
        };
        let (reason, remedy) = (error.reason.text(), spelled(py, &error.remedy)?);
        let made = function.call1((error.option, value, shown, reason, remedy))?;
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
        let reason = error.reason.as_ref().map(|reason| spelled(py, reason)).transpose()?;
        options.set_item("reason", reason)?;
        let mut hint = error.hint.as_ref().map(|remedy| spelled(py, remedy)).transpose()?;
        if error.may_be_the_outer_containers()
            && let Some(remedy) = remedy_here(py, error)?
        {
            hint = Some(remedy);
        }
        options.set_item("hint", hint)?;
        options.set_item("command", error.step == Step::Exec)?;
        Ok(PyErr::from_value(function.call((error.errno,), Some(&options))?))
    };
    make().unwrap_or_else(|failure| failure)
}

/// Gives each warning by `minidocker._warnings.warn`, which raises it if the caller's filters say so.
pub(crate) fn warn(py: Python<'_>, notices: &[Notice]) -> PyResult<()> {
    for notice in notices {
        let function = WARN.import(py, "minidocker._warnings", "warn")?;
        function.call1(spelled_notice(py, notice)?)?;
    }
    Ok(())
}

/// A reason and a remedy, in Python's words.
pub(crate) fn spelled_notice(py: Python<'_>, notice: &Notice) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    Ok((spelled(py, &notice.reason)?, spelled(py, &notice.hint)?))
}

/// The remedy for a setting of the container around the caller, by `minidocker._doctor.refusals.remedy_here`; `None` if
/// that is not the reason, or if the caller has entered a root in which the package has no files.
fn remedy_here(py: Python<'_>, error: &SpawnError) -> PyResult<Option<Py<PyAny>>> {
    let function = match REMEDY_HERE.import(py, "minidocker._doctor.refusals", "remedy_here") {
        Ok(function) => function,
        Err(failure) if failure.is_instance_of::<PyImportError>(py) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let found = function.call1((error.step.name(), error.errno))?;
    Ok((!found.is_none()).then(|| found.unbind()))
}

/// `ValueError` for a word that the package does not pass.
pub(crate) fn unknown(what: &str, word: &str) -> PyErr {
    PyValueError::new_err(format!("unknown {what}: {word:?}"))
}

/// `OSError` with errno, from which Python picks a subclass such as `ProcessLookupError`.
pub(crate) fn os_error(py: Python<'_>, error: &io::Error) -> PyErr {
    let Some(errno) = error.raw_os_error() else { return PyOSError::new_err(error.to_string()) };
    let text = py.import("os").and_then(|os| os.call_method1("strerror", (errno,)));
    text.map_or_else(|failure| failure, |text| PyOSError::new_err((errno, text.unbind())))
}
