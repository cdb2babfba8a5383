//! Works out where each mount goes, in the order in which they are made.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mountinfo::{self, MountPoint};
use super::owners::IdsInside;
use super::shown::{Directory, MOUNT_POINTS};
use super::tree::{self, Coverer, Owner, Preserved};
use super::view::{Backing, Layer, Planned, Spot, View};
use super::{
    CallersTree, Cover, DEVICES, HostContext, OuterLayer, OwnPlaces, Patch, Place, ResolvedMount,
    Root, relative, sources, stack,
};
use crate::error::SpecError;
use crate::host::hosts::own_hosts_file;
use crate::host::settings::settings;
use crate::spec::namespaces::Kind;
use crate::spec::{Mount, MountKind, MountOptions, Overlay, Spec};

pub(super) struct Gatherer<'a> {
    spec: &'a Spec,
    pub(super) view: View,
    root: Root,
    /// The mounts of the root that the caller clones.
    pub(super) trees: Vec<CallersTree>,
}

pub(super) struct Finished {
    pub(super) root: Root,
    pub(super) patches: Vec<Patch>,
    pub(super) mounts: Vec<ResolvedMount>,
    pub(super) view: View,
}

impl<'a> Gatherer<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        source: &Path,
        layer: Option<&Path>,
        table: &[MountPoint],
        layers: &mut Vec<OuterLayer>,
        context: &HostContext<'_>,
    ) -> Result<Self, SpecError> {
        if spec.shows_listed_files_only() {
            return Self::of_listed_files(spec, context);
        }
        if spec.overlay == Overlay::None {
            let root = if spec.rootfs.is_some() { Root::Directory } else { Root::Host };
            return Ok(Self {
                spec,
                view: View::new(Backing::Host(source.to_owned())),
                root,
                trees: Vec::new(),
            });
        }
        let (owner, preserved) = std::fs::metadata(source).map_or_else(
            |_| (Owner::NEW, Preserved::default()),
            |found| (Owner::of(&found), Preserved::of(source, &found)),
        );
        let upper = match layer {
            Some(layer) => Some(sources::layer("overlay", layer, owner, layers)?),
            None => None,
        };
        let mut view = View::new(Backing::Overlaid(source.to_owned()));
        let covers_mounts = mountinfo::any_below(table, source);
        let stacked = (covers_mounts && upper.is_none()).then(|| stack::mounts(source, table));
        let root = if let Some(mounts) = stacked.flatten() {
            for bind in mounts.iter().filter(|mount| matches!(mount.cover, Cover::Bind { .. })) {
                let path = |text: &CString| PathBuf::from(OsStr::from_bytes(text.as_bytes()));
                view.push(Path::new("/").join(path(&bind.path)), Backing::Host(path(&bind.source)));
            }
            Root::Stacked(mounts)
        } else if covers_mounts {
            let coverer = Coverer { mounts: table, upper: upper.as_deref() };
            let mut binds = Vec::new();
            let entries = coverer.entries(source, Path::new(""), &mut binds).map_err(|error| {
                let reason = format!("{} cannot be covered: {}", source.display(), why(&error));
                SpecError::new(
                    "overlay",
                    true,
                    reason,
                    "Unmount the mounts below it, or pass rootfs",
                )
            })?;
            for bind in binds {
                let outside = source.join(&bind);
                let backing = if outside.is_dir() { Backing::Host(outside) } else { Backing::File };
                view.push(Path::new("/").join(bind), backing);
            }
            Root::Overlays { owner, preserved, entries }
        } else {
            Root::Overlay { owner, preserved }
        };
        Ok(Self { spec, view, root, trees: Vec::new() })
    }

    /// A root with nothing of the host but what the profile lists.
    fn of_listed_files(spec: &'a Spec, context: &HostContext<'_>) -> Result<Self, SpecError> {
        if let Overlay::Keep(layer) = &spec.overlay {
            return Err(SpecError::of_text(
                "overlay",
                layer.to_string_lossy(),
                format!(
                    "profile={} makes its root in memory, and no layer of it can be kept",
                    spec.confine.profile
                ),
                "Give rootfs, or an overlay among the mounts",
            ));
        }
        let (mut root, mut trees) = (Directory::default(), Vec::new());
        if let Some(listed) = spec.confine.profile.confinement().view {
            root = Directory::of(spec, listed, context, &mut trees);
            if context.own_ids && spec.overlay != Overlay::None {
                root.clone_covered(&mut trees);
            }
        }
        let mut view = View::new(Backing::Shown);
        for path in MOUNT_POINTS {
            view.plan(0, Path::new(path), Planned::Directory);
        }
        // Only the target of a mount may be anywhere in it.
        if !spec.mounts.is_empty() {
            root.add_layers(Path::new("/"), 0, &mut view);
        }
        Ok(Self { spec, view, root: Root::Listed(Arc::new(root)), trees })
    }

    /// Adds the mounts that every container on the host's root gets.
    pub(super) fn host_layers(&mut self, context: &HostContext<'_>) {
        let new = self.spec.namespaces;
        let layers = [
            (new.contains(Kind::Pid), "/proc", Backing::Kernel),
            (context.sys, "/sys", Backing::Kernel),
            (context.shm, "/dev/shm", Backing::Own),
            (context.mqueue, "/dev/mqueue", Backing::Kernel),
        ];
        for (mounted, at, backing) in layers {
            if mounted {
                self.view.push(at, backing);
            }
        }
        self.profile_layers();
    }

    /// Adds the covers of the profile on the host's root.
    fn profile_layers(&mut self) {
        let confinement = self.spec.confine.profile.confinement();
        if confinement.covers_files() {
            self.view.push("/dev", Backing::Own);
            for (at, backing) in [
                ("/dev/pts", Backing::Kernel),
                ("/dev/shm", Backing::Own),
                ("/dev/mqueue", Backing::Kernel),
            ] {
                self.view.push(at, backing);
            }
        }
    }

    /// The place of a directory inside, if it exists.
    fn directory_at(&self, path: &[u8]) -> Option<Spot> {
        let components = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let spot = self.view.locate(components).ok()?;
        (spot.directory == Some(true) && !spot.is_missing()).then_some(spot)
    }

    /// The directories of the container's own root that a profile makes private. Those in /dev always are, and
    /// are not listed.
    fn private_places(&mut self) -> Vec<Place> {
        let view = self.spec.confine.profile.confinement().view;
        let mut places = Vec::new();
        for path in view.map_or(&[][..], |view| view.private) {
            if path.starts_with("/dev/") {
                continue;
            }
            if let Some(spot) = self.directory_at(path.as_bytes()) {
                places.push(self.place(&spot, true));
                self.view.push(spot.path, Backing::Own);
            }
        }
        places
    }

    /// /dev, /proc, /sys and the files in /etc of a root that is not the host's.
    pub(super) fn own_places(&mut self, context: &HostContext<'_>) -> Result<OwnPlaces, SpecError> {
        let (dev, proc) = (self.own_directory("dev")?, self.own_directory("proc")?);
        let listed = matches!(self.root, Root::Listed(_));
        let sys = (!listed && Path::new("/sys/kernel").is_dir())
            .then(|| self.own_directory("sys"))
            .transpose()?;
        let etc = if listed { Vec::new() } else { self.etc(context) };
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
        let private = if listed { Vec::new() } else { self.private_places() };
        let place = |gatherer: &Self, spot: &Spot, directory| gatherer.place(spot, directory);
        Ok(OwnPlaces {
            private,
            dev: place(self, &dev, true),
            proc: place(self, &proc, true),
            sys: sys.map(|sys| place(self, &sys, true)),
            etc: etc.into_iter().map(|(text, spot)| (text, place(self, &spot, false))).collect(),
            devices: DEVICES
                .into_iter()
                .filter(|(_, path)| rustix::fs::stat(*path).is_ok())
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
        self.need(&spot, true);
        Ok(spot)
    }

    /// The files that the container gets in /etc, and their places.
    fn etc(&mut self, context: &HostContext<'_>) -> Vec<(Vec<u8>, Spot)> {
        let shared = self.spec.shares_network();
        let resolver = shared.then(|| settings("/etc/resolv.conf")).flatten();
        let mut hostname = context.hostname.to_vec();
        hostname.push(b'\n');
        let named = self.spec.hostname.is_some();
        let files = [
            ("hosts", Some(own_hosts_file(self.spec, context.hostname, shared)), named),
            ("hostname", Some(hostname), false),
            ("resolv.conf", resolver, true),
        ];
        let mut found = Vec::new();
        for (name, content, required) in files {
            let Some(content) = content else { continue };
            // Leave the file out if a file is in the way or the links loop: the root was built that way.
            let Ok(spot) = self.view.locate([b"etc", name.as_bytes()]) else { continue };
            if spot.directory != Some(true) && (required || self.may_have(&spot)) {
                self.need(&spot, false);
                found.push((content, spot));
            }
        }
        found
    }

    /// Whether a file that no option asked for may be put there. To get a missing mount point its directory is
    /// assembled, and then the container's files in it are lost at its end.
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
        let existing = spot.existing();
        let directory = top.join(existing.strip_prefix(&layer.at).unwrap_or(existing));
        existing != Path::new("/")
            && std::fs::read_dir(directory).is_ok_and(|entries| {
                entries.flatten().all(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            })
    }

    /// Records a mount point, for a directory or a file, if it is missing.
    fn need(&mut self, spot: &Spot, directory: bool) {
        if !spot.is_missing() {
            return;
        }
        let own = self.may_make(spot);
        let layer = &mut self.view.layers[spot.layer];
        if !own {
            layer.needs.push((spot.path.clone(), directory));
        }
        self.view.plan_mount_point(spot, directory);
    }

    /// Whether a mount point can be made in place, because its directory is the container's own. In an overlay root
    /// inside must be able to write there, so the owner of the directory needs an id inside. In a plain caller's
    /// container only the caller has one. Root has every id, unless its own user namespace lacks the owner's.
    fn may_make(&self, spot: &Spot) -> bool {
        let layer = &self.view.layers[spot.layer];
        match &layer.backing {
            Backing::Host(_) | Backing::Shown => false,
            Backing::Own | Backing::Kernel | Backing::File => true,
            Backing::Overlaid(top) => {
                let caller = nix::unistd::geteuid();
                let outside = |inside: &Path| match inside.strip_prefix(&layer.at) {
                    Ok(rest) => top.join(rest),
                    Err(_) => top.clone(),
                };
                let there = spot
                    .path
                    .ancestors()
                    .skip(1)
                    .find_map(|way| Some((way, outside(way).symlink_metadata().ok()?)));
                let Some((way, found)) = there else { return true };
                let overlays = spot.layer == 0 && matches!(self.root, Root::Overlays { .. });
                let is_top = way == layer.at || (overlays && way.parent() == Some(&layer.at));
                let own = found.uid() == caller.as_raw();
                is_top || own || (caller.is_root() && !is_refused(&outside(way)))
            }
        }
    }

    /// Resolves a mount of the specification to its place. The layers before `first` come from the root and the
    /// profile.
    pub(super) fn mount(
        &mut self,
        mount: &Mount,
        first: usize,
        table: &[MountPoint],
    ) -> Result<(Spot, MountKind), SpecError> {
        let wrong = |reason: String, remedy: &'static str| {
            SpecError::new(mount.option, mount.shown(), reason, remedy)
        };
        let (directory, backing, kind) = sources::resolve(mount, table)?;
        let spot = self.view.locate(mount.components()?).map_err(|error| {
            let remedy = "Choose a target whose parents are directories";
            wrong(format!("the target cannot be reached inside: {error}"), remedy)
        })?;
        let hidden = |layer: &&Layer| layer.at.starts_with(&spot.path);
        if let Some(earlier) = self.view.layers[first..].iter().find(hidden) {
            let reason = format!("it would hide the earlier mount at {}", earlier.at.display());
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
        self.need(&spot, directory);
        self.view.push(&spot.path, backing);
        Ok((spot, kind))
    }

    /// A place, with the missing directories and files to make for it if their directory is the container's own. A
    /// file system of the kernel needs none: nothing can be made in it, and its entries are not known yet.
    fn place(&self, spot: &Spot, directory: bool) -> Place {
        let made = spot.is_missing() && self.may_make(spot);
        let make = if made { spot.make(directory) } else { Vec::new() };
        Place { path: relative(&spot.path), make }
    }

    pub(super) fn finish(
        mut self,
        found: Vec<(Spot, MountKind, MountOptions)>,
        first: usize,
        own_ids: bool,
    ) -> Result<Finished, SpecError> {
        if let Root::Listed(root) = &mut self.root {
            let root = Arc::make_mut(root);
            let layers = self.view.layers[..first].iter();
            for (path, directory) in layers
                .filter(|layer| layer.backing == Backing::Shown)
                .flat_map(|layer| &layer.needs)
            {
                root.add_mount_point(path, *directory);
            }
        }
        let mut patches = self.patches(0)?;
        if matches!(self.root, Root::Listed(_)) {
            for layer in 1..first {
                patches.extend(self.patches(layer)?);
            }
        }
        if let Some(index) = patches.iter().position(|patch| patch.at.is_empty()) {
            let Patch { owner, entries, .. } = patches.swap_remove(index);
            self.root = Root::Assembled { owner, entries };
        }
        let mut mounts = Vec::new();
        for (index, (spot, kind, options)) in found.into_iter().enumerate() {
            let layer = first + index;
            let place = self.place(&spot, self.view.layers[layer].backing != Backing::File);
            debug_assert_eq!(self.view.layers[layer].at, spot.path, "one layer for each mount");
            let option = self.spec.mounts[index].option;
            let patches = self.patches(layer).map_err(|error| SpecError { option, ..error })?;
            mounts.push(ResolvedMount { kind, options, place, tree: None, patches });
        }
        let ids = IdsInside::of(self.spec, own_ids);
        self.root.translate(&ids);
        for patch in
            patches.iter_mut().chain(mounts.iter_mut().flat_map(|mount| &mut mount.patches))
        {
            patch.translate(&ids);
        }
        Ok(Finished { root: self.root, patches, mounts, view: self.view })
    }

    /// The directories of a layer that must be assembled. None of them is below another.
    fn patches(&self, layer: usize) -> Result<Vec<Patch>, SpecError> {
        let layer = &self.view.layers[layer];
        let (Backing::Host(top) | Backing::Overlaid(top)) = &layer.backing else {
            return Ok(Vec::new());
        };
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

/// Why a directory cannot be assembled.
fn why(error: &io::Error) -> String {
    if error.raw_os_error() == Some(libc::E2BIG) {
        return "a directory has too many entries to bind each one".to_owned();
    }
    error.to_string()
}

fn not_assembled(
    spec: &Spec,
    directory: &Path,
    needs: &[(PathBuf, bool)],
    error: &io::Error,
) -> SpecError {
    let why = why(error);
    let below = needs.iter().map(|(path, _)| path).find(|path| path.starts_with(directory));
    let target = below.or(needs.first().map(|(path, _)| path));
    let value = target.map_or_else(String::new, |path| format!("{:?}", path.display().to_string()));
    let option = if spec.rootfs.is_some() && spec.mounts.is_empty() { "rootfs" } else { "mounts" };
    SpecError::new(
        option,
        value,
        format!(
            "the mount point is missing, and cannot be added to {} inside: {why}",
            directory.display()
        ),
        "Make the mount point outside, or pass overlay",
    )
}

/// Whether the caller lacks the permission to write in a directory. Root lacks it if the owner has no id in root's user
/// namespace. The owner's number tells nothing: without an id it shows as 65534, which may be mapped, too.
fn is_refused(directory: &Path) -> bool {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    accessat(CWD, directory, Access::WRITE_OK, AtFlags::empty()) == Err(rustix::io::Errno::ACCESS)
}
