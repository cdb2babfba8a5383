//! Resolves paths inside the container before it exists.
//!
//! It follows links as the kernel does inside: an absolute link starts at the container's root, and `..` does not
//! lead above it. The kernel resolves the result once more for the mount (`openat2(2)`, `RESOLVE_IN_ROOT`), so
//! a change in between cannot lead outside.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Make, c_string, relative};

/// The most symbolic links that the kernel follows in one path.
pub(super) const MAX_LINKS: usize = 40;

/// The content of a mounted layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A directory outside: nothing may be made in it.
    Host(PathBuf),
    /// An overlay on a directory outside: files made in it stay inside.
    Overlaid(PathBuf),
    /// A directory of the container's own, empty at first.
    Own,
    /// A directory in memory with what a profile shows of the host: its mount points are planned with its entries.
    Shown,
    /// A file system of the kernel: its entries are unknown before it is mounted.
    Kernel,
    /// A file.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Its mount point inside, without links.
    pub(super) at: PathBuf,
    pub(super) backing: Backing,
    /// Mount points that it lacks, and whether they are for directories.
    pub(super) needs: Vec<(PathBuf, bool)>,
    /// Mount points, files and links that the launch will make in it.
    /// By the text of their paths, which takes a tenth of the time of comparing paths.
    planned: BTreeMap<OsString, Planned>,
}

/// An entry that the launch makes in a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    Directory,
    File,
    /// A symbolic link, and its target.
    Link(PathBuf),
}

impl Planned {
    pub(super) fn of(directory: bool) -> Self {
        if directory { Self::Directory } else { Self::File }
    }
}

impl Layer {
    fn new(at: impl Into<PathBuf>, backing: Backing) -> Self {
        Self { at: at.into(), backing, needs: Vec::new(), planned: BTreeMap::new() }
    }
}

/// A place in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Its path inside, without links.
    pub(super) path: PathBuf,
    /// The layer that it lies in.
    pub(super) layer: usize,
    /// The length of the part of `path` that exists.
    existing: usize,
    /// Whether it is a directory; `None` if it does not exist or is not known yet.
    pub(super) directory: Option<bool>,
}

impl Spot {
    pub(super) fn is_missing(&self) -> bool {
        self.existing != length(&self.path)
    }

    /// The part of the path that exists.
    pub(super) fn existing(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path.as_os_str().as_bytes()[..self.existing]))
    }

    /// What to make so that the place exists, for a directory or a file.
    pub(super) fn make(&self, directory: bool) -> Vec<Make> {
        let mut way = self.existing().to_owned();
        let missing = self.path.strip_prefix(&way).unwrap_or(Path::new(""));
        let mut make = Vec::new();
        for name in missing {
            let parent = relative(&way);
            way.push(name);
            let last = way == self.path;
            make.push(Make { parent, name: c_string(name), directory: directory || !last });
        }
        make
    }
}

/// `Path::starts_with` for normal paths, which takes a tenth of its time.
pub(super) fn is_at_or_below(path: &Path, top: &Path) -> bool {
    let (path, top) = (path.as_os_str().as_bytes(), top.as_os_str().as_bytes());
    let rest = path.strip_prefix(top);
    rest.is_some_and(|rest| top == b"/" || matches!(rest.first(), None | Some(b'/')))
}

fn length(path: &Path) -> usize {
    path.as_os_str().len()
}

enum Found {
    Directory,
    File,
    Link(PathBuf),
    Missing,
    Unknown,
}

/// The layers, in the order in which they are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) layers: Vec<Layer>,
}

impl View {
    pub(super) fn new(root: Backing) -> Self {
        Self { layers: vec![Layer::new("/", root)] }
    }

    /// Adds a layer on top, and returns its number.
    pub(super) fn push(&mut self, at: impl Into<PathBuf>, backing: Backing) -> usize {
        self.layers.push(Layer::new(at, backing));
        self.layers.len() - 1
    }

    /// The uppermost layer that covers a path.
    pub(super) fn layer_of(&self, path: &Path) -> usize {
        self.layers.iter().rposition(|layer| is_at_or_below(path, &layer.at)).unwrap_or(0)
    }

    /// Resolves a path.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` if a file is in the way, `ELOOP` for too many links, or an error of the host's file system.
    pub(super) fn locate<'a>(
        &self,
        components: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<Spot> {
        /// The capacity for the path: enough for most.
        const ROOM: usize = 64;
        let components = components.into_iter().map(|name| Cow::Borrowed(OsStr::from_bytes(name)));
        let mut rest: VecDeque<Cow<'a, OsStr>> = components.collect();
        let mut path = PathBuf::with_capacity(ROOM);
        path.push("/");
        let mut existing = length(&path);
        let mut directory = Some(true);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if directory == Some(false) {
                return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
            }
            if &*name == ".." {
                path.pop();
                existing = existing.min(length(&path));
                if length(&path) == existing {
                    directory = Some(true);
                }
                continue;
            }
            let is_there = length(&path) == existing;
            path.push(&name);
            if !is_there {
                // Below something that is missing.
                continue;
            }
            match self.look(&path)? {
                Found::Directory => directory = Some(true),
                Found::File => directory = Some(false),
                Found::Unknown => directory = None,
                Found::Missing => {
                    directory = None;
                    continue;
                }
                Found::Link(to) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    path.pop();
                    if to.is_absolute() {
                        path.push("/");
                        existing = length(&path);
                    }
                    let names = to.components().filter_map(|component| match component {
                        std::path::Component::Normal(name) => Some(name.to_owned()),
                        std::path::Component::ParentDir => Some("..".into()),
                        _ => None,
                    });
                    for name in names.collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(Cow::Owned(name));
                    }
                    directory = Some(true);
                    continue;
                }
            }
            existing = length(&path);
        }
        Ok(Spot { layer: self.layer_of(&path), path, existing, directory })
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        let layer = &self.layers[self.layer_of(path)];
        if layer.at == path {
            let file = layer.backing == Backing::File;
            return Ok(if file { Found::File } else { Found::Directory });
        }
        match layer.planned.get(path.as_os_str()) {
            Some(Planned::Directory) => return Ok(Found::Directory),
            Some(Planned::File) => return Ok(Found::File),
            Some(Planned::Link(target)) => return Ok(Found::Link(target.clone())),
            None => {}
        }
        let outside = match &layer.backing {
            Backing::Host(top) | Backing::Overlaid(top) => {
                top.join(path.strip_prefix(&layer.at).unwrap_or(path))
            }
            Backing::Own | Backing::Shown | Backing::File => return Ok(Found::Missing),
            Backing::Kernel => return Ok(Found::Unknown),
        };
        match std::fs::symlink_metadata(&outside) {
            Ok(found) if found.is_dir() => Ok(Found::Directory),
            Ok(found) if found.is_symlink() => Ok(Found::Link(std::fs::read_link(&outside)?)),
            Ok(_) => Ok(Found::File),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
            // Root inside may be able to search a directory that the caller may not.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Found::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Records that the launch will make a mount point or a file there.
    pub(super) fn plan_mount_point(&mut self, spot: &Spot, directory: bool) {
        let planned = &mut self.layers[spot.layer].planned;
        let mut way = spot.existing().to_owned();
        if let Ok(missing) = spot.path.strip_prefix(spot.existing()) {
            for name in missing {
                way.push(name);
                planned.insert(way.clone().into(), Planned::Directory);
            }
        }
        planned.insert(spot.path.clone().into(), Planned::of(directory));
    }

    /// Records an entry that the launch will make in a layer.
    pub(super) fn plan(&mut self, layer: usize, path: &Path, entry: Planned) {
        self.layers[layer].planned.insert(path.into(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root that exists for one test.
    struct ScratchRoot(PathBuf);

    impl ScratchRoot {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("minidocker-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("etc/real")).unwrap();
            Self(path)
        }

        fn link(self, name: &str, to: &str) -> Self {
            std::os::unix::fs::symlink(to, self.0.join(name)).unwrap();
            self
        }

        fn locate(&self, path: &str) -> io::Result<Spot> {
            View::new(Backing::Host(self.0.clone()))
                .locate(path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()))
        }
    }

    impl Drop for ScratchRoot {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_link_never_leads_out_of_the_root() {
        let root = ScratchRoot::new("view-links")
            .link("up", "../../../../../../etc")
            .link("absolute", "/etc")
            .link("loop", "loop")
            .link("dangling", "/nowhere/at/all");
        for link in ["up", "absolute"] {
            let spot = root.locate(&format!("{link}/real")).unwrap();
            assert_eq!(spot.path, Path::new("/etc/real"), "{link}");
            assert_eq!(spot.directory, Some(true));
            assert!(!spot.is_missing());
        }
        assert_eq!(root.locate("loop").unwrap_err().raw_os_error(), Some(libc::ELOOP));
        let spot = root.locate("dangling/x").unwrap();
        assert_eq!(spot.path, Path::new("/nowhere/at/all/x"));
        assert_eq!(spot.existing(), Path::new("/"));
    }

    #[test]
    fn a_file_on_the_way_is_not_a_directory() {
        let root = ScratchRoot::new("view-file");
        std::fs::write(root.0.join("etc/file"), "").unwrap();
        assert_eq!(root.locate("etc/file/x").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(root.locate("etc/file").unwrap().directory, Some(false));
    }

    #[test]
    fn the_last_layer_that_covers_a_path_shows() {
        let root = ScratchRoot::new("view-layers");
        let mut view = View::new(Backing::Host(root.0.clone()));
        view.push("/etc", Backing::Own);
        let spot = view.locate([&b"etc"[..], b"real"]).unwrap();
        assert!(spot.is_missing());
        assert_eq!(spot.layer, 1);
        view.plan_mount_point(&spot, true);
        assert!(!view.locate([&b"etc"[..], b"real"]).unwrap().is_missing());
    }
}
