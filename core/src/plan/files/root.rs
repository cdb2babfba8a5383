//! The root directory, and how it becomes `/`.

use std::ffi::{CStr, CString};

use super::assemble::Covering;
use super::{
    Assembly, attach, change_to, clone_tree, make_directory, open_directory, open_in_root,
    open_new_root, set_attributes,
};
use crate::host::files::{Entries, Owner, Patch, Root};
use crate::plan::call::{Arg, Cell, Sequence};
use crate::plan::isolation::{at_cwd, mount, named};
use crate::plan::number;
use crate::spec::namespaces::Kind;
use crate::step::Step;

/// How many mounts lie on the old root besides the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stacked(u32);

impl Assembly<'_> {
    /// Puts the root together. `None` where the host's own stays.
    pub(super) fn make_root(&self, sequence: &mut Sequence) -> (Option<Cell>, Stacked) {
        let source = &self.files.source;
        let (root, stacked) = match &self.files.root {
            Root::Host => (None, 0),
            Root::Directory => {
                let tree = clone_tree(sequence, Step::MakeRoot, at_cwd(), source, true);
                attach(sequence, Step::MakeRoot, tree, at_cwd(), c"/").note("/.. is the new root");
                (Some(tree), 0)
            }
            Root::Assembled { owner, entries } => {
                let from = open_directory(sequence, Step::MakeRoot, source);
                tmpfs_on(sequence, c"/", *owner);
                let root = open_new_root(sequence);
                assemble(sequence, Step::MakeRoot, (from, root), entries);
                (Some(root), 0)
            }
            Root::Overlay { owner } => {
                let in_memory = self.enter_layer(sequence, *owner);
                let data = overlay_data(source, c"upper", c"work");
                let kind = Some(c"overlay");
                mount(sequence, Step::Overlay, kind, c"/", kind, Arg::Int(0), Some(&data))
                    .note("writes go to upperdir");
                if !in_memory {
                    super::open_work_directory(sequence, Step::Overlay, c"work");
                }
                (Some(open_new_root(sequence)), u32::from(in_memory))
            }
            Root::Overlays { owner, entries } => {
                let in_memory = self.enter_layer(sequence, *owner);
                let from = open_directory(sequence, Step::Overlay, source);
                let tree = clone_tree(sequence, Step::Overlay, at_cwd(), c"upper", false);
                attach(sequence, Step::Overlay, tree, at_cwd(), c"/")
                    .note("an overlay for each directory: none covers what is mounted below it");
                let kept = !in_memory;
                Covering::new(source, kept).cover(sequence, (from, tree), c"", entries);
                (Some(tree), u32::from(in_memory))
            }
        };
        if !self.files.patches.is_empty() {
            let base = root.unwrap_or_else(|| open_directory(sequence, Step::MountPoint, c"/"));
            for patch in &self.files.patches {
                replace(sequence, base, patch);
            }
        }
        if self.spec.read_only {
            let place = root.map_or_else(|| (at_cwd(), c"/"), |root| (root.into(), c""));
            let set = (libc::MOUNT_ATTR_RDONLY, 0);
            set_attributes(sequence, Step::ReadOnly, place, set, true);
            if self.files.own.is_none() && !self.new.contains(Kind::Pid) {
                // The caller's /proc is no part of the root that is written to.
                let place = root.map_or_else(|| (at_cwd(), c"/proc"), |r| (r.into(), c"proc"));
                let clear = (0, libc::MOUNT_ATTR_RDONLY);
                set_attributes(sequence, Step::ReadOnly, place, clear, false);
                sequence.appended().ignore();
            }
        }
        (root, Stacked(stacked))
    }

    /// Makes the directory that keeps the layer the working directory; whether it is in memory.
    fn enter_layer(&self, sequence: &mut Sequence, owner: Owner) -> bool {
        const STEP: Step = Step::Overlay;
        if let Some(path) = &self.files.layer {
            let layer = open_directory(sequence, STEP, path);
            change_to(sequence, STEP, layer);
            return false;
        }
        tmpfs_on(sequence, c"/", Owner { mode: 0o700, ..Owner::NEW });
        let layer = open_new_root(sequence);
        change_to(sequence, STEP, layer);
        make_directory(sequence, STEP, at_cwd(), c"upper", owner, false);
        make_directory(sequence, STEP, at_cwd(), c"work", Owner::NEW, false);
        true
    }
}

/// `pivot_root(2)`, and away with the old root and what lies on it.
pub(super) fn enter(sequence: &mut Sequence, root: Cell, Stacked(stacked): Stacked) {
    const STEP: Step = Step::PivotRoot;
    change_to(sequence, STEP, root);
    let args = [sequence.text(c"."), sequence.text(c".")];
    sequence.call(STEP, number::PIVOT_ROOT, args).note("the old root lies on the new one now");
    for _ in 0..=stacked {
        let path = sequence.text(c"/");
        sequence
            .call(STEP, number::UMOUNT2, [path, named!(MNT_DETACH)])
            .note("what lies uppermost on / is gone");
    }
}

/// A tmpfs of the container's own with this mode and owner.
pub(super) fn tmpfs_on(sequence: &mut Sequence, target: &CStr, owner: Owner) {
    let data = CString::new(format!("mode={:o}", owner.mode)).expect("digits");
    let flags = named!(MS_NOSUID | MS_NODEV);
    let kind = Some(c"tmpfs");
    mount(sequence, Step::MountPoint, kind, target, kind, flags, Some(&data));
}

/// Covers a directory with one put together from its own entries, which is returned.
pub(super) fn replace(sequence: &mut Sequence, root: Cell, patch: &Patch) -> Cell {
    const STEP: Step = Step::MountPoint;
    let from = open_in_root(sequence, STEP, root, &patch.at, true);
    change_to(sequence, STEP, from);
    tmpfs_on(sequence, c".", patch.owner);
    let onto = open_in_root(sequence, STEP, root, &patch.at, true);
    assemble(sequence, STEP, (from, onto), &patch.entries);
    onto
}

fn assemble(sequence: &mut Sequence, step: Step, between: (Cell, Cell), entries: &Entries) {
    super::assemble::bind_all(sequence, step, between, entries);
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
pub(super) fn escaped(path: &CStr) -> Vec<u8> {
    let escape = |byte: &u8| match byte {
        b',' | b':' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    };
    path.to_bytes().iter().flat_map(escape).collect()
}
