//! The Python module `minidocker._core`: unwrap the arguments, detach from the interpreter, call
//! `minidocker_core`, wrap the result. No logic, and no `unsafe`, lives here.

mod confine;
mod container;
mod errors;
mod files;
mod linux;
mod namespaces;
mod probe;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    confine::register(module)?;
    container::register(module)?;
    linux::register(module)?;
    namespaces::register(module)?;
    probe::register(module)?;
    Ok(())
}
