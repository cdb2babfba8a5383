//! The Python module `minidocker._core`: unwrap the arguments, detach from the interpreter, call
//! `minidocker_core`, wrap the result. No logic lives here, and no `unsafe` but in `at_fork`.

mod at_fork;
mod confine;
mod container;
mod errors;
mod files;
mod fork;
mod linux;
mod namespaces;
mod probe;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    confine::register(module)?;
    container::register(module)?;
    fork::register(module)?;
    linux::register(module)?;
    namespaces::register(module)?;
    probe::register(module)?;
    Ok(())
}
