//! Assembled directories, and their entries.
//!
//! A directory may lack a mount point, which must not be made on the host. Or an overlay cannot cover it, because
//! something is mounted below it. Such a directory is *assembled*: it is replaced by a directory of the
//! container's own, in which each entry of the original is bound, covered by an overlay, or copied.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::mountinfo::{self, MountPoint};

/// The most entries of a directory that is assembled for a missing mount point: each costs a few system calls, and the
/// caller can make the mount point instead.
const MAX_ENTRIES: usize = 2048;

/// The most entries of a directory that is covered: each may cost a mount, of which a namespace has 100,000 by default.
const MAX_COVERED: usize = 1 << 15;

/// The bits of a mode with which a program changes its ids, or a directory gives its group to new files.
pub(super) const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;

/// The largest file that is copied into an overlay; a larger file is bound read-only.
const MAX_COPY: u64 = 4 << 20;

/// File systems that show state of the kernel: their files cannot be copied.
pub(super) const KERNEL_FILE_SYSTEMS: [&str; 21] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// File systems that an overlay refuses because their names ignore case.
pub(super) const NOT_BELOW_AN_OVERLAY: [&str; 6] =
    ["exfat", "hfs", "hfsplus", "msdos", "ntfs", "vfat"];

/// The mode, user and group of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// A directory made for the container.
    pub(crate) const NEW: Self = Self { mode: 0o755, uid: 0, gid: 0 };

    /// An empty file made for the container.
    pub(crate) const FILE: Self = Self { mode: 0o644, uid: 0, gid: 0 };

    /// An empty file as the mount point of a bind. Its unusual mode distinguishes it from a file
    /// that the container wrote, in a comparison of a kept layer.
    pub(crate) const MOUNT_POINT: Self = Self { mode: 0, uid: 0, gid: 0 };

    pub(super) fn of(found: &Metadata) -> Self {
        Self { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() }
    }
}

/// What a copy of a file or directory keeps of the original, besides its mode, owner and content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preserved {
    /// The time of the last change, in seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// Access control lists and attributes of the class `user`, by name.
    pub(crate) attributes: Vec<(CString, Vec<u8>)>,
}

impl Preserved {
    pub(super) fn of(path: &Path, found: &Metadata) -> Self {
        let modified = (found.mtime(), found.mtime_nsec());
        Self { modified, attributes: attributes_of(path).unwrap_or_default() }
    }
}

/// The extended attributes that a copy keeps. Those of overlayfs and of security modules belong to the original.
fn attributes_of(path: &Path) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = Vec::with_capacity(1024);
    rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut names))?;
    let is_kept = |name: &&[u8]| {
        name.starts_with(b"system.posix_acl_")
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    let mut kept = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(is_kept) {
        let name = CString::new(name).unwrap_or_default();
        let mut value = Vec::with_capacity(1024);
        rustix::fs::lgetxattr(path, &name, rustix::buffer::spare_capacity(&mut value))?;
        kept.push((name, value));
    }
    Ok(kept)
}

/// One entry of an assembled directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A bind of the original with the mounts below it. `owner` is that of the mount point, which is visible only in
    /// a kept layer.
    Bind { owner: Owner, directory: bool, read_only: bool },
    /// An overlay on the original directory. `exists`: whether its upper directory exists already.
    Overlay { owner: Owner, exists: bool, preserved: Preserved },
    /// A directory that is itself assembled.
    Assembled { owner: Owner, exists: bool, preserved: Preserved, entries: Entries },
    /// A copy of a regular file of this size.
    Copy { owner: Owner, size: u64, preserved: Preserved },
    /// A symbolic link with the same target.
    Symlink(CString),
    /// A mount point that the original lacks.
    Directory,
    /// A mount point that the original lacks, for a file.
    File,
}

/// The entries of an assembled directory, by name.
pub(crate) type Entries = Vec<(CString, Node)>;

/// A missing mount point: its path, and whether it is for a directory.
pub(super) type Need = (PathBuf, bool);

/// The entries of `directory`, which is at `inside`, and of the mount points in `needs` that are missing below it.
pub(super) fn with_mount_points(
    directory: &Path,
    inside: &Path,
    needs: &[Need],
) -> io::Result<Entries> {
    let mut entries = Entries::new();
    for (name, found) in list(directory, MAX_ENTRIES)? {
        let (outer, inner) = (directory.join(&name), inside.join(&name));
        let lacks = needs.iter().any(|(path, _)| path != &inner && path.starts_with(&inner));
        let node = if found.file_type().is_symlink() {
            Node::Symlink(link_of(&outer)?)
        } else if lacks && found.is_dir() {
            let entries = with_mount_points(&outer, &inner, needs)?;
            let preserved = Preserved::of(&outer, &found);
            Node::Assembled { owner: Owner::of(&found), exists: false, preserved, entries }
        } else {
            let directory = found.is_dir();
            let owner = if directory { Owner::NEW } else { Owner::FILE };
            Node::Bind { owner, directory, read_only: false }
        };
        entries.push((c_string(&name)?, node));
    }
    let there: BTreeSet<CString> = entries.iter().map(|(name, _)| name.clone()).collect();
    entries
        .extend(new_entries(inside, needs)?.into_iter().filter(|(name, _)| !there.contains(name)));
    Ok(entries)
}

/// The entries in the directory `inside` that lead to the mount points in `needs`.
fn new_entries(inside: &Path, needs: &[Need]) -> io::Result<Entries> {
    let mut entries = Entries::new();
    let names: BTreeSet<&OsStr> = needs
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(inside).ok()?.components().next())
        .map(std::path::Component::as_os_str)
        .collect();
    for name in names {
        let inner = inside.join(name);
        let node = match needs.iter().find(|(path, _)| *path == inner) {
            Some((_, false)) => Node::File,
            Some((_, true)) => Node::Directory,
            None => {
                let entries = new_entries(&inner, needs)?;
                let preserved = Preserved::default();
                Node::Assembled { owner: Owner::NEW, exists: false, preserved, entries }
            }
        };
        entries.push((c_string(name)?, node));
    }
    Ok(entries)
}

/// Covers a directory with overlays.
pub(super) struct Coverer<'a> {
    pub(super) mounts: &'a [MountPoint],
    /// The upper directory, if the layer is kept.
    pub(super) upper: Option<&'a Path>,
}

impl Coverer<'_> {
    /// The entries of `directory`, covered. `inside` is its path in the upper directory. Adds the paths that are bound
    /// without an overlay to `binds`.
    pub(super) fn entries(
        &self,
        directory: &Path,
        inside: &Path,
        binds: &mut Vec<PathBuf>,
    ) -> io::Result<Entries> {
        let mut entries = Entries::new();
        for (name, found) in list(directory, MAX_COVERED)? {
            let (outer, inner) = (directory.join(&name), inside.join(&name));
            if let Some(node) = self.node(&outer, &inner, &found, binds)? {
                entries.push((c_string(&name)?, node));
            }
        }
        Ok(entries)
    }

    fn node(
        &self,
        outer: &Path,
        inner: &Path,
        found: &Metadata,
        binds: &mut Vec<PathBuf>,
    ) -> io::Result<Option<Node>> {
        let kept = self.upper.and_then(|upper| fs::symlink_metadata(upper.join(inner)).ok());
        let owner = Owner::of(found);
        let directory = found.is_dir();
        let bind = |read_only| {
            let owner = if directory { owner } else { Owner::MOUNT_POINT };
            Node::Bind { owner, directory, read_only }
        };
        let mount = mountinfo::at(self.mounts, outer);
        let is = |list: &[&str]| mount.is_some_and(|mount| list.contains(&mount.kind.as_str()));
        if is(&KERNEL_FILE_SYSTEMS) {
            binds.push(inner.to_owned());
            return Ok(Some(bind(false)));
        }
        if found.is_dir() {
            let exists = match kept {
                Some(kept) if kept.is_dir() => true,
                // The container has replaced the directory.
                Some(_) => return Ok(None),
                None => false,
            };
            if is(&NOT_BELOW_AN_OVERLAY) {
                binds.push(inner.to_owned());
                return Ok(Some(bind(true)));
            }
            if !mountinfo::any_below(self.mounts, outer) {
                let preserved = Preserved::of(outer, found);
                return Ok(Some(Node::Overlay { owner, exists, preserved }));
            }
            return match self.entries(outer, inner, binds) {
                Ok(entries) => {
                    let preserved = Preserved::of(outer, found);
                    Ok(Some(Node::Assembled { owner, exists, preserved, entries }))
                }
                // A caller that cannot list the directory does not see the mounts below it either.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    binds.push(inner.to_owned());
                    Ok(Some(bind(true)))
                }
                Err(error) => Err(error),
            };
        }
        if kept.is_some() {
            return Ok(None);
        }
        if found.file_type().is_symlink() {
            return Ok(Some(Node::Symlink(link_of(outer)?)));
        }
        let special = found.file_type().is_socket()
            || found.file_type().is_fifo()
            || found.file_type().is_char_device()
            || found.file_type().is_block_device();
        if special {
            return Ok(Some(bind(false)));
        }
        let readable = nix::unistd::access(outer, nix::unistd::AccessFlags::R_OK).is_ok();
        // A copy with another owner must not run as that owner.
        let caller = nix::unistd::geteuid();
        let runs_as_owner =
            owner.mode & SET_IDS == 0 || caller.is_root() || found.uid() == caller.as_raw();
        let copied = readable && runs_as_owner && found.len() <= MAX_COPY;
        Ok(Some(if copied {
            Node::Copy { owner, size: found.len(), preserved: Preserved::of(outer, found) }
        } else {
            bind(true)
        }))
    }
}

/// The entries of a directory by name, without following links.
fn list(directory: &Path, most: usize) -> io::Result<Vec<(std::ffi::OsString, Metadata)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Leave out an entry that is gone, or for which stat(2) fails (a dead FUSE mount).
        let Ok(found) = entry.metadata() else { continue };
        entries.push((entry.file_name(), found));
        if entries.len() > most {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(entries)
}

fn link_of(path: &Path) -> io::Result<CString> {
    Ok(CString::new(fs::read_link(path)?.into_os_string().into_vec())?)
}

fn c_string(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}
