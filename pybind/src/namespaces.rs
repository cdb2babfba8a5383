//! `minidocker._core.read_namespaces`: the namespaces that a process is in.

use minidocker_core::host::namespaces::{self, ReadError};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read_namespaces, module)?)
}

/// Returns the inode number of each kind, for the main thread of `pid` or, for `None`, the calling thread.
#[pyfunction]
fn read_namespaces(py: Python<'_>, pid: Option<u32>) -> PyResult<Bound<'_, PyDict>> {
    let read = py.detach(|| pid.map_or_else(namespaces::of_thread, namespaces::of_process));
    let found = read.map_err(|error: ReadError| {
        PyOSError::new_err((error.errno(), error.to_string(), error.path().as_os_str().to_owned()))
    })?;
    let kinds = PyDict::new(py);
    for (kind, inode) in found.iter() {
        kinds.set_item(kind.name(), inode)?;
    }
    Ok(kinds)
}
