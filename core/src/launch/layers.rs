//! Directories outside that keep the layers of overlays: locked for one container, and opened without following links.
//!
//! Another user may be able to rename entries of such a directory. So its parts are made and opened relative to its
//! descriptor, and a failed launch removes them in the same way. The child opens them again, in its own mount
//! namespace, under the numbers of these descriptors.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, flock,
    mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;

use super::own_ids::{IdRange, give_descriptors};
use super::trees::{clone_tree, map_trees};
use crate::clone::wait::Wait;
use crate::clone::{Creator, NewNamespaces};
use crate::error::{LaunchError, SpawnError};
use crate::host::files::{OuterLayer, Owner};
use crate::host::target::Target;
use crate::plan::Plan;
use crate::step::Step;
use crate::sys::fd::above_stdio;

/// The layers of a launch, the mounts that it has cloned, and its range of ids. Dropped before [`Layers::keep`], the layers
/// lose what the launch has made in them.
#[derive(Debug, Default)]
pub(super) struct Layers {
    kept: Vec<OpenLayer>,
    trees: Vec<OwnedFd>,
    range: Option<IdRange>,
}

/// The locks on the layers of a container, and on its ids.
#[derive(Debug, Default)]
pub(crate) struct LayerLocks {
    layers: Vec<OwnedFd>,
    range: Option<IdRange>,
}

#[derive(Debug)]
struct OpenLayer {
    /// Locked.
    directory: OwnedFd,
    /// The upper and the work directory.
    parts: Vec<OwnedFd>,
    /// The parts that the launch has made.
    made: Vec<&'static CStr>,
}

impl Layers {
    /// Locks and opens the layers of a plan, makes their parts, and clones mounts.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another container uses the layer; the kernel's errors. Then nothing is left.
    pub(super) fn open(plan: &Plan) -> Result<Self, SpawnError> {
        let mut opened = Self::default();
        let about = |step: Step, path: &CStr, error: Errno| {
            let path = OsStr::from_bytes(path.to_bytes());
            SpawnError::new(step, error.raw_os_error()).about(path)
        };
        let pool = plan.maps.as_ref().and_then(|maps| maps.pool);
        opened.range = pool.map(IdRange::take).transpose()?;
        for tree in &plan.trees {
            let cloned = clone_tree(tree).and_then(above);
            opened.trees.push(cloned.map_err(|error| about(tree.step(), &tree.path, error))?);
        }
        for layer in &plan.layers {
            let failed = |error: Errno| about(Step::Overlay, &layer.path, error);
            opened.kept.push(OpenLayer::of(layer).map_err(failed)?);
            let [.., last] = &mut opened.kept[..] else { continue };
            for (name, owner) in [(c"upper", layer.owner), (c"work", Owner::NEW)] {
                last.open_part(name, owner).map_err(failed)?;
            }
        }
        Ok(opened)
    }

    /// Writes the id maps of the process `pid`, which waits for them, and sets up what depends on them.
    pub(super) fn write_id_maps(
        &self,
        plan: &Plan,
        pid: i32,
        wait: &mut Wait<'_>,
    ) -> Result<(), LaunchError> {
        let Some(maps) = &plan.maps else { return Ok(()) };
        if let Some(range) = &self.range {
            let (first_uid, first_gid) = range.first;
            maps.in_range(first_uid, first_gid).write(pid, wait)?;
            give_descriptors(&plan.descriptors, range.first);
        } else {
            maps.write(pid, wait)?;
        }
        if plan.maps_trees() {
            let path = format!("/proc/{pid}/ns/user");
            let namespace = File::open(&path)
                .map_err(|error| SpawnError::from_io(Step::MountSource, &error).about(path))?;
            map_trees(&namespace, &plan.trees, &self.trees)?;
        }
        Ok(())
    }

    /// The namespaces of the child.
    pub(super) fn namespaces(&self, plan: &Plan) -> NewNamespaces {
        let creator = self.range.as_ref().map(|range| Creator(range.first.0));
        NewNamespaces { flags: plan.clone_flags, creator }
    }

    /// Does the same for a command that enters a container, whose maps are written.
    pub(super) fn set_up_for(&self, plan: &Plan, target: &Target) -> Result<(), LaunchError> {
        if let Some(first) = target.first_ids() {
            give_descriptors(&plan.descriptors, first);
        }
        if plan.maps_trees() {
            map_trees(&target.user_namespace()?, &plan.trees, &self.trees)?;
        }
        Ok(())
    }

    /// The numbers of the upper and the work directory of each layer.
    pub(super) fn numbers(&self) -> Vec<[RawFd; 2]> {
        let numbers = |layer: &OpenLayer| [0, 1].map(|part| layer.parts[part].as_raw_fd());
        self.kept.iter().map(numbers).collect()
    }

    /// The numbers of the cloned mounts.
    pub(super) fn trees(&self) -> Vec<RawFd> {
        self.trees.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// All of the descriptors.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let all = |layer: &OpenLayer| {
            let parts = layer.parts.iter().map(AsRawFd::as_raw_fd);
            parts.chain([layer.directory.as_raw_fd()]).collect::<Vec<_>>()
        };
        self.kept
            .iter()
            .flat_map(all)
            .chain(self.trees())
            .chain(self.range.as_ref().map(IdRange::raw_fd))
    }

    /// Launch succeeded: keeps what it has made, and the locks.
    pub(super) fn keep(mut self) -> LayerLocks {
        let layers = self.kept.drain(..).map(|layer| layer.directory).collect();
        LayerLocks { layers, range: self.range.take() }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        for layer in &self.kept {
            for name in &layer.made {
                // Only the failed launch has written there. If this fails, the caller can still remove the rest.
                let _ = remove(layer.directory.as_fd(), name);
            }
        }
    }
}

impl LayerLocks {
    /// Unlocks the layers and the ids, also for other processes that have inherited the descriptors.
    pub(crate) fn release(self) {
        if let Some(range) = self.range {
            range.release();
        }
        for directory in self.layers {
            // Closing it unlocks it, too, if no other process has it.
            let _ = flock(&directory, FlockOperation::Unlock);
        }
    }
}

impl OpenLayer {
    fn of(layer: &OuterLayer) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // The path has no link in it, unless another user has put one there since.
        let how = ResolveFlags::NO_SYMLINKS;
        let directory = openat2(CWD, layer.path.as_c_str(), flags, Mode::empty(), how)?;
        let directory = above(directory)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(Errno::BUSY),
            result => result,
        }?;
        Ok(Self { directory, parts: Vec::new(), made: Vec::new() })
    }

    /// Opens a part of the layer, and makes it if it is missing.
    fn open_part(&mut self, name: &'static CStr, owner: Owner) -> Result<(), Errno> {
        let made = match mkdirat(&self.directory, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error),
        };
        if made {
            self.made.push(name);
        }
        let access = if made { OFlags::RDONLY } else { OFlags::PATH };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let part = above(openat(&self.directory, name, flags, Mode::empty())?)?;
        if made {
            // A plain caller is root inside, so the layer is its own already.
            if nix::unistd::geteuid().is_root() {
                let (user, group) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                // In a user namespace that does not map the owner it stays the caller's.
                match fchown(&part, Some(user), Some(group)) {
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error),
                }
            }
            fchmod(&part, Mode::from_raw_mode(owner.mode))?;
        }
        self.parts.push(part);
        Ok(())
    }
}

fn above(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    above_stdio(fd).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
}

/// Removes a directory and its contents, without following links.
fn remove(parent: impl AsFd, name: &CStr) -> Result<(), Errno> {
    if unlinkat(&parent, name, AtFlags::REMOVEDIR).is_ok() {
        return Ok(());
    }
    let opens = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(&parent, name, opens, Mode::empty()) {
        // overlayfs leaves directories without any permission.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?;
            openat(&parent, name, opens, Mode::empty())?
        }
        opened => opened?,
    };
    fchmod(&directory, Mode::RWXU)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        match unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove(&directory, name)?,
            result => result?,
        }
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR)
}
