//! The layer of an overlay, its upper and its work directory: in memory, or kept in a directory outside.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use super::call::{Arg, Handle, at_cwd, named};
use super::file_calls::close;
use super::number;
use super::sequence::{Part, Sequence};
use crate::step::Step;

/// The place of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LayerPlace {
    /// The directories `upper` and `work` of the working directory, which is in memory.
    Memory,
    /// Those behind the handles with this number: [`open_kept`] has opened them.
    Kept(u16),
}

impl LayerPlace {
    pub(super) fn is_kept(self) -> bool {
        self != Self::Memory
    }

    /// A path in the upper directory, as part of a mount option.
    pub(super) fn upper(self, path: &CStr) -> Vec<Part<'static>> {
        match self {
            Self::Memory => path_below(Part::Text(Cow::Borrowed(b"upper")), path),
            Self::Kept(number) => path_below(Part::Path(Handle::Upper(number)), path),
        }
    }

    /// A path in the work directory, as part of a mount option.
    pub(super) fn work(self, path: &CStr) -> Vec<Part<'static>> {
        match self {
            Self::Memory => path_below(Part::Text(Cow::Borrowed(b"work")), path),
            Self::Kept(number) => path_below(Part::Path(Handle::Work(number)), path),
        }
    }

    /// A path in the work directory: a directory, and the path relative to it.
    pub(super) fn in_work(self, path: &CStr) -> (Arg, CString) {
        match self {
            Self::Memory => (at_cwd(), joined(c"work", path)),
            Self::Kept(number) => (Handle::Work(number).into(), path.to_owned()),
        }
    }
}

fn path_below(top: Part<'static>, path: &CStr) -> Vec<Part<'static>> {
    let mut parts = vec![top];
    if !path.is_empty() {
        parts.push(Part::Text(b"/"[..].into()));
        parts.push(Part::Text(escaped(path).into()));
    }
    parts
}

/// Opens a kept layer in the child's mount namespace, in place of the descriptors that the caller has opened: an
/// overlay takes no directory of another mount namespace.
pub(super) fn open_kept(sequence: &mut Sequence, step: Step, path: &CStr, number: u16) {
    let layer = sequence.cell();
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let how = [flags as u64, 0, libc::RESOLVE_NO_SYMLINKS];
    let how_arg =
        sequence.words_shown(&how, "{O_PATH|O_DIRECTORY|O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS}");
    let args = [at_cwd(), sequence.text(path), how_arg, size_of_val(&how).into()];
    sequence.call(step, number::OPENAT2, args).about(path).into(layer);
    for (name, handle) in [(c"upper", Handle::Upper(number)), (c"work", Handle::Work(number))] {
        let part = sequence.cell();
        let flags = named!(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        let args = [layer.into(), sequence.text(name), flags, Arg::Int(0)];
        sequence.call(step, number::OPENAT, args).about(name).into(part);
        let args = [part.into(), handle.into(), named!(O_CLOEXEC)];
        sequence.call(step, number::DUP3, args);
        close(sequence, step, part);
    }
    close(sequence, step, layer);
}

/// Sets the mode of the work directory, which overlayfs makes without any permission, so that its owner can remove
/// the layer.
pub(super) fn open_work_directory(
    sequence: &mut Sequence,
    step: Step,
    layer: LayerPlace,
    work: &CStr,
) {
    let (directory, path) = layer.in_work(&joined(work, c"work"));
    let args = [directory, sequence.text(&path), Arg::mode(0o700)];
    sequence.call(step, number::FCHMODAT, args).about(&path).ignore();
}

/// Escapes a path for overlayfs, which separates options by commas and lower directories by colons.
pub(super) fn escaped(path: &CStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b',' | b':' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    path.to_bytes().iter().flat_map(escape).collect()
}

pub(super) fn joined(directory: &CStr, name: &CStr) -> CString {
    let mut path = directory.to_bytes().to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    CString::new(path).expect("made of strings without a NUL")
}
