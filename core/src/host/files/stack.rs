//! The mounts of a root that an overlay covers one by one.
//!
//! In a user namespace the kernel refuses an overlay on a directory with mounts below it, because they may hide
//! something. A caller that may mount can clone such a mount without those below it before it enters the namespace. Then
//! one overlay covers each mount, instead of one for each directory beside a mount point.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::c_string;
use super::mountinfo::{self, MountPoint};
use super::tree::{KERNEL_FILE_SYSTEMS, NOT_BELOW_AN_OVERLAY, Owner, Preserved};
use super::view::is_at_or_below;

/// The most mounts that are cloned: the caller holds a descriptor of each.
const MAX_CLONES: usize = 128;

/// A mount in an overlay root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StackedMount {
    /// Its path outside.
    pub(crate) source: CString,
    /// Its path in the root.
    pub(crate) path: CString,
    pub(crate) cover: Cover,
}

/// How a mount is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// By an overlay on a clone of it. The owner is that of the upper directory.
    Overlay { owner: Owner, preserved: Preserved },
    /// By a bind, with the mounts below it.
    Bind { read_only: bool },
}

/// The visible mounts of the root `source`, the root itself first. `None` if this caller cannot clone the root without
/// the mounts below it, if there are too many, or if one is on a file or has devices, which an overlay cannot cover.
pub(super) fn mounts(source: &Path, table: &[MountPoint]) -> Option<Vec<StackedMount>> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, source, flags).ok()?;
    let mut below: Vec<&Path> = mountinfo::below(table, source).map(|m| &*m.path).collect();
    // Parents first, and each path once.
    below.sort_unstable_by_key(|path| (path.components().count(), *path));
    below.dedup();
    let mut found = vec![StackedMount::of(source, source, overlay(source)?)];
    let mut bound: Vec<PathBuf> = Vec::new();
    for path in below {
        let is_bound = bound.iter().any(|top| is_at_or_below(path, top));
        if is_bound || !is_mount_point(path) {
            continue;
        }
        let kind = mountinfo::at(table, path).map_or("", |mount| &mount.kind);
        // A device file does not open on an overlay in a user namespace.
        let has_devices = path.ends_with("dev") && !KERNEL_FILE_SYSTEMS.contains(&kind);
        if has_devices || !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return None;
        }
        let read_only = NOT_BELOW_AN_OVERLAY.contains(&kind);
        let cover = if read_only || KERNEL_FILE_SYSTEMS.contains(&kind) {
            bound.push(path.to_owned());
            Cover::Bind { read_only }
        } else {
            overlay(path)?
        };
        found.push(StackedMount::of(source, path, cover));
    }
    let clones = found.iter().filter(|mount| matches!(mount.cover, Cover::Overlay { .. })).count();
    (clones <= MAX_CLONES).then_some(found)
}

impl StackedMount {
    fn of(root: &Path, path: &Path, cover: Cover) -> Self {
        let inside = path.strip_prefix(root).unwrap_or(path);
        Self { source: c_string(path.as_os_str()), path: c_string(inside.as_os_str()), cover }
    }
}

fn overlay(path: &Path) -> Option<Cover> {
    let found = fs::metadata(path).ok()?;
    Some(Cover::Overlay { owner: Owner::of(&found), preserved: Preserved::of(path, &found) })
}

/// Whether a mount is visible at this path: another one may hide it.
fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
