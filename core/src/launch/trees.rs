//! Mounts that the caller clones for the child, and whose ids it maps as the container's user namespace does.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chmodat, chownat, mknodat,
    openat2,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    open_tree,
};
use rustix::path::Arg;

use crate::error::{
    LaunchError, Reason, ReasonKind, Remedy, Setting, SpawnError, SpecError, Value,
};
use crate::host::files::{CallersTree, DeviceNode, TreeIds};
use crate::step::Step;
use crate::sys;

/// Clones mounts, or makes a device file like the caller's.
pub(super) fn clone_tree(tree: &CallersTree) -> Result<OwnedFd, Errno> {
    if let Some(device) = &tree.device {
        match like(device) {
            // The caller may not make it. The host's then opens as its mode says.
            Err(Errno::PERM) => {}
            made => return made,
        }
    }
    if !tree.checked {
        return clone(CWD, &tree.path, tree.recursive);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let source = openat2(CWD, &tree.path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    open_tree(source, c"", clone_flags(tree.recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn clone(directory: impl AsFd, path: impl Arg, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(directory, path, clone_flags(recursive))
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags
}

/// A mount of a device file on a file system of its own.
fn like(device: &DeviceNode) -> Result<OwnedFd, Errno> {
    const NAME: &str = "device";
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let (kind, mode) = (FileType::from_raw_mode(device.mode), Mode::from_raw_mode(device.mode));
    mknodat(&mount, NAME, kind, Mode::RUSR, device.number)?;
    let (user, group) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
    chownat(&mount, NAME, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(&mount, NAME, mode, AtFlags::empty())?;
    clone(&mount, NAME, false)
}

/// Makes the recursively cloned mounts private, and maps the ids of their files as a user namespace does.
pub(super) fn map_trees(
    namespace: &File,
    described: &[CallersTree],
    trees: &[OwnedFd],
) -> Result<(), LaunchError> {
    for (described, tree) in described.iter().zip(trees).filter(|(tree, _)| tree.recursive) {
        let unmapped = || sys::set_up_tree(tree.as_fd(), None);
        let mapped = || sys::set_up_tree(tree.as_fd(), Some(namespace.as_fd()));
        let set = match described.ids {
            TreeIds::Same => unmapped(),
            TreeIds::Mapped { option } => match mapped() {
                Err(error) if is_of_file_system(&error) => {
                    return Err(Box::new(not_mapped(described, option, namespace.as_fd())).into());
                }
                set => set,
            },
            TreeIds::MappedIfPossible => mapped().or_else(|_| unmapped()),
        };
        set.map_err(|error| {
            let path = OsStr::from_bytes(described.path.to_bytes());
            SpawnError::from_io(Step::MountSource, &error).about(path)
        })?;
    }
    Ok(())
}

/// Whether `mount_setattr(2)` fails for a file system that maps no ids, or for a mount whose ids are mapped already.
fn is_of_file_system(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM))
}

fn not_mapped(
    described: &CallersTree,
    option: &'static str,
    namespace: BorrowedFd<'_>,
) -> SpecError {
    let is_refused = |path: &Path| {
        let tree = clone(CWD, path, false);
        tree.is_ok_and(|tree| sys::set_up_tree(tree.as_fd(), Some(namespace)).is_err())
    };
    let path = described.path.to_string_lossy();
    let covers_root = option == "overlay";
    let below = described.mounts_below().into_iter().find(|path| is_refused(path));
    let which = match below {
        Some(below) if covers_root => format!("the file system on {}", below.display()),
        Some(below) => {
            format!("the file system that is mounted below it, on {},", below.display())
        }
        None if covers_root => format!("the file system of {path}"),
        None => "its file system".to_owned(),
    };
    let reason = format!("{which} cannot map ids to those that the container has to itself");
    let value = if covers_root { true.into() } else { Value::from(format!("{path:?}")) };
    SpecError::new(
        option,
        value,
        Reason::new(ReasonKind::Outside, reason),
        Remedy::with("Keep the caller's ids: {}", Setting::EveryId),
    )
}
