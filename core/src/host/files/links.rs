//! Files that links in /etc lead to, in places that the container hides.
//!
//! `/etc/resolv.conf` is often a link into /run. In a container with a private /run it would lead nowhere. Such a file
//! is copied to the place where the link leads inside, if every user may read it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::view::{Backing, Spot, View};
use super::{LinkedFile, OwnPlaces, Place, relative};
use crate::host::settings::read_regular;

pub(super) const SEARCHABLE_BY_OTHERS: u32 = 0o001;

/// The links in /etc of a root.
pub(super) struct EtcLinks {
    /// The root with nothing mounted on it.
    base: View,
    /// The directory outside that the root shows.
    source: PathBuf,
    names: Vec<OsString>,
}

impl EtcLinks {
    /// Lists the links in /etc of the root `source`.
    pub(super) fn of(source: &Path) -> Self {
        let base = View::new(Backing::Host(source.to_owned()));
        let mut links = Self { base, source: source.to_owned(), names: Vec::new() };
        if let Ok(etc) = links.base.locate([&b"etc"[..]]) {
            links.names = links_in(&links.outside(&etc)).unwrap_or_default();
        }
        links
    }

    fn outside(&self, spot: &Spot) -> PathBuf {
        self.source.join(relative_path(&spot.path))
    }

    /// Where a link leads in the root, if it leads to a missing file in a directory of the container's own inside: the
    /// place inside, and the place in the root.
    fn hidden(&self, view: &View, name: &OsString) -> Option<(Spot, Spot)> {
        let path = [b"etc", name.as_bytes()];
        let inside = view.locate(path).ok()?;
        let own = view.layers[inside.layer].backing == Backing::Own;
        (own && inside.is_missing()).then_some((inside, self.base.locate(path).ok()?))
    }

    /// The files that links lead to in hidden places of `view`. `own` has the files that replace those of the root;
    /// nothing can be copied into the layers in `read_only`.
    pub(super) fn hidden_files(
        &self,
        view: &mut View,
        own: Option<&OwnPlaces>,
        read_only: &[usize],
    ) -> Vec<LinkedFile> {
        let etc = [&b"etc"[..]];
        // A mount on /etc has other links.
        if self.base.locate(etc).ok() != view.locate(etc).ok() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for name in &self.names {
            let Some((inside, there)) = self.hidden(view, name) else { continue };
            if read_only.contains(&inside.layer) {
                continue;
            }
            let path = relative(&there.path);
            let replaced = own.and_then(|own| own.etc.iter().find(|(_, place)| place.path == path));
            let content = match replaced {
                Some((content, _)) => Some(content.clone()),
                None => readable_by_all(&self.outside(&there), &self.source),
            };
            let Some(content) = content else { continue };
            // Another link may lead to the same file, or into the same directory.
            view.plan_mount_point(&inside, false);
            let place = Place { path: relative(&inside.path), make: inside.make(false) };
            found.push(LinkedFile { content, place });
        }
        found
    }
}

/// Whether every user can search the directories of a path, from `top` on.
fn searchable_by_all(path: &Path, top: &Path) -> bool {
    let searchable = |directory: &Path| {
        fs::metadata(directory).is_ok_and(|found| found.mode() & SEARCHABLE_BY_OTHERS != 0)
    };
    path.ancestors().skip(1).take_while(|way| way.starts_with(top)).all(searchable)
}

/// The content of a regular file below `top`, if every user could read it there.
pub(super) fn readable_by_all(path: &Path, top: &Path) -> Option<Vec<u8>> {
    if !searchable_by_all(path, top) {
        return None;
    }
    read_regular(path, libc::O_NOFOLLOW)
}

/// The links in a directory. Cached for the last directory, because a list takes as long as the rest of this module.
fn links_in(directory: &Path) -> io::Result<Vec<OsString>> {
    /// The device, the inode and the time of the last change of a directory, and its links.
    type ListedLinks = ([i64; 4], Vec<OsString>);
    static KNOWN: Mutex<Option<ListedLinks>> = Mutex::new(None);
    /// A second change within a tick of the kernel's clock leaves the time as it is.
    const SETTLED: Duration = Duration::from_secs(1);
    let found = fs::metadata(directory)?;
    let key = [found.dev() as i64, found.ino() as i64, found.mtime(), found.mtime_nsec()];
    // Never wait for the lock: a forked child may have inherited it from a thread that held it.
    let mut known = KNOWN.try_lock().ok();
    if let Some(Some((of, names))) = known.as_deref()
        && *of == key
    {
        return Ok(names.clone());
    }
    let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_symlink());
    let names: Vec<OsString> =
        fs::read_dir(directory)?.flatten().filter(is_link).map(|link| link.file_name()).collect();
    let is_settled = found.modified()?.elapsed().is_ok_and(|age| age > SETTLED);
    if let (Some(known), true) = (known.as_deref_mut(), is_settled) {
        *known = Some((key, names.clone()));
    }
    Ok(names)
}

fn relative_path(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
