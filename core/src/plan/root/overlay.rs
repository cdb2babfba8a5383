//! Overlays on the directories of a root.

use std::ffi::{CStr, CString};

use super::assemble::place;
use crate::host::files::{Entries, Node, Owner};
use crate::plan::call::{Arg, Cell};
use crate::plan::file_calls::{close, make_directory, open_entry, preserve, undo_inheritance};
use crate::plan::layer::{LayerPlace, escaped, joined, open_work_directory};
use crate::plan::number;
use crate::plan::sequence::{Appended, Part, Sequence};
use crate::step::Step;

/// Covers directories with overlays, each with an upper directory in the layer.
pub(super) struct Covering<'a> {
    /// The source of the root, outside.
    source: &'a CStr,
    /// Parts of a layer that is kept may exist already.
    layer: LayerPlace,
    /// The number of work directories so far.
    works: u32,
}

impl<'a> Covering<'a> {
    pub(super) fn new(source: &'a CStr, layer: LayerPlace) -> Self {
        Self { source, layer, works: 0 }
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
                _ => place(sequence, STEP, (from, to), name, node, self.layer.is_kept()),
            }
        }
    }

    /// Makes the upper directory of an entry.
    fn make(&self, sequence: &mut Sequence, to: Cell, name: &CStr, owner: Owner) {
        make_directory(sequence, Step::Overlay, to.into(), name, owner, false);
        if self.layer.is_kept() {
            undo_inheritance(sequence, Step::Overlay, to, name, owner);
        }
    }

    /// Mounts one overlay. The target is below the new root. Earlier calls have made or opened each of its parents.
    fn overlay(&mut self, sequence: &mut Sequence, path: &CStr) {
        let work = CString::new(self.works.to_string()).expect("digits");
        self.works += 1;
        let (directory, made) = self.layer.in_work(&work);
        let kept = self.layer.is_kept();
        make_directory(sequence, Step::Overlay, directory, &made, Owner::NEW, kept);
        let lower = joined(self.source, path);
        mount_overlay(sequence, &joined(c"/..", path), &lower, self.layer, (path, &work));
        sequence.unless_gone(0);
        if kept {
            open_work_directory(sequence, Step::Overlay, self.layer, &work);
        }
    }
}

/// mount(2) of an overlay with these paths in the upper and the work directory of the layer. Its own extended attributes
/// are in the `user` class, because a user namespace may not use those of `trusted`.
pub(super) fn mount_overlay<'a>(
    sequence: &'a mut Sequence,
    target: &CStr,
    lower: &CStr,
    layer: LayerPlace,
    (upper, work): (&CStr, &CStr),
) -> Appended<'a> {
    let text = |text: &'static [u8]| Part::Text(text.into());
    let mut data = vec![text(b"lowerdir="), Part::Text(escaped(lower).into())];
    data.push(text(b",upperdir="));
    data.extend(layer.upper(upper));
    data.push(text(b",workdir="));
    data.extend(layer.work(work));
    data.push(text(b",userxattr"));
    let kind = sequence.text(c"overlay");
    let args = [kind.clone(), sequence.text(target), kind, Arg::Int(0), sequence.text_of(&data)];
    sequence.call(Step::Overlay, number::MOUNT, args).about(target)
}
