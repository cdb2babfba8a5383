//! Overlays on the directories of a root.

use std::ffi::{CStr, CString};

use super::assemble::place;
use crate::host::files::{Entries, Node, Owner};
use crate::plan::call::{Arg, Cell, at_cwd};
use crate::plan::file_calls::{close, make_directory, open_entry, preserve, undo_inheritance};
use crate::plan::mount_calls::mount;
use crate::plan::number;
use crate::plan::sequence::Sequence;
use crate::step::Step;

/// Covers directories with overlays, each with an upper directory in the layer, which is the working
/// directory.
pub(super) struct Covering<'a> {
    /// The source of the root, outside.
    source: &'a CStr,
    /// Whether the layer is kept, so that parts of it may exist already.
    kept: bool,
    /// The number of work directories so far.
    works: u32,
}

impl<'a> Covering<'a> {
    pub(super) fn new(source: &'a CStr, kept: bool) -> Self {
        Self { source, kept, works: 0 }
    }

    /// Covers the entries of a directory; `path` is relative to the root.
    pub(super) fn cover(
        &mut self,
        sequence: &mut Sequence,
        (from, to): (Cell, Cell),
        path: &CStr,
        entries: &Entries,
    ) {
        const STEP: Step = Step::Overlay;
        for (name, node) in entries {
            let inner = joined(path, name);
            match node {
                Node::Overlay { owner, exists, preserved } => {
                    if !exists {
                        self.make(sequence, to, name, *owner);
                        preserve(sequence, STEP, (to, name), *owner, preserved);
                    }
                    self.overlay(sequence, &inner);
                }
                Node::Assembled { owner, exists, preserved, entries } => {
                    if !exists {
                        self.make(sequence, to, name, *owner);
                    }
                    let inner_from = open_entry(sequence, STEP, from, name);
                    let inner_to = open_entry(sequence, STEP, to, name);
                    self.cover(sequence, (inner_from, inner_to), &inner, entries);
                    close(sequence, STEP, inner_from);
                    close(sequence, STEP, inner_to);
                    if !exists {
                        preserve(sequence, STEP, (to, name), *owner, preserved);
                    }
                }
                _ => place(sequence, STEP, (from, to), name, node, self.kept),
            }
        }
    }

    /// Makes the upper directory of an entry.
    fn make(&self, sequence: &mut Sequence, to: Cell, name: &CStr, owner: Owner) {
        make_directory(sequence, Step::Overlay, to.into(), name, owner, false);
        if self.kept {
            undo_inheritance(sequence, Step::Overlay, to, name, owner);
        }
    }

    /// Mounts one overlay. The target is below the new root. Earlier calls have made or opened each of its parents.
    fn overlay(&mut self, sequence: &mut Sequence, path: &CStr) {
        let work = CString::new(format!("work/{}", self.works)).expect("digits");
        self.works += 1;
        make_directory(sequence, Step::Overlay, at_cwd(), &work, Owner::NEW, self.kept);
        let data = overlay_data(&joined(self.source, path), &joined(c"upper", path), &work);
        let (kind, target) = (Some(c"overlay"), joined(c"/..", path));
        mount(sequence, Step::Overlay, kind, &target, kind, Arg::Int(0), Some(&data));
        sequence.unless_gone(0);
        if self.kept {
            open_work_directory(sequence, Step::Overlay, &work);
        }
    }
}

fn joined(directory: &CStr, name: &CStr) -> CString {
    let mut path = directory.to_bytes().to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    CString::new(path).expect("made of strings without a NUL")
}

/// The options of an overlay. Its own extended attributes are in the `user` class, because a user namespace may
/// not use those of `trusted`.
pub(super) fn overlay_data(lower: &CStr, upper: &CStr, work: &CStr) -> CString {
    let mut data = b"lowerdir=".to_vec();
    data.extend(escaped(lower));
    for (name, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
        data.extend_from_slice(name);
        data.extend(escaped(path));
    }
    data.extend_from_slice(b",userxattr");
    CString::new(data).expect("made of strings without a NUL")
}

/// Escapes a path for overlayfs, which separates options by commas and lower directories by colons.
pub(in crate::plan) fn escaped(path: &CStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b',' | b':' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    path.to_bytes().iter().flat_map(escape).collect()
}

/// Sets the mode of the work directory, which overlayfs makes without any permission, so that its owner can remove
/// the layer.
pub(in crate::plan) fn open_work_directory(sequence: &mut Sequence, step: Step, work: &CStr) {
    let mut path = work.to_bytes().to_vec();
    path.extend_from_slice(b"/work");
    let path = CString::new(path).expect("made of strings without a NUL");
    let args = [at_cwd(), sequence.text(&path), Arg::mode(0o700)];
    sequence.call(step, number::FCHMODAT, args).about(&path).ignore();
}
