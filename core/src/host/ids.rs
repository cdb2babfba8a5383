//! User and group ids: the maps between inside and outside, and the caller's subordinate ids.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use super::read;
use crate::error::SpawnError;
use crate::spec::IdRow;
use crate::step::Step;

/// The user and group id of a process inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether the process has to change to them by setresuid(2), because the caller is not mapped to them.
    pub(crate) change: bool,
}

/// The id inside that `outside` is mapped to.
pub(crate) fn inside_of(rows: &[IdRow], outside: u32) -> Option<u32> {
    rows.iter().find_map(|row| {
        let offset = outside.checked_sub(row.outside)?;
        (offset < row.count).then(|| row.inside + offset)
    })
}

/// Whether the id `inside` is mapped.
pub(crate) fn is_mapped(rows: &[IdRow], inside: u32) -> bool {
    rows.iter().any(|row| inside.checked_sub(row.inside).is_some_and(|offset| offset < row.count))
}

/// The rows of a `uid_map` or `gid_map` file.
pub(crate) fn parse_rows(text: &str) -> Vec<IdRow> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(IdRow { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// The rows of the caller's own user and group map. Caches them for the current user namespace, whose maps never
/// change once they are written: opening the files is slow, and every launch by root needs them.
pub(super) fn own_maps() -> Result<(Vec<IdRow>, Vec<IdRow>), SpawnError> {
    /// The user namespace's inode, and the rows.
    type Known = (u64, Vec<IdRow>, Vec<IdRow>);
    static KNOWN: Mutex<Option<Known>> = Mutex::new(None);
    let namespace = fs::metadata("/proc/self/ns/user").map(|found| found.ino()).ok();
    // Never wait for the lock: a forked child may have inherited it from a thread that held it.
    let known = KNOWN.try_lock();
    if let (Some(namespace), Ok(Some((of, uids, gids)))) = (namespace, known.as_deref())
        && *of == namespace
    {
        return Ok((uids.clone(), gids.clone()));
    }
    let rows = |file| Ok(read(file)?.map_or_else(Vec::new, |text| parse_rows(&text)));
    let (uids, gids) = (rows("/proc/self/uid_map")?, rows("/proc/self/gid_map")?);
    if let (Some(namespace), Ok(mut known), false) = (namespace, known, uids.is_empty()) {
        *known = Some((namespace, uids.clone(), gids.clone()));
    }
    Ok((uids, gids))
}

/// Whether the caller may map ids other than its own: as root, with `CAP_SETUID` and `CAP_SETGID`, which an outer
/// container may have dropped.
pub(super) fn may_map_others(uid: u32) -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    uid == 0 && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// The ranges that subuid(5) or subgid(5) give to a user, by name or by number.
pub(super) fn subordinate_ids(file: &str, uid: u32) -> Result<Vec<(u32, u32)>, SpawnError> {
    let Some(text) = read(file)? else { return Ok(Vec::new()) };
    let user = nix::unistd::User::from_uid(uid.into())
        .map_err(|errno| SpawnError::new(Step::Prepare, errno as i32).about("/etc/passwd"))?;
    let name = user.map(|user| user.name);
    let number = uid.to_string();
    let row = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let first = fields.next()?.parse().ok()?;
        let count = fields.next()?.trim().parse().ok()?;
        (owner == number || Some(owner) == name.as_deref()).then_some((first, count))
    };
    Ok(text.lines().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_the_kernel_pads_them() {
        let rows =
            parse_rows("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(
            rows,
            [
                IdRow { inside: 0, outside: 1000, count: 1 },
                IdRow { inside: 1, outside: 100_000, count: 65_536 }
            ]
        );
    }
}
