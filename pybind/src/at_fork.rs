//! The functions that an interpreter has to call before and after a fork.
//!
//! All `unsafe` of this crate is here: the three functions have no safe binding in PyO3.

#![expect(unsafe_code, reason = "PyOS_BeforeFork and its companions have no safe binding")]

use minidocker_core::launch::Side;
use pyo3::prelude::*;

/// Forks as `os.fork()` does: the hooks of `os.register_at_fork`, the import lock, and in the copy the
/// interpreter's own locks and its other threads.
pub(crate) fn as_python_does(_attached: Python<'_>, fork: &mut dyn FnMut() -> Side) -> Side {
    // SAFETY: this thread is attached to the interpreter, as the token shows, and stays so until after the fork.
    unsafe { pyo3::ffi::PyOS_BeforeFork() };
    let side = fork();
    match side {
        // SAFETY: attached, in the process that was forked, after PyOS_BeforeFork.
        Side::Caller => unsafe { pyo3::ffi::PyOS_AfterFork_Parent() },
        // SAFETY: attached, in the process that was made by fork(3), in the copy of the same thread.
        Side::Copy => unsafe { pyo3::ffi::PyOS_AfterFork_Child() },
    }
    side
}
