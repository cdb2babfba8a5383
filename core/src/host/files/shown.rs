//! The root of a profile that shows nothing of the host's files but what it lists.
//!
//! It is a file system in memory. The profile's [`FileSystemView`] lists what is bound into it, what is copied and
//! what is writable. An entry that the host lacks is left out.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::links::{SEARCHABLE_BY_OTHERS, readable_by_all};
use super::view::{Backing, MAX_LINKS, Planned, View};
use super::{HostContext, c_string};
use crate::host::accounts;
use crate::host::hosts::own_hosts_file;
use crate::host::settings::{MAX_COPY, READABLE_BY_OTHERS};
use crate::spec::profile::FileSystemView;
use crate::spec::{CommandSpec, Mount, Spec};

/// Places with file systems of the container's own.
const KERNEL_PLACES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Directories that every such root has, and for which the launch mounts file systems.
pub(crate) const MOUNT_POINTS: [&str; 2] = ["/dev", "/proc"];

/// A directory of the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Whether every user inside may write in it.
    pub(crate) writable: bool,
    pub(crate) entries: BTreeMap<CString, Shown>,
}

/// An entry of such a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Directory(Directory),
    /// A file or directory of the host, with the mounts below it. Those in `replaced` are not the host's.
    Bind {
        source: CString,
        directory: bool,
        replaced: BTreeMap<CString, Directory>,
    },
    Link(CString),
    /// A file of the container's own.
    File(Vec<u8>),
    /// A copy of a file of the host with this size.
    Copy {
        source: CString,
        size: u64,
    },
}

impl Shown {
    fn bind(path: &Path, directory: bool) -> Self {
        Self::Bind { source: c_string(path.as_os_str()), directory, replaced: BTreeMap::new() }
    }
}

/// What a path leads to.
enum Reached<'a> {
    Entry(&'a Shown),
    /// Below a bind.
    Bound,
    Missing,
}

impl Directory {
    /// What the container sees of the host.
    pub(super) fn of(spec: &Spec, view: &FileSystemView, context: &HostContext<'_>) -> Self {
        let mut root = Self::default();
        let mut host = Looked::default();
        for path in view.bound.iter().flat_map(|pattern| host.expand(pattern)) {
            root.show(&path);
        }
        for &(path, names) in view.replaced {
            root.replace(Path::new(path), names, &mut host);
        }
        // The new /dev has its own /dev/shm.
        let in_dev = |path: &&&str| path.starts_with("/dev/");
        for path in view.private.iter().filter(|path| !in_dev(path)).chain(view.homes) {
            root.make_writable(Path::new(path));
        }
        for home in context.homes {
            root.make_writable(path_of(home));
        }
        for path in view.empty {
            root.insert(Path::new(path), Shown::Directory(Self::default()));
        }
        for pattern in view.copied {
            for path in host.expand(pattern) {
                root.copy(&path, &mut host);
            }
        }
        for (path, content) in own_files(spec, context) {
            root.insert(Path::new(path), Shown::File(content));
        }
        for path in &spec.shown {
            let path = path_of(path);
            let is_private = |place: &Path| place.starts_with(path);
            let homes = context.homes.iter().map(path_of);
            let private = view.private.iter().chain(view.homes).map(Path::new);
            if !is_mounted_over(spec, path) && !homes.chain(private).any(is_private) {
                root.show(path);
            }
        }
        root
    }

    /// Shows a path of the host: each link on the way as a link, and a bind of the file that they lead to.
    fn show(&mut self, path: &Path) {
        let mut rest: VecDeque<OsString> = names(path).collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        // Nothing is shown if the path does not exist.
        let mut new: Vec<(PathBuf, Shown)> = Vec::new();
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(&name);
            let target = match self.find(&at) {
                Reached::Entry(Shown::Link(target)) => Some(path_of(target).to_owned()),
                Reached::Entry(Shown::Directory(directory)) => {
                    // A directory on the way to another path; a bind of it shows that one, too.
                    if rest.is_empty() && !directory.has_writable() {
                        new.push((at.clone(), Shown::bind(&at, true)));
                    }
                    None
                }
                Reached::Entry(Shown::Bind { .. }) => None,
                Reached::Entry(Shown::File(_) | Shown::Copy { .. }) => return,
                Reached::Bound => fs::read_link(&at).ok(),
                Reached::Missing => {
                    let Ok(found) = fs::symlink_metadata(&at) else { return };
                    let target = found.is_symlink().then(|| fs::read_link(&at).ok()).flatten();
                    let node = match &target {
                        Some(target) => Shown::Link(c_string(target.as_os_str())),
                        None if rest.is_empty() => Shown::bind(&at, found.is_dir()),
                        None if found.is_dir() => Shown::Directory(Self::default()),
                        None => return,
                    };
                    new.push((at.clone(), node));
                    target
                }
            };
            if let Some(target) = target {
                links += 1;
                if links > MAX_LINKS {
                    return;
                }
                at.pop();
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
            }
        }
        for (path, node) in new {
            match self.entry(&path) {
                Some(entry) => *entry = node,
                None => self.insert(&path, node),
            }
        }
    }

    fn has_writable(&self) -> bool {
        let mut found = Vec::new();
        self.add_writable(b"", &mut found);
        self.writable || !found.is_empty()
    }

    /// Copies a file that every user may read. A link into a directory that is shown stays a link.
    fn copy(&mut self, path: &Path, host: &mut Looked) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        if !found.is_symlink() {
            if let Some(size) = host.size_if_readable_by_all(path, &found) {
                self.insert(path, Shown::Copy { source: c_string(path.as_os_str()), size });
            }
            return;
        }
        let Ok(target) = fs::read_link(path) else { return };
        let next = normal(&path.parent().unwrap_or(path).join(&target));
        if next.starts_with("/proc") {
            self.insert(path, Shown::Link(c_string(target.as_os_str())));
        } else if matches!(self.find(&next), Reached::Bound) {
            self.show(path);
        } else if let Ok(resolved) = fs::canonicalize(path)
            && let Ok(found) = fs::symlink_metadata(&resolved)
            && let Some(size) = host.size_if_readable_by_all(&resolved, &found)
        {
            self.insert(path, Shown::Copy { source: c_string(resolved.as_os_str()), size });
        }
    }

    /// Replaces a directory that is bound: only its entries with these names are shown.
    fn replace(&mut self, path: &Path, only: &[&str], host: &mut Looked) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
            return;
        }
        let Some(Shown::Bind { replaced, .. }) = self.entry(parent) else { return };
        replaced.insert(c_string(name), Self::default());
        for pattern in only {
            for path in host.expand(&format!("{}/{pattern}", path.display())) {
                self.show(&path);
            }
        }
    }

    fn make_writable(&mut self, path: &Path) {
        self.insert(path, Shown::Directory(Self::default()));
        if let Some(Shown::Directory(directory)) = self.entry(path) {
            directory.writable = true;
        }
    }

    /// The paths of the directories in which every user inside may write.
    pub(crate) fn writable(&self) -> Vec<CString> {
        let mut found = Vec::new();
        self.add_writable(b"", &mut found);
        found
    }

    fn add_writable(&self, path: &[u8], found: &mut Vec<CString>) {
        for (name, entry) in &self.entries {
            let Shown::Directory(directory) = entry else { continue };
            let path = [path, b"/", name.to_bytes()].concat();
            if directory.writable {
                found.push(CString::new(path).unwrap_or_default());
            } else {
                directory.add_writable(&path, found);
            }
        }
    }

    /// Adds a mount point that is missing, for a directory or a file.
    pub(super) fn add_mount_point(&mut self, path: &Path, directory: bool) {
        let node =
            if directory { Shown::Directory(Self::default()) } else { Shown::File(Vec::new()) };
        self.insert(path, node);
    }

    /// Adds an entry, and the directories on the way to it. Leaves it out if there is another one, or if a bind, a link
    /// or a file is on the way.
    fn insert(&mut self, path: &Path, node: Shown) {
        let mut directory = self;
        let mut way = names(path).peekable();
        while let Some(name) = way.next() {
            let entry = directory.entries.entry(c_string(&name));
            if way.peek().is_none() {
                entry.or_insert(node);
                return;
            }
            let below = entry.or_insert_with(|| Shown::Directory(Self::default()));
            directory = match below {
                Shown::Directory(below) => below,
                Shown::Bind { replaced, .. } => {
                    let name = way.next().map(|name| c_string(&name)).unwrap_or_default();
                    match replaced.get_mut(&name) {
                        Some(below) => below,
                        None => return,
                    }
                }
                Shown::Link(_) | Shown::File(_) | Shown::Copy { .. } => return,
            };
        }
    }

    /// Names the ids of a command in the files of accounts.
    pub(crate) fn name_ids(&mut self, command: &CommandSpec) {
        let ids = accounts::of_command(command);
        for (path, rows) in
            [("/etc/passwd", accounts::passwd(&ids)), ("/etc/group", accounts::group(&ids))]
        {
            if let Some(Shown::File(content)) = self.entry(Path::new(path)) {
                accounts::add_rows(content, &rows);
            }
        }
    }

    fn entry(&mut self, path: &Path) -> Option<&mut Shown> {
        let mut way = names(path);
        let mut entry = self.entries.get_mut(&c_string(&way.next()?))?;
        for name in way {
            let Shown::Directory(directory) = entry else { return None };
            entry = directory.entries.get_mut(&c_string(&name))?;
        }
        Some(entry)
    }

    fn find(&self, path: &Path) -> Reached<'_> {
        let mut directory = self;
        let mut way = names(path).peekable();
        while let Some(name) = way.next() {
            let Some(entry) = directory.entries.get(&c_string(&name)) else {
                return Reached::Missing;
            };
            let Some(below) = way.peek() else { return Reached::Entry(entry) };
            directory = match entry {
                Shown::Directory(directory) => directory,
                Shown::Bind { replaced, .. } => {
                    let Some(directory) = replaced.get(&c_string(below)) else {
                        return Reached::Bound;
                    };
                    way.next();
                    directory
                }
                Shown::Link(_) | Shown::File(_) | Shown::Copy { .. } => return Reached::Missing,
            };
        }
        Reached::Bound
    }

    /// Adds the layers of this directory at `path` to the view.
    pub(super) fn add_layers(&self, path: &Path, view: &mut View) {
        for (name, entry) in &self.entries {
            let path = path.join(path_of(name));
            match entry {
                Shown::Directory(directory) => {
                    view.plan(&path, Planned::Directory);
                    if directory.writable {
                        view.push(&path, Backing::Own);
                    }
                    directory.add_layers(&path, view);
                }
                Shown::Bind { source, directory, replaced } => {
                    let source = path_of(source).to_owned();
                    view.plan(&path, Planned::of(*directory));
                    view.push(
                        &path,
                        if *directory { Backing::Host(source) } else { Backing::File },
                    );
                    for (name, directory) in replaced {
                        let path = path.join(path_of(name));
                        view.push(&path, Backing::Shown);
                        directory.add_layers(&path, view);
                    }
                }
                Shown::Link(target) => {
                    let target = path_of(target).to_owned();
                    view.plan(&path, Planned::Link(target));
                }
                Shown::File(_) | Shown::Copy { .. } => view.plan(&path, Planned::File),
            }
        }
    }
}

/// The files that every container has of its own, and their content.
fn own_files(spec: &Spec, context: &HostContext<'_>) -> Vec<(&'static str, Vec<u8>)> {
    let shared = spec.shares_network();
    let mut hostname = context.hostname.to_vec();
    hostname.push(b'\n');
    let services: &[u8] = if shared { b"files dns" } else { b"files" };
    let switch = [b"passwd: files\ngroup: files\nshadow: files\nhosts: ", services, b"\n"].concat();
    let ids = accounts::of_maps(spec);
    let mut files = vec![
        ("/etc/passwd", accounts::passwd(&ids)),
        ("/etc/group", accounts::group(&ids)),
        ("/etc/nsswitch.conf", switch),
        ("/etc/hosts", own_hosts_file(spec, context.hostname, shared)),
        ("/etc/hostname", hostname),
    ];
    // It may be a link into /run, where the container sees nothing of the host.
    if shared
        && let Ok(resolver) = fs::canonicalize("/etc/resolv.conf")
        && let Some(content) = readable_by_all(&resolver, Path::new("/"))
    {
        files.push(("/etc/resolv.conf", content));
    }
    files
}

/// Whether a mount of the specification covers a path, or the path is in a file system of the container's own.
fn is_mounted_over(spec: &Spec, path: &Path) -> bool {
    let covers = |mount: &Mount| path.starts_with(path_of(&mount.target));
    spec.mounts.iter().any(covers) || KERNEL_PLACES.iter().any(|place| path.starts_with(place))
}

/// A path without `..`, as if it had no links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for name in names(path) {
        if name == ".." {
            normal.pop();
        } else {
            normal.push(name);
        }
    }
    normal
}

fn path_of(text: &CString) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// What was looked up on the host, each once.
#[derive(Default)]
struct Looked {
    /// The names in directories.
    names: BTreeMap<PathBuf, Vec<OsString>>,
    /// Whether every user can search directories and those above them.
    searchable: BTreeMap<PathBuf, bool>,
}

impl Looked {
    /// The size of a regular file that every user can read, and that is not too large to copy.
    fn size_if_readable_by_all(&mut self, path: &Path, found: &Metadata) -> Option<u64> {
        let readable = found.is_file() && found.mode() & READABLE_BY_OTHERS != 0;
        (readable && found.len() <= MAX_COPY && self.is_searchable(path.parent()?))
            .then_some(found.len())
    }

    fn is_searchable(&mut self, directory: &Path) -> bool {
        if let Some(&known) = self.searchable.get(directory) {
            return known;
        }
        let this =
            fs::metadata(directory).is_ok_and(|found| found.mode() & SEARCHABLE_BY_OTHERS != 0);
        let searchable = this && directory.parent().is_none_or(|parent| self.is_searchable(parent));
        self.searchable.insert(directory.to_owned(), searchable);
        searchable
    }

    /// The paths of the host that a pattern matches. `*` stands for any part of a name, once in it.
    fn expand(&mut self, pattern: &str) -> Vec<PathBuf> {
        if !pattern.contains('*') {
            return vec![PathBuf::from(pattern)];
        }
        let mut found = vec![PathBuf::from("/")];
        for name in pattern.split('/').filter(|name| !name.is_empty()) {
            if let Some((before, after)) = name.split_once('*') {
                let (before, after) = (before.as_bytes(), after.as_bytes());
                let matches = |name: &&OsString| {
                    let rest = name.as_bytes().strip_prefix(before);
                    rest.is_some_and(|rest| rest.ends_with(after))
                };
                let mut below = Vec::new();
                for directory in found {
                    let names = self.names(&directory).iter().filter(matches);
                    below.extend(names.map(|name| directory.join(name)));
                }
                found = below;
            } else {
                for path in &mut found {
                    path.push(name);
                }
            }
        }
        found
    }

    fn names(&mut self, directory: &Path) -> &[OsString] {
        self.names.entry(directory.to_owned()).or_insert_with(|| {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        })
    }
}
