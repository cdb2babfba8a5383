//! Assembled directories: made from the entries of another directory.

use std::ffi::CStr;

use crate::host::files::{Entries, Node, Owner, Patch, Preserved};
use crate::plan::call::{Arg, Cell, named};
use crate::plan::file_calls::{
    change_to, close, make_directory, make_file, open_entry, open_in_root, preserve,
    preserve_attributes, preserve_time, set_owner, set_special_bits, undo_inheritance,
};
use crate::plan::mount_calls::{attach, open_tree, set_attributes, tmpfs_on};
use crate::plan::number;
use crate::plan::sequence::Sequence;
use crate::step::Step;

/// Covers a directory with one assembled from its own entries, and returns the cover.
pub(in crate::plan) fn replace(sequence: &mut Sequence, root: Cell, patch: &Patch) -> Cell {
    const STEP: Step = Step::MountPoint;
    let from = open_in_root(sequence, STEP, root, &patch.at, true);
    change_to(sequence, STEP, from);
    tmpfs_on(sequence, c".", patch.owner);
    let onto = open_in_root(sequence, STEP, root, &patch.at, true);
    bind_all(sequence, STEP, (from, onto), &patch.entries);
    onto
}

/// Binds each entry of the directory `from` in the directory `to`.
pub(super) fn bind_all(
    sequence: &mut Sequence,
    step: Step,
    (from, to): (Cell, Cell),
    entries: &Entries,
) {
    for (name, node) in entries {
        match node {
            Node::Assembled { owner, entries, preserved, .. } => {
                make_directory(sequence, step, to.into(), name, *owner, false);
                let inner_to = open_entry(sequence, step, to, name);
                let made_here = entries.iter().all(|(_, node)| is_new(node));
                // A directory that is wholly new has no original to open.
                let inner_from =
                    if made_here { from } else { open_entry(sequence, step, from, name) };
                bind_all(sequence, step, (inner_from, inner_to), entries);
                close(sequence, step, inner_to);
                if !made_here {
                    close(sequence, step, inner_from);
                    preserve(sequence, step, (to, name), *owner, preserved);
                }
            }
            _ => place(sequence, step, (from, to), name, node, false),
        }
    }
}

/// Whether the entry has no part of the original.
fn is_new(node: &Node) -> bool {
    match node {
        Node::Directory | Node::File => true,
        Node::Assembled { entries, .. } => entries.iter().all(|(_, node)| is_new(node)),
        _ => false,
    }
}

/// Makes one entry that is not assembled itself. `lenient`: its mount point may exist already. Leaves the entry out
/// if it no longer exists: another process may have changed the directory since it was listed.
pub(super) fn place(
    sequence: &mut Sequence,
    step: Step,
    (from, to): (Cell, Cell),
    name: &CStr,
    node: &Node,
    lenient: bool,
) {
    match node {
        Node::Bind { owner, directory, read_only } => {
            let tree = clone_entry(sequence, step, from, name);
            let before = sequence.calls.len();
            if *directory {
                make_directory(sequence, step, to.into(), name, *owner, lenient);
                if lenient {
                    undo_inheritance(sequence, step, to, name, *owner);
                }
            } else {
                make_file(sequence, step, to.into(), name, owner.mode, lenient);
            }
            if *read_only {
                let set = (libc::MOUNT_ATTR_RDONLY, 0);
                set_attributes(sequence, step, (tree.into(), c""), set, true);
            }
            attach(sequence, step, tree, to.into(), name);
            close(sequence, step, tree);
            sequence.unless_gone(sequence.calls.len() - before);
        }
        Node::Symlink(target) => {
            let args = [sequence.text(target), to.into(), sequence.text(name)];
            sequence.call(step, number::SYMLINKAT, args).about(name);
        }
        Node::Directory => make_directory(sequence, step, to.into(), name, Owner::NEW, false),
        Node::File => make_file(sequence, step, to.into(), name, Owner::FILE.mode, false),
        Node::Copy { owner, size, preserved } => {
            copy(sequence, step, (from, to), name, (*owner, *size), preserved, lenient);
        }
        Node::Overlay { .. } | Node::Assembled { .. } => unreachable!("handled by the callers"),
    }
}

/// Clones the tree of an entry, without following a link.
fn clone_entry(sequence: &mut Sequence, step: Step, from: Cell, name: &CStr) -> Cell {
    let flags = named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW);
    open_tree(sequence, step, (from.into(), name), flags)
}

/// Copies a regular file.
fn copy(
    sequence: &mut Sequence,
    step: Step,
    (from, to): (Cell, Cell),
    name: &CStr,
    (owner, size): (Owner, u64),
    preserved: &Preserved,
    inherits: bool,
) {
    let (source, copied) = (sequence.cell(), sequence.cell());
    let text = sequence.text(name);
    let flags = named!(O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    let args = [from.into(), text.clone(), flags, Arg::Int(0)];
    sequence.call(step, number::OPENAT, args).about(name).into(source);
    let before = sequence.calls.len();
    let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
    let args = [to.into(), text, flags, Arg::mode(owner.mode & 0o777)];
    sequence.call(step, number::OPENAT, args).about(name).into(copied);
    if size > 0 {
        let args = [copied.into(), source.into(), Arg::Null, Arg::Int(size as i64)];
        sequence.call(step, number::SENDFILE, args).about(name);
    }
    close(sequence, step, source);
    preserve_attributes(sequence, step, copied, preserved);
    close(sequence, step, copied);
    if inherits {
        undo_inheritance(sequence, step, to, name, owner);
    } else {
        set_owner(sequence, step, to.into(), name, owner);
        set_special_bits(sequence, step, to.into(), name, owner.mode);
    }
    preserve_time(sequence, step, (to, name), preserved);
    sequence.unless_gone(sequence.calls.len() - before);
}
