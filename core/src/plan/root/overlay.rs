//! Overlays on the directories of a root.

use std::ffi::{CStr, CString};

use super::assemble::place;
use crate::host::files::{Cover, Entries, Node, Owner, StackedMount};
use crate::plan::call::{Arg, Cell, at_cwd};
use crate::plan::file_calls::{
    change_to, close, make_directory, open_entry, open_new_root, preserve, undo_inheritance,
};
use crate::plan::layer::{LayerPlace, escaped, joined, open_work_directory};
use crate::plan::mount_calls::{attach, attach_handle, clone_tree, set_attributes, tmpfs_on};
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

/// Makes a root of these mounts on the old one, the first at its top.
pub(super) fn cover_mounts(sequence: &mut Sequence, mounts: &[StackedMount]) {
    const STEP: Step = Step::Overlay;
    tmpfs_on(sequence, c"/", Owner { mode: 0o700, ..Owner::NEW });
    let layer = open_new_root(sequence);
    change_to(sequence, STEP, layer);
    for name in [c"lower", c"upper", c"work"] {
        make_directory(sequence, STEP, at_cwd(), name, Owner::NEW, false);
    }
    let mut trees = 0..;
    for StackedMount { source, path, cover } in mounts {
        // The uppermost mount on / is the new root.
        let target = if path.is_empty() { c"/".to_owned() } else { joined(c"/..", path) };
        match cover {
            Cover::Overlay { owner, preserved } => {
                let number: u32 = trees.next().unwrap_or_default();
                let name = CString::new(number.to_string()).expect("digits");
                let [lower, upper, work] =
                    [c"lower", c"upper", c"work"].map(|directory| joined(directory, &name));
                for (path, owner) in [(&lower, Owner::NEW), (&upper, *owner), (&work, Owner::NEW)] {
                    make_directory(sequence, STEP, at_cwd(), path, owner, false);
                }
                preserve(sequence, STEP, (layer, &upper), *owner, preserved);
                attach_handle(sequence, STEP, number, at_cwd(), &lower).about(source);
                mount_overlay(sequence, &target, &lower, LayerPlace::Memory, (&name, &name));
            }
            Cover::Bind { read_only } => {
                let tree = clone_tree(sequence, STEP, at_cwd(), source, true);
                let before = sequence.calls.len();
                if *read_only {
                    let set = (libc::MOUNT_ATTR_RDONLY, 0);
                    set_attributes(sequence, STEP, (tree.into(), c""), set, true);
                }
                attach(sequence, STEP, tree, at_cwd(), &target);
                close(sequence, STEP, tree);
                sequence.unless_gone(sequence.calls.len() - before);
            }
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
