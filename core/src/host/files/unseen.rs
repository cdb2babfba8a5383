//! Files of the host that exist, and that a profile does not show.

use std::borrow::Cow;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::shown::Directory;
use super::view::{Backing, View};
use crate::host::made_of::python_of;
use crate::spec::profile::{FileSystemView, Profile};

/// The host's files that a container sees, if its profile lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    root: Arc<Directory>,
    /// It lacks the layers of `root` if the specification asks for none: few launches need them.
    view: View,
    /// The number of the first layer that the specification asks for.
    first: Option<usize>,
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
    /// Layers from `first` on are those that the specification asks for.
    pub(super) fn new(root: &Arc<Directory>, view: View, first: usize, profile: Profile) -> Self {
        let first = (first < view.layers.len()).then_some(first);
        Self { root: Arc::clone(root), view, first, profile }
    }

    fn view(&self) -> Cow<'_, View> {
        if self.first.is_some() {
            return Cow::Borrowed(&self.view);
        }
        let mut view = self.view.clone();
        let own = view.layers.split_off(1);
        self.root.add_layers(Path::new("/"), 0, &mut view);
        view.layers.extend(own);
        Cow::Owned(view)
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
        let view = self.view();
        let spot = view.locate(components).ok()?;
        let layer = &view.layers[spot.layer];
        let own = matches!(layer.backing, Backing::Own | Backing::Shown);
        let replaced = or_replaced && own && spot.directory == Some(true);
        let is_asked_for = self.first.is_some_and(|first| spot.layer >= first);
        if is_asked_for || !(spot.is_missing() || replaced) {
            return None;
        }
        let found = fs::symlink_metadata(&spot.path).ok()?;
        // A link to nothing does not exist outside either.
        let directory = fs::metadata(&spot.path).ok()?.is_dir();
        let whole = directory || found.is_symlink();
        let mount = match python_of(&spot.path) {
            Some(prefix) if !directory => prefix.to_owned(),
            _ if whole => spot.path.clone(),
            _ => self.directory_of(&spot.path),
        };
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
