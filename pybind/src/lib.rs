//! The Python module `minidocker._core`. Each function unwraps its arguments, detaches from the interpreter, calls
//! `minidocker_core`, and wraps the result. The module has no logic, and `unsafe` code only in `at_fork`.

mod at_fork;
mod confine;
mod container;
mod errors;
mod files;
mod fork;
mod linux;
mod namespaces;
mod probe;
mod unseen;

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
    unseen::register(module)?;
    Ok(())
}
