//! The functions that Python requires a program to call before and after a fork.
//!
//! All `unsafe` code of this crate is here: PyO3 has no safe binding of the three functions.

#![expect(unsafe_code, reason = "PyOS_BeforeFork and its companions have no safe binding")]

use minidocker_core::launch::Side;
use pyo3::prelude::*;

/// Forks as `os.fork()` does: runs the hooks of `os.register_at_fork`, takes and releases the import lock, and in the
/// copy resets the interpreter's locks and forgets its other threads.
pub(crate) fn as_python_does(_attached: Python<'_>, fork: &mut dyn FnMut() -> Side) -> Side {
    // SAFETY: this thread is attached to the interpreter, as the token shows, and stays so until after the fork.
    unsafe { pyo3::ffi::PyOS_BeforeFork() };
    let side = fork();
    match side {
        // SAFETY: attached, in the process that called fork(3), after PyOS_BeforeFork.
        Side::Caller => unsafe { pyo3::ffi::PyOS_AfterFork_Parent() },
        // SAFETY: attached, in the process that fork(3) has made, in the copy of the same thread.
        Side::Copy => unsafe { pyo3::ffi::PyOS_AfterFork_Child() },
    }
    side
}
