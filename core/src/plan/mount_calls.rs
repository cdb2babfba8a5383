//! Calls on mounts that several concerns make.

use std::ffi::{CStr, CString};

use super::call::{Arg, Cell, Handle, named};
use super::number;
use super::sequence::{Appended, Sequence};
use super::text::bit_names;
use crate::host::files::Owner;
use crate::step::Step;

/// mount(2).
pub(crate) fn mount<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: Arg,
    data: Option<&CStr>,
) -> Appended<'a> {
    let mut optional = |text: Option<&CStr>| text.map_or(Arg::Null, |text| sequence.text(text));
    let args = [optional(source), optional(Some(target)), optional(kind), flags, optional(data)];
    sequence.call(step, number::MOUNT, args).about(target)
}

/// Mounts a tmpfs with the owner's mode.
pub(super) fn tmpfs_on(sequence: &mut Sequence, target: &CStr, owner: Owner) {
    let data = CString::new(format!("mode={:o}", owner.mode)).expect("digits");
    let flags = named!(MS_NOSUID | MS_NODEV);
    let kind = Some(c"tmpfs");
    mount(sequence, Step::MountPoint, kind, target, kind, flags, Some(&data));
}

/// `open_tree(2)`: a copy of the mounts there, not attached yet.
pub(super) fn clone_tree(
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
        (false, false) => named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
        (false, true) => named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH),
    };
    open_tree(sequence, step, (directory, path), flags)
}

/// The caller's clone of the mounts at `source`, in a cell.
pub(super) fn callers_tree(
    sequence: &mut Sequence,
    step: Step,
    number: u32,
    source: &CStr,
) -> Cell {
    let cell = sequence.cell();
    let args = [Handle::Tree(number).into(), named!(F_DUPFD_CLOEXEC), Arg::Int(3)];
    sequence.call(step, number::FCNTL, args).about(source).into(cell);
    cell
}

pub(super) fn open_tree(
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

/// `move_mount(2)` of a tree to an entry of a directory, without following links.
pub(super) fn attach<'a>(
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

/// `move_mount(2)` of the caller's tree with this number to an entry of a directory, without following links.
pub(super) fn attach_handle<'a>(
    sequence: &'a mut Sequence,
    step: Step,
    number: u32,
    directory: Arg,
    name: &CStr,
) -> Appended<'a> {
    let (empty, text) = (sequence.text(c""), sequence.text(name));
    let tree = Handle::Tree(number).into();
    let args = [tree, empty, directory, text, named!(MOVE_MOUNT_F_EMPTY_PATH)];
    sequence.call(step, number::MOVE_MOUNT, args)
}

/// `move_mount(2)` of a tree onto a descriptor.
pub(super) fn attach_to(sequence: &mut Sequence, step: Step, tree: Cell, place: Cell, path: &CStr) {
    let empty = sequence.text(c"");
    let flags = named!(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    let args = [tree.into(), empty.clone(), place.into(), empty, flags];
    sequence.call(step, number::MOVE_MOUNT, args).about(path);
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

/// The names of the attributes of `fsmount(2)` and `mount_setattr(2)`.
pub(super) fn attribute_names(bits: u64) -> String {
    const NAMES: [(u64, &str); 7] = [
        (libc::MOUNT_ATTR_RDONLY, "MOUNT_ATTR_RDONLY"),
        (libc::MOUNT_ATTR_NOSUID, "MOUNT_ATTR_NOSUID"),
        (libc::MOUNT_ATTR_NODEV, "MOUNT_ATTR_NODEV"),
        (libc::MOUNT_ATTR_NOEXEC, "MOUNT_ATTR_NOEXEC"),
        (libc::MOUNT_ATTR_NOATIME, "MOUNT_ATTR_NOATIME"),
        (libc::MOUNT_ATTR_STRICTATIME, "MOUNT_ATTR_STRICTATIME"),
        (libc::MOUNT_ATTR_NODIRATIME, "MOUNT_ATTR_NODIRATIME"),
    ];
    bit_names(bits, &NAMES)
}
