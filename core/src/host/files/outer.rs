//! Directories that keep a layer: made outside by the launch, and taken back when it fails.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::Owner;

/// A directory outside that a launch makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OuterDirectory {
    pub(crate) path: PathBuf,
    pub(crate) owner: Owner,
}

/// The directories that a launch has made. Dropped before [`Made::keep`], they go again.
#[derive(Debug, Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// What the kernel refuses, and for which directory; none of them is left then.
    pub(crate) fn make(directories: &[OuterDirectory]) -> Result<Self, (PathBuf, io::Error)> {
        let mut made = Self::default();
        for OuterDirectory { path, owner } in directories {
            let failed = |error| (path.clone(), error);
            fs::DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
            made.0.push(path.clone());
            // A plain caller's layer is the caller's; it is root inside.
            if nix::unistd::geteuid().is_root() {
                chown(path, Some(owner.uid), Some(owner.gid)).map_err(failed)?;
            }
            fs::set_permissions(path, fs::Permissions::from_mode(owner.mode)).map_err(failed)?;
        }
        Ok(made)
    }

    /// The container has come to be: they stay.
    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // Nobody but the failed launch has put anything there. What cannot be removed is the
            // caller's to remove, as what a container leaves there is.
            let _ = remove(path);
        }
    }
}

/// Removes a directory with everything in it, of which overlayfs leaves some without any permission.
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
