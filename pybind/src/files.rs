//! The options about files, as Python passes them.

use std::ffi::CString;

use minidocker_core::error::SpecError;
use minidocker_core::spec::{Mount, MountKind, Overlay};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors;

/// One mount: the fields of `minidocker.Mount`, with paths in bytes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct MountArg {
    option: String,
    target: PyBackedBytes,
    r#type: String,
    source: Vec<PyBackedBytes>,
    upper: Option<PyBackedBytes>,
    content: Option<PyBackedBytes>,
    read_only: bool,
    size: Option<u64>,
    mode: u32,
    options: String,
}

/// A path or other text for the kernel. Refuses a NUL in it, in the words of `subprocess` too.
pub(crate) fn c_string(py: Python<'_>, option: &'static str, text: &[u8]) -> PyResult<CString> {
    CString::new(text).map_err(|_| {
        let reason = "it contains a NUL character (embedded null byte)".into();
        let error = SpecError { reason, ..SpecError::embedded_nul(option, text) };
        errors::spec_error(py, &error)
    })
}

/// Whether the root gets an overlay, or the directory that keeps its layer.
#[derive(FromPyObject)]
pub(crate) enum OverlayArg {
    Wanted(bool),
    Kept(PyBackedBytes),
}

impl OverlayArg {
    pub(crate) fn into_core(self, py: Python<'_>) -> PyResult<Overlay> {
        Ok(match self {
            Self::Wanted(false) => Overlay::None,
            Self::Wanted(true) => Overlay::Discard,
            Self::Kept(directory) => Overlay::Keep(c_string(py, "overlay", &directory)?),
        })
    }
}

impl MountArg {
    pub(crate) fn into_core(self, py: Python<'_>) -> PyResult<Mount> {
        let option = match self.option.as_str() {
            "tmpfs" => "tmpfs",
            "devices" => "devices",
            "mounts" => "mounts",
            other => return Err(errors::unknown("option of a mount", other)),
        };
        let of = |bytes: &PyBackedBytes| c_string(py, option, bytes);
        let kind = match (self.r#type.as_str(), self.content) {
            ("bind", Some(content)) => {
                MountKind::Content { bytes: (&*content).into(), mode: self.mode }
            }
            ("bind", None) => {
                let source = self.source.first().map(of).transpose()?;
                let missing = || PyValueError::new_err("a bind mount has no source");
                MountKind::Bind { source: source.ok_or_else(missing)? }
            }
            ("tmpfs", _) => MountKind::Tmpfs { size: self.size, mode: self.mode },
            ("overlay", _) => MountKind::Overlay {
                lower: self.source.iter().map(of).collect::<PyResult<_>>()?,
                upper: self.upper.as_ref().map(of).transpose()?,
            },
            ("proc", _) => MountKind::Proc,
            ("sysfs", _) => MountKind::Sysfs,
            ("devpts", _) => MountKind::Devpts,
            ("mqueue", _) => MountKind::Mqueue,
            (other, _) => return Err(errors::unknown("type of a mount", other)),
        };
        let target = of(&self.target)?;
        Ok(Mount { option, target, kind, read_only: self.read_only, options: self.options })
    }
}
