//! The root directory: how it is assembled, and how it becomes `/`.
//!
//! The new root is mounted on top of the old one, which is still `/` for the child. So a path of the host leads to
//! the same file as before, and `/..` is the new root, because for `..` the kernel follows the mounts on the root
//! directory. `openat2(2)` resolves every path inside relative to a descriptor of the new root, so no link leads
//! outside. Mounts are attached by descriptor.

pub(super) mod assemble;
mod listed;
pub(super) mod overlay;
pub(super) mod own;

use super::call::{Cell, Handle, at_cwd, named};
use super::file_calls::{
    change_to, make_directory, open_directory, open_new_root, preserve, preserve_time,
};
use super::layer::{LayerPlace, open_kept, open_work_directory};
use super::mount_calls::{attach, callers_tree, clone_tree, set_attributes, tmpfs_on};
use super::number;
use super::sequence::Sequence;
use super::setup::NamespaceSetup;
use crate::host::files::{Files, Owner, Preserved, Root};
use crate::spec::Overlay;
use crate::spec::namespaces::Kind;
use crate::step::Step;

use assemble::{bind_all, replace};
use overlay::{Covering, cover_mounts, mount_overlay};

/// The number of mounts on the old root besides the new root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stacked(u32);

/// A new root that is not `/` yet.
pub(super) struct NewRoot {
    /// `None` if the root stays the host's.
    pub(super) root: Option<Cell>,
    pub(super) stacked: Stacked,
    /// The tree for /dev/shm, if the root has one.
    pub(super) shared_memory: Option<Cell>,
}

/// Makes the new root.
pub(super) fn make_root(
    sequence: &mut Sequence,
    setup: &NamespaceSetup<'_>,
    files: &Files,
) -> NewRoot {
    let source = &files.source;
    let mut shared_memory = None;
    let (root, stacked) = match &files.root {
        Root::Listed(listed) => {
            let overlay = setup.spec.overlay != Overlay::None;
            let memory = setup.host.kernel.memory;
            let (root, shared) = listed::make(sequence, listed, overlay, memory);
            shared_memory = Some(shared);
            (Some(root), 0)
        }
        Root::Host => (None, 0),
        Root::Directory => {
            let tree = match files.root_tree {
                Some(number) => callers_tree(sequence, Step::MakeRoot, number, source),
                None => clone_tree(sequence, Step::MakeRoot, at_cwd(), source, true),
            };
            attach(sequence, Step::MakeRoot, tree, at_cwd(), c"/").note("/.. is the new root");
            (Some(tree), 0)
        }
        Root::Assembled { owner, entries } => {
            let from = if let Some(number) = files.root_tree {
                // The kernel copies no mounts of a tree that is not attached.
                let tree = callers_tree(sequence, Step::MakeRoot, number, source);
                attach(sequence, Step::MakeRoot, tree, at_cwd(), c"/");
                tree
            } else {
                open_directory(sequence, Step::MakeRoot, source)
            };
            tmpfs_on(sequence, c"/", *owner);
            let root = open_new_root(sequence);
            bind_all(sequence, Step::MakeRoot, (from, root), entries);
            (Some(root), u32::from(files.root_tree.is_some()))
        }
        Root::Overlay { owner, preserved } => {
            let layer = enter_layer(sequence, files, *owner, preserved);
            mount_overlay(sequence, c"/", source, layer, (c"", c"")).note("writes go to upperdir");
            if layer.is_kept() {
                open_work_directory(sequence, Step::Overlay, layer, c"");
            }
            (Some(open_new_root(sequence)), u32::from(!layer.is_kept()))
        }
        Root::Stacked(mounts) => {
            cover_mounts(sequence, mounts);
            (Some(open_new_root(sequence)), 1)
        }
        Root::Overlays { owner, preserved, entries } => {
            let layer = enter_layer(sequence, files, *owner, preserved);
            let from = open_directory(sequence, Step::Overlay, source);
            let (directory, path) = match layer {
                LayerPlace::Memory => (at_cwd(), c"upper"),
                LayerPlace::Kept(number) => (Handle::Upper(number).into(), c""),
            };
            let tree = clone_tree(sequence, Step::Overlay, directory, path, false);
            attach(sequence, Step::Overlay, tree, at_cwd(), c"/")
                .note("an overlay for each directory, since one cannot show mounts below it");
            Covering::new(source, layer).cover(sequence, (from, tree), c"", entries);
            if !layer.is_kept() {
                preserve_time(sequence, Step::Overlay, (tree, c""), preserved);
            }
            (Some(tree), u32::from(!layer.is_kept()))
        }
    };
    if !files.patches.is_empty() {
        let base = root.unwrap_or_else(|| open_directory(sequence, Step::MountPoint, c"/"));
        for patch in &files.patches {
            replace(sequence, base, patch);
        }
    }
    // A listed root is read-only already, apart from its private directories.
    if setup.spec.read_only && !matches!(files.root, Root::Listed(_)) {
        let place = root.map_or_else(|| (at_cwd(), c"/"), |root| (root.into(), c""));
        let set = (libc::MOUNT_ATTR_RDONLY, 0);
        set_attributes(sequence, Step::ReadOnly, place, set, true);
        if files.own.is_none() && !setup.new.contains(Kind::Pid) {
            // read_only is about the root's files; the caller's /proc stays writable.
            let place = root.map_or_else(|| (at_cwd(), c"/proc"), |r| (r.into(), c"proc"));
            let clear = (0, libc::MOUNT_ATTR_RDONLY);
            set_attributes(sequence, Step::ReadOnly, place, clear, false);
            sequence.appended().ignore();
        }
    }
    NewRoot { root, stacked: Stacked(stacked), shared_memory }
}

/// Opens the layer that is kept, or changes to a new one in memory.
fn enter_layer(
    sequence: &mut Sequence,
    files: &Files,
    owner: Owner,
    preserved: &Preserved,
) -> LayerPlace {
    const STEP: Step = Step::Overlay;
    if let Some(layer) = files.layers.first().filter(|_| files.keeps_root) {
        open_kept(sequence, STEP, &layer.path, 0);
        return LayerPlace::Kept(0);
    }
    tmpfs_on(sequence, c"/", Owner { mode: 0o700, ..Owner::NEW });
    let layer = open_new_root(sequence);
    change_to(sequence, STEP, layer);
    make_directory(sequence, STEP, at_cwd(), c"upper", owner, false);
    make_directory(sequence, STEP, at_cwd(), c"work", Owner::NEW, false);
    preserve(sequence, STEP, (layer, c"upper"), owner, preserved);
    LayerPlace::Memory
}

/// `pivot_root(2)`, and umount2(2) of the old root and the mounts on it.
pub(super) fn enter(sequence: &mut Sequence, root: Cell, Stacked(stacked): Stacked) {
    const STEP: Step = Step::PivotRoot;
    change_to(sequence, STEP, root);
    let args = [sequence.text(c"."), sequence.text(c".")];
    sequence
        .call(STEP, number::PIVOT_ROOT, args)
        .note("the old root is now mounted on the new one");
    for _ in 0..=stacked {
        let path = sequence.text(c"/");
        sequence
            .call(STEP, number::UMOUNT2, [path, named!(MNT_DETACH)])
            .note("detaches the uppermost mount on /");
    }
}
