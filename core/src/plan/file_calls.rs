//! Calls on files and directories that several concerns make.

use std::ffi::CStr;

use super::call::{Arg, Cell, at_cwd, named};
use super::mount_calls::clone_tree;
use super::number;
use super::sequence::Sequence;
use crate::host::files::{Make, Owner, Preserved};
use crate::step::Step;

/// Opens an existing small file, writes it, and closes it.
pub(super) fn write_file(
    sequence: &mut Sequence,
    step: Step,
    at: (Arg, &CStr),
    content: &[u8],
    optional: bool,
) {
    let flags = named!(O_WRONLY | O_CLOEXEC);
    open_write_close(sequence, step, at, content, flags, None, optional);
}

/// Opens a file at `path`, relative to a directory, writes it, and closes it. With `mode` it is created.
pub(super) fn open_write_close(
    sequence: &mut Sequence,
    step: Step,
    (directory, path): (Arg, &CStr),
    content: &[u8],
    flags: Arg,
    mode: Option<u32>,
    optional: bool,
) {
    let file = sequence.cell();
    let name = sequence.text(path);
    let open = [directory, name, flags, mode.map_or(Arg::Int(0), Arg::mode)];
    sequence.call(step, number::OPENAT, open).about(path).into(file).ignore_if(optional);
    if let Some(mode) = mode {
        // Set the mode apart from the caller's umask: every user inside may read the file.
        let args = [file.into(), Arg::mode(mode)];
        sequence.call(step, number::FCHMOD, args).about(path).ignore_if(optional);
    }
    let buffer = sequence.buffer(content);
    let write = [file.into(), buffer, content.len().into()];
    sequence.call(step, number::WRITE, write).about(path).ignore_if(optional);
    sequence.call(step, number::CLOSE, [file.into()]).ignore_if(optional);
}

/// `openat2(2)` of a place in the container, with `O_PATH`.
pub(super) fn open_in_root(
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

/// openat(2) of an entry of a directory, with `O_PATH` and without following links.
pub(super) fn open_entry(
    sequence: &mut Sequence,
    step: Step,
    directory: Cell,
    name: &CStr,
) -> Cell {
    let cell = sequence.cell();
    let text = sequence.text(name);
    let flags = named!(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    let args = [directory.into(), text, flags, Arg::Int(0)];
    sequence.call(step, number::OPENAT, args).about(name).into(cell);
    cell
}

/// openat(2) of a directory outside.
pub(super) fn open_directory(sequence: &mut Sequence, step: Step, path: &CStr) -> Cell {
    let cell = sequence.cell();
    let text = sequence.text(path);
    let args = [at_cwd(), text, named!(O_PATH | O_DIRECTORY | O_CLOEXEC), Arg::Int(0)];
    sequence.call(step, number::OPENAT, args).about(path).into(cell);
    cell
}

/// openat2(2) of a file or directory outside, with `O_PATH` and without following links. The walk goes on if it is gone.
pub(super) fn open_without_links(sequence: &mut Sequence, step: Step, path: &CStr) -> Cell {
    let cell = sequence.cell();
    let how = [(libc::O_PATH | libc::O_CLOEXEC) as u64, 0, libc::RESOLVE_NO_SYMLINKS];
    let how_arg = sequence.words_shown(&how, "{O_PATH|O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS}");
    let args = [at_cwd(), sequence.text(path), how_arg, size_of_val(&how).into()];
    sequence
        .call(step, number::OPENAT2, args)
        .about(path)
        .note("no link leads elsewhere")
        .into(cell)
        .unless_absent();
    cell
}

/// Opens the uppermost mount on the root directory: the new root, before `pivot_root(2)`.
pub(super) fn open_new_root(sequence: &mut Sequence) -> Cell {
    let cell = open_directory(sequence, Step::MakeRoot, c"/..");
    sequence.appended().note("the uppermost mount on /");
    cell
}

pub(super) fn close(sequence: &mut Sequence, step: Step, cell: Cell) {
    sequence.call(step, number::CLOSE, [cell.into()]);
}

pub(super) fn change_to(sequence: &mut Sequence, step: Step, directory: Cell) {
    sequence.call(step, number::FCHDIR, [directory.into()]);
}

/// mkdirat(2), and fchownat(2) if the owner is not root inside.
pub(super) fn make_directory(
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

/// fchownat(2) and fchmodat(2) of a new file in a directory that may be set-group-ID or have a default access control
/// list, which new files inherit.
pub(super) fn undo_inheritance(
    sequence: &mut Sequence,
    step: Step,
    directory: Cell,
    name: &CStr,
    owner: Owner,
) {
    change_owner(sequence, step, directory.into(), name, owner);
    let args = [directory.into(), sequence.text(name), Arg::mode(owner.mode)];
    sequence.call(step, number::FCHMODAT, args).about(name);
}

/// fchmodat(2) of a new file, if the mode has bits that mkdirat(2) does not set and fchownat(2) clears.
pub(super) fn set_special_bits(
    sequence: &mut Sequence,
    step: Step,
    directory: Arg,
    name: &CStr,
    mode: u32,
) {
    if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
        let text = sequence.text(name);
        sequence.call(step, number::FCHMODAT, [directory, text, Arg::mode(mode)]).about(name);
    }
}

/// Gives a new directory the set-group-ID bit, the attributes and the time of the original, once its entries are made,
/// which would inherit from it. Ignores failures: its file system may not have such attributes, and a user in an access
/// control list may have no id inside.
pub(super) fn preserve(
    sequence: &mut Sequence,
    step: Step,
    (parent, name): (Cell, &CStr),
    owner: Owner,
    preserved: &Preserved,
) {
    set_special_bits(sequence, step, parent.into(), name, owner.mode);
    if !preserved.attributes.is_empty() {
        let opened = sequence.cell();
        let flags = named!(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        let args = [parent.into(), sequence.text(name), flags, Arg::Int(0)];
        sequence.call(step, number::OPENAT, args).about(name).into(opened).ignore();
        preserve_attributes(sequence, step, opened, preserved);
        sequence.call(step, number::CLOSE, [opened.into()]).ignore();
    }
    preserve_time(sequence, step, (parent, name), preserved);
}

/// Gives an open file the attributes of the original, as far as that is possible.
pub(super) fn preserve_attributes(
    sequence: &mut Sequence,
    step: Step,
    file: Cell,
    preserved: &Preserved,
) {
    for (name, value) in &preserved.attributes {
        let [name, buffer] = [sequence.text(name), sequence.buffer(value)];
        let args = [file.into(), name, buffer, value.len().into(), Arg::Int(0)];
        sequence.call(step, number::FSETXATTR, args).ignore();
    }
}

/// Gives a new file or directory the time of the last change of the original.
pub(super) fn preserve_time(
    sequence: &mut Sequence,
    step: Step,
    (parent, name): (Cell, &CStr),
    preserved: &Preserved,
) {
    let (seconds, nanoseconds) = preserved.modified;
    let times = [0, libc::UTIME_OMIT as u64, seconds as u64, nanoseconds as u64];
    let times = sequence
        .words(&times, |words| format!("[UTIME_OMIT, {{{}, {}}}]", words[2] as i64, words[3]));
    let args = [parent.into(), sequence.text(name), times, named!(AT_SYMLINK_NOFOLLOW)];
    sequence.call(step, number::UTIMENSAT, args).about(name).ignore();
}

/// fchownat(2). Ignores a failure: an owner without an id inside stays root, since no process inside could become that
/// owner.
pub(super) fn set_owner(
    sequence: &mut Sequence,
    step: Step,
    directory: Arg,
    name: &CStr,
    owner: Owner,
) {
    if (owner.uid, owner.gid) != (0, 0) {
        change_owner(sequence, step, directory, name, owner);
    }
}

fn change_owner(sequence: &mut Sequence, step: Step, directory: Arg, name: &CStr, owner: Owner) {
    let text = sequence.text(name);
    let args = [directory, text, owner.uid.into(), owner.gid.into(), named!(AT_SYMLINK_NOFOLLOW)];
    sequence.call(step, number::FCHOWNAT, args).about(name).ignore();
}

/// An empty file, as a mount point.
pub(super) fn make_file(
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

/// Creates a file with this content, and returns its tree, which the caller attaches later.
pub(super) fn make_content(
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

/// Makes mount points in directories of the container's own. Ignores failures: either the mount point exists already,
/// or the mount on it fails.
pub(super) fn make_mount_points(sequence: &mut Sequence, root: Cell, wanted: &[Make]) {
    const STEP: Step = Step::MountPoint;
    for Make { parent, name, directory } in wanted {
        let parent = open_in_root(sequence, STEP, root, parent, true);
        if *directory {
            make_directory(sequence, STEP, parent.into(), name, Owner::NEW, true);
        } else {
            make_file(sequence, STEP, parent.into(), name, Owner::FILE.mode, true);
        }
        close(sequence, STEP, parent);
    }
}
