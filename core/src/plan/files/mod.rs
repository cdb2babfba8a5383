//! The files that the container sees: its root, and what is mounted there.
//!
//! The new root is put together on top of the old one, which is still `/` to the child: a path of the
//! host's means what it meant before, and `/..` is the new root, since the kernel goes on to what is
//! mounted on the root directory. Every path inside is resolved with `openat2(2)` against a descriptor
//! of the new root, so that no link in it leads outside, and what is there is mounted by descriptor.

mod assemble;
mod mounts;
mod own;
mod root;

pub(super) use mounts::devpts_data;

use std::ffi::{CStr, CString};

use super::call::{Appended, Arg, Cell, Sequence};
use super::isolation::{self, Inside, at_cwd, named};
use super::seclude::{self, Kernels};
use super::text::bit_names;
use super::{Step, number};
use crate::host::Host;
use crate::host::files::{Files, Owner};
use crate::spec::Spec;
use crate::spec::namespaces::NamespaceOptions;

/// What is under way while the files are put together.
struct Assembly<'a> {
    spec: &'a Spec,
    new: NamespaceOptions,
    host: &'a Host,
    files: &'a Files,
    /// Whether the network is not the caller's.
    other_net: bool,
}

/// Everything, in a namespace whose mounts are private.
pub(super) fn build(sequence: &mut Sequence, inside: &Inside<'_>, files: &Files) -> Kernels {
    let mut kernels = Kernels::Paths;
    let Inside { spec, new, other_net, host, .. } = *inside;
    let assembly = Assembly { spec, new, host, files, other_net };
    // What there is of a root of its own that takes no id; then come files that the caller may only reach as root
    // inside.
    let trees = files.own.as_ref().map(|own| assembly.kernels_trees(sequence, own));
    sequence.await_id_maps();
    // The modes that follow are the ones that are meant, whatever the caller's mask is.
    let umask = sequence.cell();
    sequence
        .call(Step::MakeRoot, number::UMASK, [Arg::mode(0)])
        .note("modes are set as they are meant")
        .into(umask);
    let sources = mounts::open_sources(sequence, inside, files);
    let (root, stacked) = assembly.make_root(sequence);
    if let (Some(root), Some(own), Some(trees)) = (root, &files.own, trees) {
        let secluded = inside.secluded();
        if secluded.is_some() {
            seclude::restrict_root(sequence, spec, (root.into(), c""));
        }
        kernels = assembly.populate(sequence, own, trees, root);
        if let Some(confinement) = secluded {
            seclude::make_covers(sequence);
            seclude::mask(sequence, confinement, host, kernels);
        }
        assembly.mount_all(sequence, &sources, root);
        root::enter(sequence, root, stacked);
    } else {
        // The host's files are all there in the new root, so it becomes / at once.
        if let Some(root) = root {
            root::enter(sequence, root, stacked);
        }
        isolation::mount_on_hosts_root(sequence, inside);
        if !spec.mounts.is_empty() {
            let root = open_directory(sequence, Step::Mount, c"/");
            assembly.mount_all(sequence, &sources, root);
            seclude::close(sequence, inside);
        }
    }
    sequence.call(Step::MakeRoot, number::UMASK, [umask.into()]);
    kernels
}

/// `openat2(2)` of a place in the container, without reading it.
fn open_in_root(
    sequence: &mut Sequence,
    step: Step,
    root: Cell,
    path: &CStr,
    directory: bool,
) -> Cell {
    let kind = if directory { libc::O_DIRECTORY } else { 0 };
    let flags = libc::O_PATH | libc::O_CLOEXEC | kind;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let how = [flags as u64, 0, resolve];
    let shown = if directory {
        "{O_PATH|O_CLOEXEC|O_DIRECTORY, 0, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}"
    } else {
        "{O_PATH|O_CLOEXEC, 0, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS}"
    };
    let how_arg = sequence.words_shown(&how, shown);
    let name = sequence.text(if path.is_empty() { c"." } else { path });
    let cell = sequence.cell();
    let args = [root.into(), name, how_arg, size_of_val(&how).into()];
    sequence.call(step, number::OPENAT2, args).about(path).into(cell);
    cell
}

/// openat(2) of an entry of a directory, without following links or reading it.
fn open_entry(sequence: &mut Sequence, step: Step, directory: Cell, name: &CStr) -> Cell {
    let cell = sequence.cell();
    let text = sequence.text(name);
    let flags = named!(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    let args = [directory.into(), text, flags, Arg::Int(0)];
    sequence.call(step, number::OPENAT, args).about(name).into(cell);
    cell
}

/// openat(2) of a directory outside.
fn open_directory(sequence: &mut Sequence, step: Step, path: &CStr) -> Cell {
    let cell = sequence.cell();
    let text = sequence.text(path);
    let args = [at_cwd(), text, named!(O_PATH | O_DIRECTORY | O_CLOEXEC), Arg::Int(0)];
    sequence.call(step, number::OPENAT, args).about(path).into(cell);
    cell
}

/// What is mounted on the root directory: the new root, until it is the root.
fn open_new_root(sequence: &mut Sequence) -> Cell {
    let cell = open_directory(sequence, Step::MakeRoot, c"/..");
    sequence.appended().note("what is mounted on /");
    cell
}

/// `open_tree(2)`: a copy of what is mounted there, attached to nothing yet.
fn clone_tree(
    sequence: &mut Sequence,
    step: Step,
    directory: Arg,
    path: &CStr,
    recursive: bool,
) -> Cell {
    let flags = match (recursive, path.is_empty()) {
        (true, false) => named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE),
        (true, true) => {
            named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH)
        }
        (false, _) => named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
    };
    open_tree(sequence, step, (directory, path), flags)
}

fn open_tree(
    sequence: &mut Sequence,
    step: Step,
    (directory, path): (Arg, &CStr),
    flags: Arg,
) -> Cell {
    let cell = sequence.cell();
    let text = sequence.text(path);
    sequence.call(step, number::OPEN_TREE, [directory, text, flags]).about(path).into(cell);
    cell
}

/// `move_mount(2)` of a tree to an entry of a directory, which no link leads away from.
fn attach<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    tree: Cell,
    directory: Arg,
    name: &CStr,
) -> Appended<'a> {
    let (empty, text) = (sequence.text(c""), sequence.text(name));
    let args = [tree.into(), empty, directory, text, named!(MOVE_MOUNT_F_EMPTY_PATH)];
    sequence.call(step, number::MOVE_MOUNT, args).about(name)
}

/// `move_mount(2)` of a tree onto a descriptor.
fn attach_to(sequence: &mut Sequence, step: Step, tree: Cell, place: Cell, path: &CStr) {
    let empty = sequence.text(c"");
    let flags = named!(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    let args = [tree.into(), empty.clone(), place.into(), empty, flags];
    sequence.call(step, number::MOVE_MOUNT, args).about(path);
}

fn attribute_names(bits: u64) -> String {
    const NAMES: [(u64, &str); 4] = [
        (libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
        (libc::MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
        (libc::MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
        (libc::MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
    ];
    bit_names(bits, &NAMES)
}

/// `mount_setattr(2)` on a tree, or (`AT_FDCWD`) on a path.
pub(super) fn set_attributes<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    (directory, path): (Arg, &CStr),
    (set, clear): (u64, u64),
    recursive: bool,
) -> Appended<'a> {
    let attributes = [set, clear, 0, 0];
    let length = size_of_val(&attributes);
    let attributes = sequence.words(&attributes, |words| {
        format!("{{{}, {}}}", attribute_names(words[0]), attribute_names(words[1]))
    });
    let text = sequence.text(path);
    let flags = match (recursive, path.is_empty()) {
        (true, true) => named!(AT_EMPTY_PATH | AT_RECURSIVE),
        (true, false) => named!(AT_RECURSIVE),
        (false, true) => named!(AT_EMPTY_PATH),
        (false, false) => Arg::Int(0),
    };
    let args = [directory, text, flags, attributes, length.into()];
    sequence.call(step, number::MOUNT_SETATTR, args).about(path)
}

fn close(sequence: &mut Sequence, step: Step, cell: Cell) {
    sequence.call(step, number::CLOSE, [cell.into()]);
}

fn change_to(sequence: &mut Sequence, step: Step, directory: Cell) {
    sequence.call(step, number::FCHDIR, [directory.into()]);
}

/// mkdirat(2), with the owner where that is somebody else than root inside.
fn make_directory(
    sequence: &mut Sequence,
    step: Step,
    directory: Arg,
    name: &CStr,
    owner: Owner,
    lenient: bool,
) {
    let text = sequence.text(name);
    let args = [directory.clone(), text, Arg::mode(owner.mode)];
    sequence.call(step, number::MKDIRAT, args).about(name).ignore_if(lenient);
    set_owner(sequence, step, directory, name, owner);
}

/// fchownat(2). An owner that has no id inside stays root: nobody inside could become it either.
fn set_owner(sequence: &mut Sequence, step: Step, directory: Arg, name: &CStr, owner: Owner) {
    if (owner.uid, owner.gid) == (0, 0) {
        return;
    }
    let text = sequence.text(name);
    let args = [directory, text, owner.uid.into(), owner.gid.into(), named!(AT_SYMLINK_NOFOLLOW)];
    sequence.call(step, number::FCHOWNAT, args).about(name).ignore();
}

/// overlayfs makes its work directory with no permission at all. Its owner shall be able to remove it
/// together with the layer.
fn open_work_directory(sequence: &mut Sequence, step: Step, work: &CStr) {
    let mut path = work.to_bytes().to_vec();
    path.extend_from_slice(b"/work");
    let path = CString::new(path).expect("made of strings without a NUL");
    let args = [at_cwd(), sequence.text(&path), Arg::mode(0o700)];
    sequence.call(step, number::FCHMODAT, args).about(&path).ignore();
}

/// An empty file, for something to be mounted on.
fn make_file(
    sequence: &mut Sequence,
    step: Step,
    directory: Arg,
    name: &CStr,
    mode: u32,
    lenient: bool,
) {
    let text = sequence.text(name);
    let args = [directory, text, Arg::mode(libc::S_IFREG | mode), Arg::Int(0)];
    sequence.call(step, number::MKNODAT, args).about(name).ignore_if(lenient);
}

/// A file with this content, for as long as it is bound somewhere; and its tree.
fn make_content(
    sequence: &mut Sequence,
    step: Step,
    directory: Cell,
    name: &CStr,
    (bytes, mode): (&[u8], u32),
) -> Cell {
    let file = sequence.cell();
    let text = sequence.text(name);
    let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
    let args = [directory.into(), text, flags, Arg::mode(mode)];
    sequence.call(step, number::OPENAT, args).about(name).into(file);
    if !bytes.is_empty() {
        let buffer = sequence.buffer(bytes);
        let args = [file.into(), buffer, bytes.len().into()];
        sequence.call(step, number::WRITE, args).about(name);
    }
    clone_tree(sequence, step, directory.into(), name, false)
}
