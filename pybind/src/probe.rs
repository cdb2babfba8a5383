//! `minidocker._core.probe`: tests one feature in a child.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use minidocker_core::error::LaunchError;
use minidocker_core::probe::{
    Answer, Probe, ProbeOptions, landlock_version, root_is_a_mount, start_watchdog,
};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;

use crate::errors;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(probe, module)?)?;
    module.add_function(wrap_pyfunction!(probe_watchdog, module)?)?;
    module.add_function(wrap_pyfunction!(probe_root_is_a_mount, module)?)?;
    module.add_function(wrap_pyfunction!(probe_landlock_version, module)?)
}

/// A failure: `"refused"`, `"impossible"`, `"killed"` or `"hung"`; the call or the reason, the error number or the
/// signal, and the file that the call was about.
type Outcome = (&'static str, String, i32, Option<PathBuf>);

/// Tests one feature in a child, which is gone afterwards. Returns `None` if it works.
#[pyfunction]
#[pyo3(signature = (name, *, user_namespace=true, path=None, timeout=2.0))]
fn probe(
    py: Python<'_>,
    name: &str,
    user_namespace: bool,
    path: Option<&[u8]>,
    timeout: f64,
) -> PyResult<Option<Outcome>> {
    let probe = Probe::of_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("unknown probe: {name:?}")))?;
    let path = path.map(CString::new).transpose()?;
    let timeout = Duration::try_from_secs_f64(timeout)
        .map_err(|error| PyValueError::new_err(format!("timeout={timeout}: {error}")))?;
    let options = ProbeOptions { user_namespace, path, timeout };
    match py.detach(|| probe.run(&options)) {
        Answer::Works => Ok(None),
        Answer::Refused { call, errno, filename } => Ok(Some(("refused", call, errno, filename))),
        Answer::Impossible { reason } => Ok(Some(("impossible", reason, 0, None))),
        Answer::Killed { signal } => Ok(Some(("killed", String::new(), signal, None))),
        Answer::Hung => Ok(Some(("hung", String::new(), 0, None))),
    }
}

/// Starts a watchdog and ends it. Raises the `SpawnError` of the call that is refused, or `TimeoutError`.
#[pyfunction]
#[pyo3(signature = (*, timeout=2.0))]
fn probe_watchdog(py: Python<'_>, timeout: f64) -> PyResult<()> {
    let timeout = Duration::try_from_secs_f64(timeout)
        .map_err(|error| PyValueError::new_err(format!("timeout={timeout}: {error}")))?;
    py.detach(|| start_watchdog(timeout)).map_err(|error| match error {
        LaunchError::Spawn(error) => errors::spawn_error(py, &error),
        error => PyTimeoutError::new_err(error.to_string()),
    })
}

/// Whether the root directory is the root of a mount; `None` if the kernel cannot tell.
#[pyfunction]
fn probe_root_is_a_mount() -> Option<bool> {
    root_is_a_mount()
}

/// The version of Landlock; `None` if the kernel has none.
#[pyfunction]
fn probe_landlock_version() -> PyResult<Option<u8>> {
    Ok(landlock_version()?)
}
