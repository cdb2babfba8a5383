//! Translates the owners of files outside to ids inside.

use super::tree::SET_IDS;
use super::{Cover, Entries, Node, Owner, Patch, Root};
use crate::host::id_pool::RANGE;
use crate::host::ids::inside_of;
use crate::spec::namespaces::Kind;
use crate::spec::{IdMap, Spec};

/// The map from owners of files outside to ids inside.
pub(super) struct IdsInside<'a> {
    spec: &'a Spec,
    is_root: bool,
    /// Whether the container has ids of its own.
    own_ids: bool,
}

impl<'a> IdsInside<'a> {
    pub(super) fn of(spec: &'a Spec, own_ids: bool) -> Self {
        Self { spec, is_root: nix::unistd::geteuid().is_root(), own_ids }
    }

    /// The id inside of `outside`; root if it is not mapped.
    fn id(&self, map: &IdMap, outside: u32) -> u32 {
        match map {
            _ if !self.spec.namespaces.contains(Kind::User) && self.is_root => outside,
            IdMap::Caller if self.own_ids && outside >= RANGE => 0,
            IdMap::Caller if self.is_root => outside,
            IdMap::Rows(rows) => inside_of(rows, outside).unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether both ids have an id inside.
    fn keeps(&self, owner: Owner) -> bool {
        let user = self.spec.namespaces.contains(Kind::User);
        let maps = |map: &IdMap, outside, callers: u32| match map {
            _ if self.is_root && !user => true,
            IdMap::Caller if self.own_ids => outside < RANGE,
            IdMap::Caller if self.is_root => true,
            IdMap::Rows(rows) => inside_of(rows, outside).is_some(),
            _ => outside == callers,
        };
        maps(&self.spec.uid_map, owner.uid, nix::unistd::geteuid().as_raw())
            && maps(&self.spec.gid_map, owner.gid, nix::unistd::getegid().as_raw())
    }

    fn translate(&self, owner: &mut Owner) {
        owner.uid = self.id(&self.spec.uid_map, owner.uid);
        owner.gid = self.id(&self.spec.gid_map, owner.gid);
    }

    fn translate_all(&self, entries: &mut Entries) {
        for (_, node) in entries {
            match node {
                Node::Bind { owner, .. } | Node::Overlay { owner, .. } => self.translate(owner),
                Node::Copy { owner, .. } => {
                    if !self.keeps(*owner) {
                        // It would run as root inside.
                        owner.mode &= !SET_IDS;
                    }
                    self.translate(owner);
                }
                Node::Assembled { owner, entries, .. } => {
                    self.translate(owner);
                    self.translate_all(entries);
                }
                Node::Symlink(_) | Node::Directory | Node::File => {}
            }
        }
    }
}

impl Root {
    pub(super) fn translate(&mut self, ids: &IdsInside<'_>) {
        match self {
            Self::Host | Self::Directory | Self::Listed(_) => {}
            Self::Stacked(mounts) => {
                for mount in mounts {
                    if let Cover::Overlay { owner, .. } = &mut mount.cover {
                        ids.translate(owner);
                    }
                }
            }
            Self::Overlay { owner, .. } => ids.translate(owner),
            Self::Assembled { owner, entries } | Self::Overlays { owner, entries, .. } => {
                ids.translate(owner);
                ids.translate_all(entries);
            }
        }
    }
}

impl Patch {
    pub(super) fn translate(&mut self, ids: &IdsInside<'_>) {
        ids.translate(&mut self.owner);
        ids.translate_all(&mut self.entries);
    }
}
