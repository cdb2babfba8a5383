//! The ids outside from which each container of a root caller takes a range of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use super::ids::subordinate_ids;
use crate::error::SpawnError;
use crate::spec::namespaces::Kind;
use crate::spec::seccomp::KernelVersion;
use crate::spec::{IdMap, IdRow, MountKind, Network, Overlay, Spec};

/// The ids of one container: from root's 0 inside to 65535.
pub(crate) const RANGE: u32 = 1 << 16;

/// The ids for a root without subordinate ids. useradd(8) gives out none of them, and systemd, whose containers end
/// below, leaves them unused.
const DOCUMENTED: (u32, u32) = (0x7000_0000, 0x0FFE_0000);

/// The first kernel that maps the ids of a mount.
const ID_MAPPED_MOUNTS: KernelVersion = KernelVersion { major: 5, minor: 12 };

/// Ranges of user ids and of group ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdPool {
    /// The first id of each range.
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl IdPool {
    /// The pool for a container of `spec`; `None` if its ids are mapped in another way, or if the caller cannot map
    /// those of mounts.
    pub(super) fn of_root(
        spec: &Spec,
        (uid_rows, gid_rows): (&[IdRow], &[IdRow]),
        kernel: KernelVersion,
    ) -> Result<Option<&'static Self>, SpawnError> {
        static POOL: OnceLock<IdPool> = OnceLock::new();
        let possible = kernel >= ID_MAPPED_MOUNTS
            && is_first_user_namespace()
            && is_everything(uid_rows)
            && is_everything(gid_rows)
            && may_mount();
        if !possible || !wants_own_ids(spec) {
            return Ok(None);
        }
        if let Some(known) = POOL.get() {
            return Ok(Some(known));
        }
        let ranges = |file| Ok(ranges(&subordinate_ids(file, 0)?));
        let (users, groups) = (ranges("/etc/subuid")?, ranges("/etc/subgid")?);
        Ok(Some(POOL.get_or_init(|| Self { users, groups })))
    }

    /// The first user id and group id of a range; `None` past the last.
    pub(crate) fn range(&self, number: usize) -> Option<(u32, u32)> {
        Some((*self.users.get(number)?, *self.groups.get(number)?))
    }

    /// The number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.users.len().min(self.groups.len())
    }

    /// Whether a user id is in one of the ranges.
    pub(crate) fn contains(&self, uid: u32) -> bool {
        self.users.iter().any(|&first| uid.checked_sub(first).is_some_and(|at| at < RANGE))
    }
}

/// Whether the profile gives a container ids of its own. With an overlay the caller's ids stay, because the layer belongs
/// to them.
fn wants_own_ids(spec: &Spec) -> bool {
    let overlays = |kind: &MountKind| matches!(kind, MountKind::Overlay { .. });
    spec.confine.profile.confinement().own_ids
        && spec.namespaces.contains(Kind::User)
        && spec.namespaces.contains(Kind::Mount)
        && !matches!(spec.network, Some(Network::Join(_)))
        && (&spec.uid_map, &spec.gid_map) == (&IdMap::Caller, &IdMap::Caller)
        && spec.overlay == Overlay::None
        && !spec.mounts.iter().any(|mount| overlays(&mount.kind))
}

/// Whether the caller is in the first user namespace, to which the host's file systems belong. Another one may have the
/// same maps.
fn is_first_user_namespace() -> bool {
    /// The kernel's `PROC_USER_INIT_INO`.
    const FIRST: u64 = 0xEFFF_FFFD;
    fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() == FIRST)
}

fn is_everything(rows: &[IdRow]) -> bool {
    rows == [IdRow { inside: 0, outside: 0, count: u32::MAX }]
}

fn may_mount() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// The first id of each range in the subordinate ids, or in the documented ones if no range is in those.
fn ranges(subordinate: &[(u32, u32)]) -> Vec<u32> {
    let split = |&(first, count): &(u32, u32)| {
        let last = first.saturating_add(count);
        (first..last).step_by(RANGE as usize).filter(move |at| last - at >= RANGE)
    };
    let found: Vec<u32> = subordinate.iter().flat_map(split).collect();
    if found.is_empty() { split(&DOCUMENTED).collect() } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_split_into_whole_ranges() {
        assert_eq!(ranges(&[(100_000, 65_536), (300_000, 131_073)]), [100_000, 300_000, 365_536]);
    }

    #[test]
    fn too_few_subordinate_ids_give_way_to_the_documented_ones() {
        let documented = ranges(&[]);
        assert_eq!(ranges(&[(100_000, 65_535)]), documented);
        assert_eq!(documented.first(), Some(&1_879_048_192));
        assert_eq!(documented.last(), Some(&(2_147_352_576 - RANGE)));
    }

    #[test]
    fn every_id_of_a_range_is_in_the_pool() {
        let pool = IdPool { users: vec![100_000], groups: vec![200_000] };
        let inside = [99_999, 100_000, 165_535, 165_536].map(|uid| pool.contains(uid));
        assert_eq!(inside, [false, true, true, false]);
        assert_eq!(pool.range(0), Some((100_000, 200_000)));
        assert_eq!(pool.range(1), None);
    }
}
