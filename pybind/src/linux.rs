//! The single system calls of `minidocker_core::linux`, as flat functions of `minidocker._core`.
//!
//! Flags are plain integers. The kernel, not this layer, refuses unknown ones. A function whose call may wait (for a
//! disk, a network file system, a child) detaches from the interpreter.

#![expect(clippy::needless_pass_by_value, reason = "PyO3 passes extracted arguments by value")]

use std::convert::Infallible;
use std::ffi::{CString, OsStr, c_int};
use std::os::unix::ffi::OsStrExt;

use minidocker_core::linux::{self, CloneFlags, Errno, Gid, MntFlags, MsFlags, Pid, Uid};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(unshare, module)?)?;
    module.add_function(wrap_pyfunction!(setns, module)?)?;
    module.add_function(wrap_pyfunction!(chroot, module)?)?;
    module.add_function(wrap_pyfunction!(chdir, module)?)?;
    module.add_function(wrap_pyfunction!(mount, module)?)?;
    module.add_function(wrap_pyfunction!(umount2, module)?)?;
    module.add_function(wrap_pyfunction!(pivot_root, module)?)?;
    module.add_function(wrap_pyfunction!(sethostname, module)?)?;
    module.add_function(wrap_pyfunction!(setdomainname, module)?)?;
    module.add_function(wrap_pyfunction!(getpid, module)?)?;
    module.add_function(wrap_pyfunction!(getppid, module)?)?;
    module.add_function(wrap_pyfunction!(getuid, module)?)?;
    module.add_function(wrap_pyfunction!(getgid, module)?)?;
    module.add_function(wrap_pyfunction!(setuid, module)?)?;
    module.add_function(wrap_pyfunction!(setgid, module)?)?;
    module.add_function(wrap_pyfunction!(execv, module)?)?;
    module.add_function(wrap_pyfunction!(waitpid, module)?)?;
    Ok(())
}

/// A path or another string for the kernel: `str` (with surrogateescape), `bytes` or `os.PathLike`.
struct Text {
    bytes: CString,
    /// The caller's object, for the `filename` of an error.
    given: Py<PyAny>,
}

impl Text {
    fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.bytes.to_bytes())
    }
}

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let encoded = object.py().import("os")?.call_method1("fsencode", (object,))?;
        match CString::new(encoded.extract::<Vec<u8>>()?) {
            Ok(bytes) => Ok(Self { bytes, given: object.to_owned().unbind() }),
            Err(_) => {
                Err(PyValueError::new_err(format!("embedded NUL byte in {}", object.repr()?)))
            }
        }
    }
}

/// An `OSError` of the class for `errno`, with `filename` if there is one.
fn os_error(py: Python<'_>, errno: Errno, filename: Option<&Text>) -> PyErr {
    let number = errno as c_int;
    let strerror = match py.import("os").and_then(|os| os.call_method1("strerror", (number,))) {
        Ok(strerror) => strerror.unbind(),
        Err(error) => return error,
    };
    match filename {
        Some(text) => PyOSError::new_err((number, strerror, text.given.clone_ref(py))),
        None => PyOSError::new_err((number, strerror)),
    }
}

#[pyfunction]
fn unshare(py: Python<'_>, flags: c_int) -> PyResult<()> {
    py.detach(|| linux::unshare(CloneFlags::from_bits_retain(flags)))
        .map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn setns(py: Python<'_>, fd: c_int, nstype: c_int) -> PyResult<()> {
    py.detach(|| linux::setns_raw(fd, CloneFlags::from_bits_retain(nstype)))
        .map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn chroot(py: Python<'_>, path: Text) -> PyResult<()> {
    py.detach(|| linux::chroot(path.bytes.as_c_str()))
        .map_err(|errno| os_error(py, errno, Some(&path)))
}

#[pyfunction]
fn chdir(py: Python<'_>, path: Text) -> PyResult<()> {
    py.detach(|| linux::chdir(path.bytes.as_c_str()))
        .map_err(|errno| os_error(py, errno, Some(&path)))
}

#[pyfunction]
fn mount(
    py: Python<'_>,
    source: Option<Text>,
    target: Text,
    filesystemtype: Option<Text>,
    mountflags: u64,
    data: Option<Text>,
) -> PyResult<()> {
    py.detach(|| {
        linux::mount(
            source.as_ref().map(|text| text.bytes.as_c_str()),
            target.bytes.as_c_str(),
            filesystemtype.as_ref().map(|text| text.bytes.as_c_str()),
            MsFlags::from_bits_retain(mountflags),
            data.as_ref().map(|text| text.bytes.as_c_str()),
        )
    })
    .map_err(|errno| os_error(py, errno, Some(&target)))
}

#[pyfunction]
fn umount2(py: Python<'_>, target: Text, flags: c_int) -> PyResult<()> {
    py.detach(|| linux::umount2(target.bytes.as_c_str(), MntFlags::from_bits_retain(flags)))
        .map_err(|errno| os_error(py, errno, Some(&target)))
}

#[pyfunction]
fn pivot_root(py: Python<'_>, new_root: Text, put_old: Text) -> PyResult<()> {
    py.detach(|| linux::pivot_root(new_root.bytes.as_c_str(), put_old.bytes.as_c_str()))
        .map_err(|errno| os_error(py, errno, Some(&new_root)))
}

#[pyfunction]
fn sethostname(py: Python<'_>, name: Text) -> PyResult<()> {
    linux::sethostname(name.as_os_str()).map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn setdomainname(py: Python<'_>, name: Text) -> PyResult<()> {
    linux::setdomainname(name.as_os_str()).map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn getpid() -> i32 {
    linux::getpid().as_raw()
}

#[pyfunction]
fn getppid() -> i32 {
    linux::getppid().as_raw()
}

#[pyfunction]
fn getuid() -> u32 {
    linux::getuid().as_raw()
}

#[pyfunction]
fn getgid() -> u32 {
    linux::getgid().as_raw()
}

#[pyfunction]
fn setuid(py: Python<'_>, uid: u32) -> PyResult<()> {
    linux::setuid(Uid::from_raw(uid)).map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn setgid(py: Python<'_>, gid: u32) -> PyResult<()> {
    linux::setgid(Gid::from_raw(gid)).map_err(|errno| os_error(py, errno, None))
}

#[pyfunction]
fn execv(py: Python<'_>, pathname: Text, argv: Vec<Text>) -> PyResult<()> {
    let arguments: Vec<_> = argv.iter().map(|text| text.bytes.as_c_str()).collect();
    let result: linux::Result<Infallible> = py.detach(|| linux::execv(&pathname.bytes, &arguments));
    match result {
        Err(errno) => Err(os_error(py, errno, Some(&pathname))),
    }
}

#[pyfunction]
fn waitpid(py: Python<'_>, pid: i32, options: c_int) -> PyResult<(i32, i32)> {
    loop {
        match py.detach(|| linux::waitpid(Pid::from_raw(pid), options)) {
            Ok((reaped, status)) => return Ok((reaped.as_raw(), status)),
            // PEP 475: wait again, unless a signal handler raises.
            Err(Errno::EINTR) => py.check_signals()?,
            Err(errno) => return Err(os_error(py, errno, None)),
        }
    }
}
