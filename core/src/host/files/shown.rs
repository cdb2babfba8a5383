//! The root of a profile that shows nothing of the host's files but what it lists.
//!
//! It is a file system in memory: a tree of directories, with binds and copies of the host's files. An entry that the
//! host lacks is left out.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::looks::{Entry, Looks};
use super::view::{Backing, MAX_LINKS, Planned, View};
use super::{CallersTree, TreeIds, c_string};

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
        /// Whether the source was checked, so that no link leads to another one.
        checked: bool,
        directory: bool,
        replaced: BTreeMap<CString, Directory>,
        /// The number of the caller's clone of it; `None` if the child opens it.
        tree: Option<u32>,
    },
    Link(CString),
    /// A file of the container's own.
    File(Arc<[u8]>),
}

impl Shown {
    fn bind(path: &Path, directory: bool) -> Self {
        let source = c_string(path.as_os_str());
        Self::Bind { source, checked: false, directory, replaced: BTreeMap::new(), tree: None }
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
    /// Shows a path of the host: each link on the way as a link, and a bind of the file that they lead to. Returns the
    /// path of that file if there is a new bind of it.
    pub(super) fn show(&mut self, path: &Path, host: &mut Looks) -> Option<PathBuf> {
        self.show_if(path, host, |_, _| true)
    }

    /// Like [`Self::show`], if the path leads to `target`, which was checked and has no links.
    pub(super) fn show_checked(
        &mut self,
        path: &Path,
        target: &Path,
        host: &mut Looks,
    ) -> Option<PathBuf> {
        // Inside, a directory may take the place of a link of the host: a private /home, say.
        let is_target =
            |at: &Path| at == target || fs::canonicalize(at).is_ok_and(|at| at == target);
        let bound = self.show_if(path, host, |at, _| is_target(at))?;
        if let Some(Shown::Bind { source, checked, .. }) = self.entry(&bound) {
            *source = c_string(target.as_os_str());
            *checked = true;
        }
        Some(bound)
    }

    /// Like [`Self::show`], if the path leads to an entry that is `wanted`.
    pub(super) fn show_if(
        &mut self,
        path: &Path,
        host: &mut Looks,
        wanted: impl Fn(&Path, &Entry) -> bool,
    ) -> Option<PathBuf> {
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
            // What a link leads to in another /proc or /dev is not what it leads to inside.
            if links > 0 && MOUNT_POINTS.iter().any(|own| at == Path::new(own)) {
                return None;
            }
            let target = match self.find(&at) {
                Reached::Entry(Shown::Link(target)) => Some(path_of(target).to_owned()),
                Reached::Entry(Shown::Directory(directory)) => {
                    // A directory on the way to another path; a bind of it shows that one, too.
                    if rest.is_empty()
                        && !directory.has_writable()
                        && wanted(&at, &Entry::Directory)
                    {
                        new.push((at.clone(), Shown::bind(&at, true)));
                    }
                    None
                }
                Reached::Entry(Shown::Bind { .. }) => None,
                Reached::Entry(Shown::File(_)) => return None,
                Reached::Bound => match host.entry(&at) {
                    Some(Entry::Link(target)) => Some(target.clone()),
                    _ => None,
                },
                Reached::Missing => {
                    let found = host.entry(&at)?;
                    let directory = matches!(found, Entry::Directory);
                    let (node, target) = match found {
                        Entry::Link(target) => {
                            (Shown::Link(c_string(target.as_os_str())), Some(target.clone()))
                        }
                        _ if rest.is_empty() && !wanted(&at, found) => return None,
                        _ if rest.is_empty() => (Shown::bind(&at, directory), None),
                        Entry::Directory => (Shown::Directory(Self::default()), None),
                        Entry::File => return None,
                    };
                    new.push((at.clone(), node));
                    target
                }
            };
            if let Some(target) = target {
                links += 1;
                if links > MAX_LINKS {
                    return None;
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
        let bound = new.iter().find(|(_, node)| matches!(node, Shown::Bind { .. }));
        let bound = bound.map(|(path, _)| path.clone());
        for (path, node) in new {
            match self.entry(&path) {
                Some(entry) => *entry = node,
                None => self.insert(&path, node),
            }
        }
        bound
    }

    /// Leaves a bind of this path to the caller, since the child may not reach it.
    pub(super) fn clone_bound(&mut self, path: &Path, trees: &mut Vec<CallersTree>) {
        if let Some(Shown::Bind { source, checked, tree, .. }) = self.entry(path) {
            let number = CallersTree::add(trees, source.clone(), TreeIds::MappedIfPossible, None);
            trees[number as usize].checked = *checked;
            *tree = Some(number);
        }
    }

    /// Adds the directories of the host that an overlay covers to `trees`, since the container could not change the files
    /// of other ids there. Those of sysfs cannot be changed anyway.
    pub(super) fn clone_covered(&mut self, trees: &mut Vec<CallersTree>) {
        let ids = TreeIds::Mapped { option: "overlay" };
        for entry in self.entries.values_mut() {
            match entry {
                Shown::Directory(directory) => directory.clone_covered(trees),
                Shown::Bind { source, directory: true, replaced, tree, .. } => {
                    if tree.is_none() && !path_of(source).starts_with("/sys") {
                        *tree = Some(CallersTree::add(trees, source.clone(), ids, None));
                    }
                    for directory in replaced.values_mut() {
                        directory.clone_covered(trees);
                    }
                }
                _ => {}
            }
        }
    }

    fn has_writable(&self) -> bool {
        let mut found = Vec::new();
        self.add_writable(b"", &mut found);
        self.writable || !found.is_empty()
    }

    /// Copies a file that every user may read. A link into a directory that is shown stays a link.
    pub(super) fn copy(&mut self, path: &Path, host: &mut Looks) {
        if let Some(Entry::Link(target)) = host.entry(path) {
            let next = normal(&path.parent().unwrap_or(path).join(target));
            if next.starts_with("/proc") {
                self.insert(path, Shown::Link(c_string(target.as_os_str())));
                return;
            }
            if matches!(self.find(&next), Reached::Bound) {
                self.show(path, host);
                return;
            }
        }
        if let Some(content) = host.content(path) {
            self.insert(path, Shown::File(content));
        }
    }

    /// Replaces a directory that is bound: only its entries with these names are shown.
    pub(super) fn replace(&mut self, path: &Path, only: &[&str], host: &mut Looks) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if !matches!(host.entry(path), Some(Entry::Directory)) {
            return;
        }
        let Some(Shown::Bind { replaced, .. }) = self.entry(parent) else { return };
        replaced.insert(c_string(name), Self::default());
        for pattern in only {
            for path in host.expand(&format!("{}/{pattern}", path.display())) {
                self.show(&path, host);
            }
        }
    }

    pub(super) fn make_writable(&mut self, path: &Path) {
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
            if directory { Shown::Directory(Self::default()) } else { Shown::File(Arc::default()) };
        self.insert(path, node);
    }

    /// Adds an entry, and the directories on the way to it. Leaves it out if there is another one, or if a bind, a link
    /// or a file is on the way.
    pub(super) fn insert(&mut self, path: &Path, node: Shown) {
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
                Shown::Link(_) | Shown::File(_) => return,
            };
        }
    }

    /// Adds a file of the container's own, or replaces it.
    pub(super) fn set_file(&mut self, path: &str, content: Vec<u8>) {
        let path = Path::new(path);
        self.insert(path, Shown::File(Arc::default()));
        if let Some(Shown::File(file)) = self.entry(path) {
            *file = content.into();
        }
    }

    pub(super) fn entry(&mut self, path: &Path) -> Option<&mut Shown> {
        let mut way = names(path);
        let mut entry = self.entries.get_mut(&c_string(&way.next()?))?;
        while let Some(name) = way.next() {
            let (directory, name) = match entry {
                Shown::Directory(directory) => (directory, name),
                Shown::Bind { replaced, .. } => (replaced.get_mut(&c_string(&name))?, way.next()?),
                _ => return None,
            };
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
                Shown::Link(_) | Shown::File(_) => return Reached::Missing,
            };
        }
        Reached::Bound
    }

    /// Adds the layers of this directory at `path` to the view. The directory is in its layer `layer`.
    pub(super) fn add_layers(&self, path: &Path, layer: usize, view: &mut View) {
        for (name, entry) in &self.entries {
            let path = path.join(path_of(name));
            match entry {
                Shown::Directory(directory) => {
                    view.plan(layer, &path, Planned::Directory);
                    let layer =
                        if directory.writable { view.push(&path, Backing::Own) } else { layer };
                    directory.add_layers(&path, layer, view);
                }
                Shown::Bind { source, directory, replaced, .. } => {
                    let source = path_of(source).to_owned();
                    view.plan(layer, &path, Planned::of(*directory));
                    view.push(
                        &path,
                        if *directory { Backing::Host(source) } else { Backing::File },
                    );
                    for (name, directory) in replaced {
                        let path = path.join(path_of(name));
                        let layer = view.push(&path, Backing::Shown);
                        directory.add_layers(&path, layer, view);
                    }
                }
                Shown::Link(target) => {
                    view.plan(layer, &path, Planned::Link(path_of(target).to_owned()));
                }
                Shown::File(_) => view.plan(layer, &path, Planned::File),
            }
        }
    }
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

pub(super) fn path_of(text: &CString) -> &Path {
    Path::new(OsStr::from_bytes(text.to_bytes()))
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn checked_bind(source: &Path) -> Shown {
        let Shown::Bind { source, directory, replaced, tree, .. } = Shown::bind(source, true)
        else {
            unreachable!("a bind")
        };
        Shown::Bind { source, checked: true, directory, replaced, tree }
    }

    #[test]
    fn a_checked_path_is_shown_only_if_it_leads_to_what_was_checked() {
        let top = std::env::temp_dir().join(format!("minidocker-shown-{}", std::process::id()));
        fs::create_dir_all(top.join("target/below")).unwrap();
        let top = fs::canonicalize(top).unwrap();
        let (link, target) = (top.join("link"), top.join("target"));
        symlink("target", &link).unwrap();
        let show = |root: &mut Directory, path: &Path, target: &Path| {
            root.show_checked(path, target, &mut Looks::default())
        };

        let mut root = Directory::default();
        assert_eq!(show(&mut root, &link, &top.join("other")), None);
        assert_eq!(root, Directory::default());
        assert_eq!(show(&mut root, &link, &target), Some(target.clone()));
        assert_eq!(root.entry(&target), Some(&mut checked_bind(&target)));

        // The same, with the directory on the way to a file that is shown already.
        let mut root = Directory::default();
        show(&mut root, &target.join("below"), &target.join("below")).unwrap();
        let before = root.clone();
        assert_eq!(show(&mut root, &target, &top), None);
        assert_eq!(root, before);
        assert_eq!(show(&mut root, &target, &target), Some(target.clone()));

        // A directory of the container's own in place of the host's link.
        let mut root = Directory::default();
        root.make_writable(&link);
        let bound = show(&mut root, &link.join("below"), &target.join("below"));
        assert_eq!(bound, Some(link.join("below")));
        assert_eq!(root.entry(&link.join("below")), Some(&mut checked_bind(&target.join("below"))));
        fs::remove_dir_all(&top).unwrap();
    }
}
