//! Overlays on the directories that a root shows.

use std::ffi::{CStr, CString};

use super::assemble::place;
use crate::host::files::{Entries, Node, Owner};
use crate::plan::call::{Arg, Cell, at_cwd};
use crate::plan::file_calls::{close, make_directory, open_entry};
use crate::plan::mount_calls::mount;
use crate::plan::number;
use crate::plan::sequence::Sequence;
use crate::step::Step;

/// Directories that are covered with overlays, each with an upper directory in the layer that the
/// working directory is.
pub(super) struct Covering<'a> {
    /// The directory that the root shows, outside.
    source: &'a CStr,
    /// Whether the layer is kept, so that parts of it may be there already.
    kept: bool,
    /// How many work directories there are.
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
                Node::Overlay { owner, made } => {
                    if !made {
                        make_directory(sequence, STEP, to.into(), name, *owner, false);
                    }
                    self.overlay(sequence, &inner);
                }
                Node::Assembled { owner, made, entries } => {
                    if !made {
                        make_directory(sequence, STEP, to.into(), name, *owner, false);
                    }
                    let inner_from = open_entry(sequence, STEP, from, name);
                    let inner_to = open_entry(sequence, STEP, to, name);
                    self.cover(sequence, (inner_from, inner_to), &inner, entries);
                    close(sequence, STEP, inner_from);
                    close(sequence, STEP, inner_to);
                }
                _ => place(sequence, STEP, (from, to), name, node, self.kept),
            }
        }
    }

    /// One overlay. The target is named from the new root; each name of it is a directory of the
    /// layer, opened or made just before.
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

/// What an overlay is told. Its own extended attributes are in the `user` class, since those of
/// `trusted` are not for a user namespace.
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

/// A path as overlayfs reads it in a list of options: it separates them by commas, and lower
/// directories by colons.
pub(in crate::plan) fn escaped(path: &CStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b',' | b':' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    path.to_bytes().iter().flat_map(escape).collect()
}

/// overlayfs makes its work directory with no permission at all. Its owner shall be able to remove it
/// together with the layer.
pub(in crate::plan) fn open_work_directory(sequence: &mut Sequence, step: Step, work: &CStr) {
    let mut path = work.to_bytes().to_vec();
    path.extend_from_slice(b"/work");
    let path = CString::new(path).expect("made of strings without a NUL");
    let args = [at_cwd(), sequence.text(&path), Arg::mode(0o700)];
    sequence.call(step, number::FCHMODAT, args).about(&path).ignore();
}
