//! A root in memory, with what a profile lists of the host's files.
//!
//! While it is made, it is the working directory, and every path in it is relative to it: no process but the child can
//! reach it, so no link can lead elsewhere.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::slice;
use std::sync::Arc;

use crate::host::files::shown::{Directory, Shown};
use crate::host::files::{MOUNT_POINTS, Owner};
use crate::plan::call::{Arg, Cell, at_cwd, named};
use crate::plan::file_calls::{
    change_to, close, open_directory, open_new_root, open_without_links,
};
use crate::plan::layer::joined;
use crate::plan::mount_calls::{
    attach, attach_handle, clone_tree, mount, open_tree, set_attributes,
};
use crate::plan::number;
use crate::plan::overlay_tree::{Lower, memory_overlay};
use crate::plan::sequence::Sequence;
use crate::step::Step;

const STEP: Step = Step::MakeRoot;

/// The least memory for each file and directory: an inode and a long name take 1 KiB.
const MEMORY_FOR_INODE: u64 = 32 << 10;

const WRITABLE: u32 = 0o1777;

/// Parts of the root that the new /dev hides.
const SHARED_MEMORY: &CStr = c"dev/shm";
const OVERLAYS: &CStr = c"dev/overlays";
const REPLACEMENTS: &CStr = c"dev/replacements";

/// The options of the file system in memory. All that the container writes without a mount takes at most a quarter of
/// the machine's memory: a fifth for content, and the rest for inodes and names.
fn options(memory: u64) -> CString {
    let inodes = memory / MEMORY_FOR_INODE;
    CString::new(format!("mode=755,size=20%,nr_inodes={inodes}")).expect("without a NUL")
}

/// Makes the root on a machine with this much memory. With `overlay` it is writable, and the writes to the host's
/// directories go to overlays. Returns the root, and the tree for /dev/shm, so that one bound holds for everything.
pub(super) fn make(
    sequence: &mut Sequence,
    root: &Directory,
    overlay: bool,
    memory: u64,
) -> (Cell, Cell) {
    let flags = named!(MS_NOSUID | MS_NODEV);
    let kind = Some(c"tmpfs");
    mount(sequence, STEP, kind, c"/", kind, flags, Some(&options(memory)))
        .note("nothing of the host is in it but what follows");
    let cell = open_new_root(sequence);
    change_to(sequence, STEP, cell);
    for mount_point in MOUNT_POINTS {
        let name = mount_point.strip_prefix('/').unwrap_or(mount_point);
        make_directory(sequence, &CString::new(name).expect("a word"), Owner::NEW.mode);
    }
    let scratch = overlay.then(|| {
        make_directory(sequence, OVERLAYS, Owner::NEW.mode);
        open_directory(sequence, STEP, OVERLAYS)
    });
    let mut maker =
        Maker { root: cell, scratch, overlays: 0, replacements: 0, writable: Vec::new() };
    maker.fill(sequence, c"", root, false);
    make_directory(sequence, SHARED_MEMORY, WRITABLE);
    let flags = named!(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    let shared_memory = open_tree(sequence, STEP, (at_cwd(), SHARED_MEMORY), flags);
    let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if !overlay {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    set_attributes(sequence, STEP, (cell.into(), c""), (set, 0), true)
        .note("of the root and everything that is mounted in it");
    for path in &maker.writable {
        set_attributes(sequence, STEP, (at_cwd(), path), (0, libc::MOUNT_ATTR_RDONLY), false);
    }
    (cell, shared_memory)
}

/// The source of a bind; see [`Shown::Bind`].
struct Source<'a> {
    path: &'a CString,
    checked: bool,
    tree: Option<u32>,
}

struct Maker {
    root: Cell,
    /// The directory for the parts of overlays.
    scratch: Option<Cell>,
    /// The number of overlays so far.
    overlays: usize,
    /// The number of replaced directories so far.
    replacements: usize,
    /// Mounts to make writable after the root has become read-only.
    writable: Vec<CString>,
}

impl Maker {
    /// Makes the entries of a directory at `path`. `writable`: whether its mount will be.
    fn fill(
        &mut self,
        sequence: &mut Sequence,
        path: &CStr,
        directory: &Directory,
        writable: bool,
    ) {
        for (name, entry) in &directory.entries {
            let path = joined(path, name);
            match entry {
                Shown::Directory(directory) => {
                    let mode = if directory.writable { WRITABLE } else { Owner::NEW.mode };
                    make_directory(sequence, &path, mode);
                    if directory.writable && !writable {
                        // A mount of its own, because the root's becomes read-only.
                        bind(sequence, &path, &path);
                        self.writable.push(path.clone());
                    }
                    self.fill(sequence, &path, directory, writable || directory.writable);
                }
                Shown::Bind { source, checked, directory, replaced, tree } => {
                    let source = Source { path: source, checked: *checked, tree: *tree };
                    self.bind(sequence, (source, &path), *directory, replaced);
                }
                Shown::Link(target) => {
                    let args = [sequence.text(target), at_cwd(), sequence.text(&path)];
                    sequence.call(STEP, number::SYMLINKAT, args).about(&path);
                }
                Shown::File(content) => make_file(sequence, &path, content),
            }
        }
    }

    fn bind(
        &mut self,
        sequence: &mut Sequence,
        (source, path): (Source<'_>, &CString),
        directory: bool,
        replaced: &BTreeMap<CString, Directory>,
    ) {
        if directory {
            make_directory(sequence, path, Owner::NEW.mode);
        } else {
            make_file(sequence, path, &Arc::default());
        }
        let Source { path: source, checked, tree } = source;
        let opens_checked = checked && tree.is_none();
        if opens_checked {
            bind_checked(sequence, source, path);
        }
        if let Some(scratch) = self.scratch.filter(|_| directory) {
            self.overlays += 1;
            let bound = joined(c"/..", path);
            let lower = if opens_checked { &bound } else { source };
            let lower = Lower { paths: slice::from_ref(lower), tree };
            let tree = memory_overlay(sequence, scratch, self.overlays, lower);
            attach(sequence, STEP, tree, self.root.into(), path);
            close(sequence, STEP, tree);
            change_to(sequence, STEP, self.root);
        } else if let Some(number) = tree {
            attach_handle(sequence, STEP, number, at_cwd(), path).about(source);
        } else if !checked {
            // Another process may have removed it since it was looked at.
            bind(sequence, source, path);
            sequence.appended().unless_absent();
        }
        for (name, directory) in replaced {
            let path = joined(path, name);
            let own = format!("{}{}", REPLACEMENTS.to_string_lossy(), self.replacements);
            let own = CString::new(own).expect("a word");
            self.replacements += 1;
            make_directory(sequence, &own, Owner::NEW.mode);
            bind(sequence, &own, &path);
            self.fill(sequence, &path, directory, false);
        }
    }
}

fn make_directory(sequence: &mut Sequence, path: &CStr, mode: u32) {
    let args = [at_cwd(), sequence.text(path), Arg::mode(mode)];
    sequence.call(STEP, number::MKDIRAT, args).about(path);
}

fn make_file(sequence: &mut Sequence, path: &CStr, content: &Arc<[u8]>) {
    let text = sequence.text(path);
    if content.is_empty() {
        let mode = Arg::mode(libc::S_IFREG | Owner::FILE.mode);
        sequence.call(STEP, number::MKNODAT, [at_cwd(), text, mode, Arg::Int(0)]).about(path);
        return;
    }
    let file = sequence.cell();
    let flags = named!(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
    let args = [at_cwd(), text, flags, Arg::mode(Owner::FILE.mode)];
    sequence.call(STEP, number::OPENAT, args).about(path).into(file);
    let args = [file.into(), Arg::Lent(Arc::clone(content)), content.len().into()];
    sequence.call(STEP, number::WRITE, args).about(path);
    close(sequence, STEP, file);
}

/// mount(2), which takes a quarter of the time of a detached copy of the mounts.
fn bind(sequence: &mut Sequence, source: &CStr, path: &CStr) {
    mount(sequence, STEP, Some(source), path, None, named!(MS_BIND | MS_REC), None);
}

/// A bind whose source is reached without links, or nothing if the source is gone.
fn bind_checked(sequence: &mut Sequence, source: &CStr, path: &CStr) {
    let source = open_without_links(sequence, STEP, source);
    let tree = clone_tree(sequence, STEP, source.into(), c"", true);
    sequence.appended().unless_absent();
    attach(sequence, STEP, tree, at_cwd(), path).unless_absent();
    for cell in [tree, source] {
        close(sequence, STEP, cell);
        sequence.appended().unless_absent();
    }
}
