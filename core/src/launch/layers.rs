//! Directories outside that keep a layer. The launch creates them, and removes them if it fails.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::host::files::OuterDirectory;

/// The directories that a launch has created. Dropped before [`CreatedDirs::keep`], it removes them.
#[derive(Debug, Default)]
pub(super) struct CreatedDirs(Vec<PathBuf>);

impl CreatedDirs {
    /// Creates the directories.
    ///
    /// # Errors
    ///
    /// The kernel's error, and the directory that it is about. Then none of the directories is left.
    pub(super) fn create(directories: &[OuterDirectory]) -> Result<Self, (PathBuf, io::Error)> {
        let mut created = Self::default();
        for OuterDirectory { path, owner } in directories {
            let failed = |error| (path.clone(), error);
            fs::DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
            created.0.push(path.clone());
            // A plain caller is root inside, so the layer is its own already.
            if nix::unistd::geteuid().is_root() {
                chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(owner.mode)).map_err(failed)?;
        }
        Ok(created)
    }

    /// Launch succeeded; keep the directories.
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for CreatedDirs {
    fn drop(&mut self) {
        for path in &self.0 {
            // Only the failed launch has written there. If this fails, the caller can still remove the rest.
            let _ = remove(path);
        }
    }
}

/// Removes a directory and its contents. overlayfs leaves directories without any permission.
fn remove(directory: &Path) -> io::Result<()> {
    if fs::remove_dir(directory).is_ok() {
        return Ok(());
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(directory)
}
