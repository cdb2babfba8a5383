//! Files of the host that exist, and that a profile does not show.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::view::{Backing, View};
use crate::spec::profile::{FileSystemView, Profile};

/// The host's files that a container sees, if its profile lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    view: View,
    /// The number of the first layer that the specification asks for.
    first: usize,
    profile: Profile,
}

/// A path that exists outside only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// The path, without the links that the container has.
    pub(crate) path: PathBuf,
    /// The file or directory to mount.
    pub(crate) mount: PathBuf,
    pub(crate) profile: Profile,
}

impl Listed {
    pub(super) fn new(view: View, first: usize, profile: Profile) -> Self {
        Self { view, first, profile }
    }

    /// Returns the path that an absolute path leads to, if it exists outside and is missing inside.
    ///
    /// `None` too for a path in a mount that the specification asks for: that decides what exists there.
    pub(crate) fn missing(&self, path: &Path) -> Option<Unseen> {
        self.look(path, false)
    }

    /// Does the same, and takes a directory of the container's own for one that is missing, because it has other
    /// entries than the host's.
    pub(crate) fn missing_or_replaced(&self, path: &Path) -> Option<Unseen> {
        self.look(path, true)
    }

    fn look(&self, path: &Path, or_replaced: bool) -> Option<Unseen> {
        let names = path.as_os_str().as_bytes().strip_prefix(b"/")?;
        let components =
            names.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let spot = self.view.locate(components).ok()?;
        let layer = &self.view.layers[spot.layer];
        let own = matches!(layer.backing, Backing::Own | Backing::Shown);
        let replaced = or_replaced && own && spot.directory == Some(true);
        if spot.layer >= self.first || !(spot.is_missing() || replaced) {
            return None;
        }
        let found = fs::symlink_metadata(&spot.path).ok()?;
        // A link to nothing does not exist outside either.
        let directory = fs::metadata(&spot.path).ok()?.is_dir();
        let whole = directory || found.is_symlink();
        let mount = if whole { spot.path.clone() } else { self.directory_of(&spot.path) };
        Some(Unseen { path: spot.path, mount, profile: self.profile })
    }

    /// The directory of a file, or the file itself if its directory is one that many programs share.
    fn directory_of(&self, file: &Path) -> PathBuf {
        let shared = |directory: &&Path| {
            let is_top = directory.components().count() <= 2;
            is_top
                || self.listed().is_some_and(|view| {
                    view.private.iter().any(|path| *directory == Path::new(path))
                })
        };
        file.parent().filter(|directory| !shared(directory)).unwrap_or(file).to_owned()
    }

    fn listed(&self) -> Option<&'static FileSystemView> {
        self.profile.confinement().view
    }
}
