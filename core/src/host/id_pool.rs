//! The ids outside from which each container of a root caller takes a range of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use super::ids::{parse_rows, subordinate_ids};
use crate::error::SpawnError;
use crate::host::Kernel;
use crate::spec::namespaces::Kind;
use crate::spec::seccomp::KernelVersion;
use crate::spec::{IdMap, IdRow, Mount, MountKind, Network, Overlay, Spec};

/// The ids of one container: from root's 0 inside to 65535.
pub(crate) const RANGE: u32 = 1 << 16;

/// The ids for a root without subordinate ids. useradd(8) gives out none of them, and systemd, whose containers end
/// below, leaves them unused.
const DOCUMENTED: (u32, u32) = (0x7000_0000, 0x0FFE_0000);

/// The first kernel that maps the ids of a mount.
const ID_MAPPED_MOUNTS: KernelVersion = KernelVersion { major: 5, minor: 12 };

/// The first kernel whose overlays cover such mounts.
const ID_MAPPED_LAYERS: KernelVersion = KernelVersion { major: 5, minor: 19 };

/// Ranges of user ids and of group ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdPool {
    /// The first id of each range: those in the subordinate ids, and then the documented ones.
    users: Vec<u32>,
    groups: Vec<u32>,
    /// The number of ranges to try before the others.
    preferred: usize,
}

impl IdPool {
    /// The pool for a container of `spec`; `None` if its ids are mapped in another way, or if the caller cannot map
    /// those of mounts.
    pub(super) fn of_root(
        spec: &Spec,
        (uid_rows, gid_rows): (&[IdRow], &[IdRow]),
        kernel: KernelVersion,
    ) -> Result<Option<&'static Self>, SpawnError> {
        let possible = kernel >= ID_MAPPED_MOUNTS
            && is_first_user_namespace()
            && is_everything(uid_rows)
            && is_everything(gid_rows)
            && may_mount();
        if !possible || !wants_own_ids(spec, kernel) {
            return Ok(None);
        }
        Self::of_this_system().map(Some)
    }

    /// The pool, from the subordinate ids that root had when this process first looked.
    fn of_this_system() -> Result<&'static Self, SpawnError> {
        static POOL: OnceLock<IdPool> = OnceLock::new();
        if let Some(known) = POOL.get() {
            return Ok(known);
        }
        let (users, groups) =
            (subordinate_ids("/etc/subuid", 0)?, subordinate_ids("/etc/subgid", 0)?);
        Ok(POOL.get_or_init(|| Self::new(&users, &groups)))
    }

    fn new(users: &[(u32, u32)], groups: &[(u32, u32)]) -> Self {
        let (mut users, mut groups) = (ranges(users), ranges(groups));
        // A range of users that no range of groups goes with would be useless.
        let preferred = users.len().min(groups.len());
        for found in [&mut users, &mut groups] {
            found.truncate(preferred);
            let documented = ranges(&[DOCUMENTED]).into_iter();
            let new: Vec<u32> = documented.filter(|first| !overlaps(found, *first)).collect();
            found.extend(new);
        }
        Self { users, groups, preferred }
    }

    /// The first user id and group id of each range, in the order in which to try them. Other values of `start` begin
    /// with other ranges.
    pub(crate) fn ranges_from(&self, start: usize) -> impl Iterator<Item = (u32, u32)> {
        let all = self.users.len().min(self.groups.len());
        let turned = move |first: usize, count: usize| {
            (0..count).map(move |at| first + start.wrapping_add(at) % count)
        };
        turned(0, self.preferred)
            .chain(turned(self.preferred, all - self.preferred))
            .map(|at| (self.users[at], self.groups[at]))
    }

    /// Whether a user id is in one of the ranges.
    pub(crate) fn contains(&self, uid: u32) -> bool {
        self.users.iter().any(|&first| uid.checked_sub(first).is_some_and(|at| at < RANGE))
    }
}

/// Whether a user id is in one of the ranges of this system.
pub(crate) fn is_of_a_container(uid: u32) -> bool {
    IdPool::of_this_system().is_ok_and(|pool| pool.contains(uid))
}

/// The first id outside of a map that gives a container a range of its own.
pub(crate) fn first_of_range(rows: &[IdRow]) -> Option<u32> {
    match rows {
        [IdRow { inside: 0, outside: first @ 1.., count: RANGE }] => Some(*first),
        _ => None,
    }
}

/// Whether a root caller's container of `spec` shares the network of one that has a range of ids, and so its ids.
pub(super) fn joins_a_range(spec: &Spec) -> bool {
    let Some(Network::Join(pid)) = spec.network else { return false };
    let first = |file| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        first_of_range(&parse_rows(&text))
    };
    spec.confine.profile.confinement().own_ids
        && spec.namespaces.contains(Kind::Mount)
        && Kernel::running().version >= ID_MAPPED_MOUNTS
        && first("uid_map").is_some()
        && first("gid_map").is_some()
        && may_mount()
}

/// Whether the profile gives a container ids of its own. The caller's ids stay with a layer that is kept, since it
/// belongs to them, with an overlay on a rootfs or on another overlay, and where the kernel lets no overlay cover mounts
/// with mapped ids.
fn wants_own_ids(spec: &Spec, kernel: KernelVersion) -> bool {
    let covers = kernel >= ID_MAPPED_LAYERS;
    let is_possible = |mount: &Mount| match &mount.kind {
        MountKind::Overlay { upper, .. } => covers && upper.is_none(),
        _ => true,
    };
    let root = spec.overlay == Overlay::None
        || (spec.overlay == Overlay::Discard
            && spec.shows_listed_files_only()
            && covers
            && !is_on_overlay("/usr"));
    spec.confine.profile.confinement().own_ids
        && spec.namespaces.contains(Kind::User)
        && spec.namespaces.contains(Kind::Mount)
        && !matches!(spec.network, Some(Network::Join(_)))
        && (&spec.uid_map, &spec.gid_map) == (&IdMap::Caller, &IdMap::Caller)
        && root
        && spec.mounts.iter().all(is_possible)
}

/// Whether the caller is in the first user namespace, to which the host's file systems belong. Another one may have the
/// same maps.
fn is_first_user_namespace() -> bool {
    /// The kernel's `PROC_USER_INIT_INO`.
    const FIRST: u64 = 0xEFFF_FFFD;
    fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() == FIRST)
}

/// Whether a path is on an overlay, as in a container of docker's: it maps no ids.
fn is_on_overlay(path: &str) -> bool {
    /// The kernel's `OVERLAYFS_SUPER_MAGIC`.
    const OVERLAY: i64 = 0x794C_7630;
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type == OVERLAY)
}

fn is_everything(rows: &[IdRow]) -> bool {
    rows == [IdRow { inside: 0, outside: 0, count: u32::MAX }]
}

fn may_mount() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// The first id of each whole range in these ids.
fn ranges(ids: &[(u32, u32)]) -> Vec<u32> {
    let split = |&(first, count): &(u32, u32)| {
        let last = first.saturating_add(count);
        (first..last).step_by(RANGE as usize).filter(move |at| last - at >= RANGE)
    };
    ids.iter().flat_map(split).collect()
}

fn overlaps(ranges: &[u32], first: u32) -> bool {
    ranges.iter().any(|other| other.abs_diff(first) < RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_two(pool: &IdPool, start: usize) -> Vec<(u32, u32)> {
        pool.ranges_from(start).take(2).collect()
    }

    #[test]
    fn subordinate_ids_are_split_into_whole_ranges() {
        assert_eq!(ranges(&[(100_000, 65_536), (300_000, 131_073)]), [100_000, 300_000, 365_536]);
    }

    #[test]
    fn the_documented_ids_follow_the_subordinate_ones() {
        let pool = IdPool::new(&[(100_000, 65_536)], &[(200_000, 131_072)]);
        assert_eq!(first_two(&pool, 0), [(100_000, 200_000), (1_879_048_192, 1_879_048_192)]);
        assert_eq!(first_two(&pool, 7)[0], (100_000, 200_000));
        let all: Vec<_> = pool.ranges_from(7).collect();
        assert_eq!(all.len(), 1 + 4094);
        assert_eq!(all.iter().max(), Some(&(2_147_352_576 - RANGE, 2_147_352_576 - RANGE)));
    }

    #[test]
    fn too_few_subordinate_ids_give_way_to_the_documented_ones() {
        let documented = [(1_879_048_192, 1_879_048_192), (1_879_113_728, 1_879_113_728)];
        assert_eq!(first_two(&IdPool::new(&[], &[]), 0), documented);
        let pool = IdPool::new(&[(100_000, 65_535)], &[(100_000, 65_536)]);
        assert_eq!(first_two(&pool, 0), documented);
    }

    #[test]
    fn no_range_is_in_the_pool_twice() {
        let (first, count) = DOCUMENTED;
        let pool = IdPool::new(&[(first + 1, count - 1)], &[(first, count)]);
        let mut users: Vec<u32> = pool.ranges_from(0).map(|(user, _)| user).collect();
        users.sort_unstable();
        assert!(users.windows(2).all(|pair| pair[1] - pair[0] >= RANGE));
    }

    #[test]
    fn every_id_of_a_range_is_in_the_pool() {
        let pool = IdPool::new(&[(100_000, 65_536)], &[(200_000, 65_536)]);
        let inside = [99_999, 100_000, 165_535, 165_536].map(|uid| pool.contains(uid));
        assert_eq!(inside, [false, true, true, false]);
    }
}
