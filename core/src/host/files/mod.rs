//! Facts about the files of a container: the place of each mount, the missing mount points, and the entries that
//! its root is assembled from. Gathered only if the specification changes the files.

pub(crate) mod channels;
mod gather;
mod links;
mod listing;
mod looks;
mod mountinfo;
mod owners;
pub(crate) mod shown;
mod sources;
mod stack;
mod tree;
mod unseen;
mod view;

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use stack::{Cover, StackedMount};
pub(crate) use tree::{Entries, Node, Owner, Preserved};
pub(crate) use unseen::{Listed, Unseen};

pub(crate) use shown::MOUNT_POINTS;

use gather::{Finished, Gatherer};
use links::EtcLinks;

use crate::error::{Reason, ReasonKind, Remedy, SpecError, Value};
use crate::spec::namespaces::Kind;
use crate::spec::{Mount, MountKind, MountOptions, Overlay, Spec};
use crate::step::Step;

/// The devices in every private /dev: their names in /dev, and their paths.
pub(crate) const DEVICES: [(&CStr, &CStr); 6] = [
    (c"null", c"/dev/null"),
    (c"zero", c"/dev/zero"),
    (c"full", c"/dev/full"),
    (c"random", c"/dev/random"),
    (c"urandom", c"/dev/urandom"),
    (c"tty", c"/dev/tty"),
];

/// The kind of the container's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The root of the host.
    Host,
    /// A bind of the directory.
    Directory,
    /// A directory in memory, with what a profile shows of the host.
    Listed(Arc<shown::Directory>),
    /// A tmpfs with a bind of each entry.
    Assembled { owner: Owner, entries: Entries },
    /// One overlay on the directory.
    Overlay { owner: Owner, preserved: Preserved },
    /// An overlay on each of its mounts, in memory.
    Stacked(Vec<StackedMount>),
    /// The upper directory, with an overlay on each entry.
    Overlays { owner: Owner, preserved: Preserved, entries: Entries },
}

/// A directory inside that is covered by a directory assembled from its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Relative to the root.
    pub(crate) at: CString,
    pub(crate) owner: Owner,
    pub(crate) entries: Entries,
}

/// A directory or file to make in a directory of the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Make {
    /// The directory, relative to the root.
    pub(crate) parent: CString,
    pub(crate) name: CString,
    pub(crate) directory: bool,
}

/// The place of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Relative to the root, without links.
    pub(crate) path: CString,
    /// Mount points to make right before the mount.
    pub(crate) make: Vec<Make>,
}

/// A mount of the specification, resolved on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedMount {
    /// The kind with its sources; paths outside are without links.
    pub(crate) kind: MountKind,
    pub(crate) options: MountOptions,
    pub(crate) place: Place,
    /// The number of the caller's clone of the source; `None` if the child opens it.
    pub(crate) tree: Option<u32>,
    /// Directories in the mount to cover right after it.
    pub(crate) patches: Vec<Patch>,
}

/// Mounts that the caller clones for the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallersTree {
    /// Without links.
    pub(crate) path: CString,
    /// Whether the path was checked, so that no link leads to another file.
    pub(crate) checked: bool,
    /// Whether the mounts below it are cloned too, all of them private.
    pub(crate) recursive: bool,
    /// Whose files they show.
    pub(crate) ids: TreeIds,
    /// Set if the path is a device whose mode does not let every user open it.
    pub(crate) device: Option<DeviceNode>,
}

/// The owners of the files in cloned mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeIds {
    /// As outside.
    Same,
    /// An id outside is the same id inside. The launch refuses this option if a file system cannot map ids.
    Mapped { option: &'static str },
    /// Likewise; as outside if a file system cannot map ids.
    MappedIfPossible,
}

/// A device file, to make one like it on a file system that can map ids: that of /dev cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNode {
    /// With the type.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) number: u64,
}

impl DeviceNode {
    fn of(found: &fs::Metadata) -> Option<Self> {
        let kind = found.file_type();
        (kind.is_char_device() || kind.is_block_device()).then(|| Self {
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            number: found.rdev(),
        })
    }
}

/// A file that a link in /etc leads to, in a directory of the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkedFile {
    pub(crate) content: Vec<u8>,
    pub(crate) place: Place,
}

/// A directory outside that keeps the layer of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OuterLayer {
    /// Without links.
    pub(crate) path: CString,
    /// The owner of a new upper directory.
    pub(crate) owner: Owner,
}

/// The places that every container with its own root needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnPlaces {
    pub(crate) dev: Place,
    pub(crate) proc: Place,
    /// `None` if the host has none.
    pub(crate) sys: Option<Place>,
    /// Files in /etc: their content, and their places.
    pub(crate) etc: Vec<(Vec<u8>, Place)>,
    /// Directories that a profile makes private.
    pub(crate) private: Vec<Place>,
    /// The devices that the host has: their names in /dev, and their paths.
    pub(crate) devices: Vec<(&'static CStr, &'static CStr)>,
}

/// The facts about files that a plan needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) root: Root,
    /// The directory outside that the root shows, without links.
    pub(crate) source: CString,
    /// Directories of the root to cover.
    pub(crate) patches: Vec<Patch>,
    /// Present if the container has its own root.
    pub(crate) own: Option<OwnPlaces>,
    pub(crate) mounts: Vec<ResolvedMount>,
    /// Files to create after the mounts.
    pub(crate) linked: Vec<LinkedFile>,
    /// The kept layers: the root's, if that has one, and then those of `mounts` in their order.
    pub(crate) layers: Vec<OuterLayer>,
    /// Whether the first of them is the root's.
    pub(crate) keeps_root: bool,
    /// What the container sees of the host, if its profile lists that.
    pub(crate) listed: Option<Arc<Listed>>,
    /// The mounts that the caller clones.
    pub(crate) trees: Vec<CallersTree>,
    /// The number of the clone of `source`; `None` if the child opens that.
    pub(crate) root_tree: Option<u32>,
}

/// Facts about the host that are not about its files.
pub(crate) struct HostContext<'a> {
    /// Whether /sys, /dev/shm and /dev/mqueue will be mounted afresh on the host's root.
    pub(crate) sys: bool,
    pub(crate) shm: bool,
    pub(crate) mqueue: bool,
    /// The hostname that the container will have.
    pub(crate) hostname: &'a [u8],
    /// The caller's home directories, where a profile hides them.
    pub(crate) homes: &'a [CString],
    /// Whether the container has ids of its own, so that it reaches the caller's files only through mounts with mapped
    /// ids.
    pub(crate) own_ids: bool,
}

impl Files {
    /// Whether a plan for `spec` needs these facts.
    pub(crate) fn wanted(spec: &Spec) -> bool {
        spec.rootfs.is_some()
            || !spec.mounts.is_empty()
            || spec.read_only
            || spec.overlay != Overlay::None
            || spec.shows_listed_files_only()
    }

    /// The mounts that the caller clones for overlays.
    fn overlaid(root: &Root) -> Vec<CallersTree> {
        let Root::Stacked(mounts) = root else { return Vec::new() };
        let covered = |mount: &&StackedMount| matches!(mount.cover, Cover::Overlay { .. });
        let tree = |mount: &StackedMount| CallersTree {
            path: mount.source.clone(),
            checked: false,
            recursive: false,
            ids: TreeIds::Same,
            device: None,
        };
        mounts.iter().filter(covered).map(tree).collect()
    }

    /// Gathers the facts.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if an option is wrong: a root that is not a directory, a source that does not exist, a target
    /// that cannot be reached.
    pub(crate) fn gather(spec: &Spec, context: &HostContext<'_>) -> Result<Self, SpecError> {
        let options = check(spec)?;
        let source = match &spec.rootfs {
            Some(path) => sources::directory("rootfs", path)?,
            None => PathBuf::from("/"),
        };
        let needs_table = spec.overlay != Overlay::None
            || spec.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Overlay { .. }));
        let table = if needs_table { mountinfo::read() } else { Vec::new() };
        let mut layers = Vec::new();
        let layer = match &spec.overlay {
            Overlay::Keep(path) => Some(sources::directory("overlay", path)?),
            _ => None,
        };
        let mut gatherer =
            Gatherer::new(spec, &source, layer.as_deref(), &table, &mut layers, context)?;
        let mut trees = std::mem::take(&mut gatherer.trees);
        for mount in &spec.mounts {
            if let MountKind::Overlay { upper: Some(upper), .. } = &mount.kind {
                let upper = sources::directory(mount.option, upper)?;
                sources::layer(mount.option, &upper, Owner::NEW, &mut layers)?;
            }
        }
        let listed = spec.shows_listed_files_only();
        let own =
            (spec.rootfs.is_some() || listed).then(|| gatherer.own_places(context)).transpose()?;
        if own.is_none() {
            gatherer.host_layers(context);
        }
        let first = gatherer.view.layers.len();
        let mut mounts = Vec::new();
        for (mount, options) in spec.mounts.iter().zip(options) {
            let (spot, kind) = gatherer.mount(mount, first, &table)?;
            mounts.push((spot, kind, options));
        }
        let read_only: Vec<usize> = (mounts.iter().enumerate())
            .filter(|(_, (.., options))| options.read_only)
            .map(|(index, _)| first + index)
            .collect();
        let linked = if listed {
            Vec::new()
        } else {
            let links = EtcLinks::of(&source);
            links.hidden_files(&mut gatherer.view, own.as_ref(), &read_only)
        };
        let Finished { root, patches, mut mounts, view } =
            gatherer.finish(mounts, first, context.own_ids)?;
        let listed = match &root {
            Root::Listed(root) => {
                Some(Arc::new(Listed::new(root, view, first, spec.confine.profile)))
            }
            _ => None,
        };
        trees.extend(Self::overlaid(&root));
        if context.own_ids {
            for (mount, given) in mounts.iter_mut().zip(&spec.mounts) {
                mount.clone_source(given.option, &mut trees);
            }
        }
        let source = c_string(source.as_os_str());
        let keeps_root = layer.is_some();
        let clones_root = context.own_ids && spec.rootfs.is_some();
        let root_ids = TreeIds::Mapped { option: "rootfs" };
        let root_tree =
            clones_root.then(|| CallersTree::add(&mut trees, source.clone(), root_ids, None));
        Ok(Self {
            root,
            source,
            patches,
            own,
            mounts,
            linked,
            layers,
            keeps_root,
            listed,
            trees,
            root_tree,
        })
    }
}

impl CallersTree {
    /// Adds a path with the mounts below it, and returns its number.
    fn add(trees: &mut Vec<Self>, path: CString, ids: TreeIds, device: Option<DeviceNode>) -> u32 {
        trees.push(Self { path, checked: false, recursive: true, ids, device });
        trees.len() as u32 - 1
    }

    /// The step of which the clone is a part.
    pub(crate) const fn step(&self) -> Step {
        match (self.checked, self.recursive) {
            (true, _) => Step::MakeRoot,
            (false, true) => Step::MountSource,
            (false, false) => Step::Overlay,
        }
    }

    /// The mounts below the path, outside.
    pub(crate) fn mounts_below(&self) -> Vec<PathBuf> {
        let top = Path::new(OsStr::from_bytes(self.path.to_bytes()));
        let below = |path: &PathBuf| path.starts_with(top) && path != top;
        mountinfo::read().into_iter().map(|mount| mount.path).filter(below).collect()
    }
}

impl ResolvedMount {
    /// Leaves the sources of a bind or an overlay to the caller, since the child may not reach them.
    fn clone_source(&mut self, option: &'static str, trees: &mut Vec<CallersTree>) {
        const OPEN_TO_ALL: u32 = 0o006;
        let source = match &self.kind {
            MountKind::Bind { source } => source,
            MountKind::Overlay { lower, upper: None } => {
                let ids = TreeIds::Mapped { option };
                let add = |path: &CString| CallersTree::add(trees, path.clone(), ids, None);
                self.tree = lower.iter().map(add).reduce(|first, _| first);
                return;
            }
            _ => return,
        };
        let path = Path::new(OsStr::from_bytes(source.to_bytes()));
        let device = fs::metadata(path).ok().as_ref().and_then(DeviceNode::of);
        let closed = device.filter(|device| device.mode & OPEN_TO_ALL != OPEN_TO_ALL);
        let ids = match (device, closed) {
            (None, _) => TreeIds::Mapped { option },
            (_, None) => TreeIds::Same,
            _ => TreeIds::MappedIfPossible,
        };
        self.tree = Some(CallersTree::add(trees, source.clone(), ids, closed));
    }
}

/// The first option that changes files, and its value.
pub(crate) fn changes_of_files(spec: &Spec) -> Option<(&'static str, Value)> {
    let path = |path: &CStr| Value::Shown(format!("{:?}", path.to_string_lossy()));
    if let Some(rootfs) = &spec.rootfs {
        return Some(("rootfs", path(rootfs)));
    }
    if spec.read_only {
        return Some(("read_only", true.into()));
    }
    match &spec.overlay {
        Overlay::None => {}
        Overlay::Keep(layer) => return Some(("overlay", path(layer))),
        Overlay::Discard => return Some(("overlay", true.into())),
    }
    spec.mounts.first().map(|mount| (mount.option, mount.shown().into()))
}

/// Refuses options that are wrong on any machine, and returns the options of each mount.
fn check(spec: &Spec) -> Result<Vec<MountOptions>, SpecError> {
    if !spec.namespaces.contains(Kind::Mount)
        && let Some((option, value)) = changes_of_files(spec)
    {
        return Err(SpecError::new(
            option,
            value,
            Reason::shared_namespace(
                "it would change the caller's files, because the mount namespace is shared",
            ),
            Remedy::with("{}", Kind::Mount.made_new()),
        ));
    }
    if spec.read_only && spec.overlay != Overlay::None {
        return Err(SpecError::new(
            "read_only",
            true,
            Reason::new(
                ReasonKind::Contradiction,
                "it contradicts overlay, which makes the root writable",
            ),
            "Give one of them",
        ));
    }
    let options = |mount: &Mount| {
        mount.components()?;
        mount.parse_options()
    };
    spec.mounts.iter().map(options).collect()
}

/// A path inside, relative to the root.
fn relative(path: &Path) -> CString {
    c_string(path.strip_prefix("/").unwrap_or(path).as_os_str())
}

/// The text comes from the kernel or from a C string, so it contains no NUL.
fn c_string(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}

#[cfg(test)]
mod properties;
