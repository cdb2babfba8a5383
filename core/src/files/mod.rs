//! Facts about the files that a container gets: where each of its mounts goes, what is missing there,
//! and what the root has to be put together from. Gathered only for a specification that asks.

mod mountinfo;
mod outer;
mod sources;
mod tree;
mod view;

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub(crate) use outer::{Made, OuterDirectory};
pub(crate) use tree::{Entries, Node, Owner};

use mountinfo::MountPoint;
use tree::Coverer;
use view::{Backing, Spot, View};

use crate::error::SpecError;
use crate::namespaces::Kind;
use crate::spec::{Mount, MountKind, Network, Overlay, Spec};

/// What the container's root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The host's own stays.
    Host,
    /// The directory is bound.
    Directory,
    /// A tmpfs, on which the entries are bound.
    Assembled { owner: Owner, entries: Entries },
    /// One overlay on the directory.
    Overlay { owner: Owner },
    /// The upper directory, with an overlay on each entry.
    Overlays { owner: Owner, entries: Entries },
}

/// A directory inside that is covered by one put together from its own entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Relative to the root.
    pub(crate) at: CString,
    pub(crate) owner: Owner,
    pub(crate) entries: Entries,
}

/// A directory or file to be made in a directory of the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Make {
    /// The directory, relative to the root.
    pub(crate) parent: CString,
    pub(crate) name: CString,
    pub(crate) directory: bool,
}

/// Where a mount goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Relative to the root, without links.
    pub(crate) path: CString,
    /// Mount points to be made just before.
    pub(crate) make: Vec<Make>,
    /// Directories of what was mounted to be replaced just after.
    pub(crate) patches: Vec<Patch>,
    /// What it shows, outside, without links; for an overlay the directory that keeps it comes last.
    pub(crate) sources: Vec<CString>,
}

/// The places of a root of its own that every container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnPlaces {
    pub(crate) dev: Place,
    pub(crate) proc: Place,
    /// Where the host has one.
    pub(crate) sys: Option<Place>,
    /// Files in /etc: what they contain, and where they go.
    pub(crate) etc: Vec<(Vec<u8>, Place)>,
    /// Which of the host's devices there are, by their names in /dev.
    pub(crate) devices: Vec<&'static CStr>,
}

/// Everything that a plan has to know about files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) root: Root,
    /// What the root shows, outside, without links.
    pub(crate) source: CString,
    /// The directory that keeps the writes, outside, without links.
    pub(crate) layer: Option<CString>,
    /// Directories of the root to be replaced.
    pub(crate) patches: Vec<Patch>,
    /// For a root of its own.
    pub(crate) own: Option<OwnPlaces>,
    /// For each mount of the specification's.
    pub(crate) mounts: Vec<Place>,
    /// Made by the caller before anything else.
    pub(crate) directories: Vec<OuterDirectory>,
}

/// The mount point of a kernel file system on the host.
const DEVICES: [&CStr; 6] = [c"null", c"zero", c"full", c"random", c"urandom", c"tty"];

/// What the gatherer needs to know of the host beside its files.
pub(crate) struct Around<'a> {
    /// Whether /sys, /dev/shm and /dev/mqueue will be mounted afresh on the host's root.
    pub(crate) sys: bool,
    pub(crate) shm: bool,
    pub(crate) mqueue: bool,
    /// The hostname that the container will have.
    pub(crate) hostname: &'a [u8],
}

impl Files {
    /// Whether a specification asks for anything that needs these facts.
    pub(crate) fn wanted(spec: &Spec) -> bool {
        spec.rootfs.is_some()
            || !spec.mounts.is_empty()
            || spec.read_only
            || spec.overlay != Overlay::None
    }

    /// Gathers them.
    ///
    /// # Errors
    ///
    /// [`SpecError`] for whatever is wrong with the options: a root that is no directory, a source that
    /// does not exist, a target that cannot be.
    pub(crate) fn gather(spec: &Spec, around: &Around<'_>) -> Result<Self, SpecError> {
        check(spec)?;
        let source = match &spec.rootfs {
            Some(path) => sources::directory("rootfs", path)?,
            None => PathBuf::from("/"),
        };
        let needs_table = spec.overlay != Overlay::None
            || spec.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Overlay { .. }));
        let table = if needs_table { mountinfo::read() } else { Vec::new() };
        let mut directories = Vec::new();
        let layer = match &spec.overlay {
            Overlay::Keep(path) => Some(sources::directory("overlay", path)?),
            _ => None,
        };
        let mut gatherer =
            Gatherer::new(spec, &source, layer.as_deref(), &table, &mut directories)?;
        for mount in &spec.mounts {
            if let MountKind::Overlay { upper: Some(upper), .. } = &mount.kind {
                let upper = sources::directory(mount.option, upper)?;
                sources::layer(mount.option, &upper, Owner::NEW, &mut directories)?;
            }
        }
        let own = spec.rootfs.as_ref().map(|_| gatherer.own_places(around)).transpose()?;
        if own.is_none() {
            gatherer.hosts_layers(around);
        }
        let first = gatherer.view.layers.len();
        let mut spots = Vec::new();
        for mount in &spec.mounts {
            spots.push(gatherer.mount(mount, first, &table)?);
        }
        let (root, patches, mounts) = gatherer.finish(&spots, first)?;
        let source = c_string(source.as_os_str());
        let layer = layer.map(|layer| c_string(layer.as_os_str()));
        Ok(Self { root, source, layer, patches, own, mounts, directories })
    }
}

/// What can be told without looking.
fn check(spec: &Spec) -> Result<(), SpecError> {
    let wanted: [(&'static str, bool); 4] = [
        ("rootfs", spec.rootfs.is_some()),
        ("read_only", spec.read_only),
        ("overlay", spec.overlay != Overlay::None),
        (spec.mounts.first().map_or("mounts", |mount| mount.option), !spec.mounts.is_empty()),
    ];
    if !spec.namespaces.contains(Kind::Mount)
        && let Some((option, _)) = wanted.iter().find(|(_, wanted)| *wanted)
    {
        return Err(SpecError::new(
            option,
            "…",
            "it would change the caller's files, since the mount namespace is shared",
            "Make the mount namespace new: NamespaceOptions.with_mount()",
        ));
    }
    if spec.read_only && spec.overlay != Overlay::None {
        return Err(SpecError::new(
            "read_only",
            "True",
            "it contradicts overlay, which is there to be written to",
            "Give one of them",
        ));
    }
    for mount in &spec.mounts {
        mount.components()?;
        mount.parse()?;
    }
    Ok(())
}

struct Gatherer<'a> {
    spec: &'a Spec,
    view: View,
    root: Root,
}

/// A mount point that a rootfs may lack.
struct Wanted {
    spot: Spot,
    directory: bool,
}

impl<'a> Gatherer<'a> {
    fn new(
        spec: &'a Spec,
        source: &Path,
        layer: Option<&Path>,
        table: &[MountPoint],
        directories: &mut Vec<OuterDirectory>,
    ) -> Result<Self, SpecError> {
        if spec.overlay == Overlay::None {
            let root = if spec.rootfs.is_some() { Root::Directory } else { Root::Host };
            return Ok(Self { spec, view: View::new(Backing::Host(source.to_owned())), root });
        }
        let owner = std::fs::metadata(source).map_or(Owner::NEW, |found| Owner::of(&found));
        let upper = match layer {
            Some(layer) => Some(sources::layer("overlay", layer, owner, directories)?),
            None => None,
        };
        let mut view = View::new(Backing::Overlaid(source.to_owned()));
        let root = if mountinfo::any_below(table, source) {
            let coverer = Coverer { mounts: table, upper: upper.as_deref() };
            let mut binds = Vec::new();
            let entries = coverer.entries(source, Path::new(""), &mut binds).map_err(|error| {
                let reason = format!("{} cannot be covered: {error}", source.display());
                SpecError::new(
                    "overlay",
                    "True",
                    reason,
                    "Unmount what is below it, or pass rootfs",
                )
            })?;
            for bind in binds {
                let outside = source.join(&bind);
                let backing = if outside.is_dir() { Backing::Host(outside) } else { Backing::File };
                view.push(Path::new("/").join(bind), backing);
            }
            Root::Overlays { owner, entries }
        } else {
            Root::Overlay { owner }
        };
        Ok(Self { spec, view, root })
    }

    /// What is mounted on the host's root in any case.
    fn hosts_layers(&mut self, around: &Around<'_>) {
        let new = self.spec.namespaces;
        let layers = [
            (new.contains(Kind::Pid), "/proc", Backing::Kernel),
            (around.sys, "/sys", Backing::Kernel),
            (around.shm, "/dev/shm", Backing::Own),
            (around.mqueue, "/dev/mqueue", Backing::Kernel),
        ];
        for (mounted, at, backing) in layers {
            if mounted {
                self.view.push(at, backing);
            }
        }
    }

    /// /dev, /proc, /sys and the files in /etc of a root that is not the host's.
    fn own_places(&mut self, around: &Around<'_>) -> Result<OwnPlaces, SpecError> {
        let (dev, proc) = (self.own_directory("dev")?, self.own_directory("proc")?);
        let sys =
            Path::new("/sys/kernel").is_dir().then(|| self.own_directory("sys")).transpose()?;
        let etc = self.etc(around)?;
        let layers = [
            (Some(&dev), Backing::Own),
            (Some(&proc), Backing::Kernel),
            (sys.as_ref(), Backing::Kernel),
        ];
        for (spot, backing) in layers {
            if let Some(spot) = spot {
                self.view.push(&spot.path, backing);
            }
        }
        let dev_path = dev.path.clone();
        for (name, backing) in
            [("shm", Backing::Own), ("pts", Backing::Kernel), ("mqueue", Backing::Kernel)]
        {
            self.view.push(dev_path.join(name), backing);
        }
        let place = |gatherer: &Self, spot: &Spot, directory| gatherer.place(spot, directory);
        Ok(OwnPlaces {
            dev: place(self, &dev, true),
            proc: place(self, &proc, true),
            sys: sys.map(|sys| place(self, &sys, true)),
            etc: etc.into_iter().map(|(text, spot)| (text, place(self, &spot, false))).collect(),
            devices: DEVICES
                .into_iter()
                .filter(|name| Path::new("/dev").join(OsStr::from_bytes(name.to_bytes())).exists())
                .collect(),
        })
    }

    fn own_directory(&mut self, name: &str) -> Result<Spot, SpecError> {
        let wrong = |reason: String| {
            let rootfs = self.spec.rootfs.as_deref().unwrap_or(c"/").to_string_lossy();
            let remedy = format!("Make {name} a directory there, or remove it");
            SpecError::of_text("rootfs", rootfs, reason, remedy)
        };
        let spot = self
            .view
            .locate([name.as_bytes()])
            .map_err(|error| wrong(format!("/{name} in it leads nowhere: {error}")))?;
        if spot.directory == Some(false) {
            return Err(wrong(format!("/{name} in it is a file")));
        }
        self.need(&Wanted { spot: spot.clone(), directory: true });
        Ok(spot)
    }

    /// The files in /etc that fit the container, where there is a place for them.
    fn etc(&mut self, around: &Around<'_>) -> Result<Vec<(Vec<u8>, Spot)>, SpecError> {
        let shared = self.spec.network == Some(Network::Host)
            || (self.spec.network.is_none() && !self.spec.namespaces.contains(Kind::Net));
        let resolver = shared.then(|| std::fs::read("/etc/resolv.conf").ok()).flatten();
        let mut hostname = around.hostname.to_vec();
        hostname.push(b'\n');
        let named = self.spec.hostname.is_some();
        let files = [
            ("hosts", Some(sources::hosts(self.spec, around.hostname, shared)), named),
            ("hostname", Some(hostname), false),
            ("resolv.conf", resolver, true),
        ];
        let mut found = Vec::new();
        for (name, content, required) in files {
            let Some(content) = content else { continue };
            // A file in the way, or a loop of links: the root has its reasons.
            let Ok(spot) = self.view.locate([b"etc", name.as_bytes()]) else { continue };
            if spot.directory != Some(true) && (required || self.may_have(&spot)) {
                self.need(&Wanted { spot: spot.clone(), directory: false });
                found.push((content, spot));
            }
        }
        Ok(found)
    }

    /// Whether a file that nobody asked for can be put there without taking anything away: a
    /// directory that gets a mount point it lacks is the container's own afterwards, and what is then
    /// added to it goes with the container.
    fn may_have(&self, spot: &Spot) -> bool {
        let layer = &self.view.layers[spot.layer];
        let Backing::Host(top) = &layer.backing else { return true };
        if !spot.is_missing() || self.spec.read_only {
            return true;
        }
        let assembled = |(path, _): &(PathBuf, bool)| {
            path.parent().is_some_and(|parent| spot.path.starts_with(parent))
                && !path.starts_with(&spot.path)
        };
        if layer.needs.iter().any(assembled) {
            return true;
        }
        let directory = top.join(spot.existing.strip_prefix(&layer.at).unwrap_or(&spot.existing));
        spot.existing != Path::new("/")
            && std::fs::read_dir(directory).is_ok_and(|entries| {
                entries.flatten().all(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            })
    }

    /// Notes a mount point that may be missing.
    fn need(&mut self, wanted: &Wanted) {
        let Wanted { spot, directory } = wanted;
        if !spot.is_missing() {
            return;
        }
        let layer = &mut self.view.layers[spot.layer];
        if matches!(layer.backing, Backing::Host(_)) {
            layer.needs.push((spot.path.clone(), *directory));
        }
        self.view.make(spot, *directory);
    }

    /// Where one of the specification's mounts goes. Layers before `first` are not its own.
    fn mount(
        &mut self,
        mount: &Mount,
        first: usize,
        table: &[MountPoint],
    ) -> Result<(Spot, Vec<CString>), SpecError> {
        let wrong = |reason: String, remedy: &str| {
            SpecError::new(mount.option, mount.shown(), reason, remedy)
        };
        let (directory, backing, sources) = sources::backing(mount, table)?;
        let spot = self.view.locate(mount.components()?).map_err(|error| {
            let remedy = "Mount it where the way there is made of directories";
            wrong(format!("the target cannot be reached inside: {error}"), remedy)
        })?;
        let hidden = |layer: &&view::Layer| layer.at.starts_with(&spot.path);
        if let Some(earlier) = self.view.layers[first..].iter().find(hidden) {
            let reason = format!("it would hide what is mounted at {:?} before", earlier.at);
            return Err(wrong(reason, "Mount it first, or leave one of them out"));
        }
        if spot.path == Path::new("/") {
            let remedy = "Pass rootfs, overlay or read_only instead";
            return Err(wrong("the target leads to the root itself".to_owned(), remedy));
        }
        match spot.directory {
            Some(there) if there != directory => {
                let word = |directory| if directory { "a directory" } else { "a file" };
                let reason =
                    format!("the target is {}, and the source {}", word(there), word(directory));
                return Err(wrong(reason, "Mount a directory on a directory, a file on a file"));
            }
            _ => {}
        }
        self.need(&Wanted { spot: spot.clone(), directory });
        self.view.push(&spot.path, backing);
        Ok((spot, sources))
    }

    /// A place, with what is to be made there if its directory is the container's own. What kernel file
    /// systems have in them nobody knows before; nothing can be made there.
    fn place(&self, spot: &Spot, directory: bool) -> Place {
        let mut make = Vec::new();
        let own =
            matches!(self.view.layers[spot.layer].backing, Backing::Own | Backing::Overlaid(_));
        if spot.is_missing() && own {
            let mut way = spot.existing.clone();
            let missing = spot.path.strip_prefix(&spot.existing).unwrap_or(Path::new(""));
            for name in missing {
                let last = way.join(name) == spot.path;
                let parent = relative(&way);
                way.push(name);
                make.push(Make { parent, name: c_string(name), directory: directory || !last });
            }
        }
        Place { path: relative(&spot.path), make, patches: Vec::new(), sources: Vec::new() }
    }

    fn finish(
        mut self,
        spots: &[(Spot, Vec<CString>)],
        first: usize,
    ) -> Result<(Root, Vec<Patch>, Vec<Place>), SpecError> {
        let mut patches = self.patches(0)?;
        if let Some(index) = patches.iter().position(|patch| patch.at.is_empty()) {
            let Patch { owner, entries, .. } = patches.swap_remove(index);
            self.root = Root::Assembled { owner, entries };
        }
        let mut mounts = Vec::new();
        for (index, ((spot, sources), mount)) in spots.iter().zip(&self.spec.mounts).enumerate() {
            let layer = first + index;
            let mut place = self.place(spot, self.view.layers[layer].backing != Backing::File);
            debug_assert_eq!(self.view.layers[layer].at, spot.path, "one layer for each mount");
            place.patches =
                self.patches(layer).map_err(|error| SpecError { option: mount.option, ..error })?;
            place.sources.clone_from(sources);
            mounts.push(place);
        }
        Ok((self.root, patches, mounts))
    }

    /// The directories of a layer that have to be assembled, none of them below another.
    fn patches(&self, layer: usize) -> Result<Vec<Patch>, SpecError> {
        let layer = &self.view.layers[layer];
        let Backing::Host(top) = &layer.backing else { return Ok(Vec::new()) };
        let outside = |inside: &Path| match inside.strip_prefix(&layer.at) {
            Ok(rest) if rest.as_os_str().is_empty() => top.clone(),
            Ok(rest) => top.join(rest),
            Err(_) => top.clone(),
        };
        let mut tops: Vec<PathBuf> = Vec::new();
        for (path, _) in &layer.needs {
            let there = path
                .ancestors()
                .skip(1)
                .find(|way| *way == layer.at || outside(way).symlink_metadata().is_ok())
                .unwrap_or(&layer.at);
            if !tops.iter().any(|top| there.starts_with(top)) {
                tops.retain(|top| !top.starts_with(there));
                tops.push(there.to_owned());
            }
        }
        let patch = |at: &PathBuf| {
            let directory = outside(at);
            let entries = tree::with_mount_points(&directory, at, &layer.needs)
                .map_err(|error| not_assembled(self.spec, &directory, &layer.needs, &error))?;
            let owner = std::fs::metadata(&directory).map_or(Owner::NEW, |f| Owner::of(&f));
            Ok(Patch { at: relative(at), owner, entries })
        };
        tops.iter().map(patch).collect()
    }
}

fn not_assembled(
    spec: &Spec,
    directory: &Path,
    needs: &[(PathBuf, bool)],
    error: &io::Error,
) -> SpecError {
    let why = if error.raw_os_error() == Some(libc::E2BIG) {
        "it has too many entries to bind each of them".to_owned()
    } else {
        error.to_string()
    };
    let below = needs.iter().map(|(path, _)| path).find(|path| path.starts_with(directory));
    let target = below.or(needs.first().map(|(path, _)| path));
    let value = target.map_or_else(String::new, |path| format!("{:?}", path.display().to_string()));
    let option = if spec.rootfs.is_some() && spec.mounts.is_empty() { "rootfs" } else { "mounts" };
    SpecError::new(
        option,
        value,
        format!(
            "the mount point is missing, and {} cannot get one inside: {why}",
            directory.display()
        ),
        "Make the mount point outside, or pass overlay=True",
    )
}

/// A path inside, relative to the root.
fn relative(path: &Path) -> CString {
    c_string(path.strip_prefix("/").unwrap_or(path).as_os_str())
}

/// Names come from the kernel or from C strings, so there is no NUL in them.
fn c_string(text: &OsStr) -> CString {
    CString::new(text.as_bytes()).unwrap_or_default()
}
