//! The id maps of a new user namespace, who writes them, and the ids of the child in it.

use std::fmt::Write as _;

use super::call::{Arg, named};
use super::number;
use super::sequence::Sequence;
use crate::error::{Reason, Remedy, SpecError, Value};
use crate::host::Host;
use crate::host::id_pool::{IdPool, RANGE};
use crate::host::ids::{Ids, inside_of, is_mapped};
use crate::spec::namespaces::{Kind, NamespaceOptions};
use crate::spec::{CommandSpec, IdMap, IdRow, Spec};
use crate::step::Step;

/// The most rows that the kernel accepts (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_ROWS: usize = 340;

/// The maps that the parent writes for the child's new user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMaps {
    /// Whether to write "deny" to `/proc/PID/setgroups`, which the kernel requires before an unprivileged `gid_map`.
    pub(crate) deny_setgroups: bool,
    pub(crate) uid: MapRows,
    pub(crate) gid: MapRows,
    /// If present, the launch takes a range of it, and the ids outside count from the first of that range.
    pub(crate) pool: Option<&'static IdPool>,
}

impl IdMaps {
    /// The same maps, with ids outside that count from these.
    pub(crate) fn in_range(&self, first_uid: u32, first_gid: u32) -> Self {
        let (uid, gid) = (self.uid.counted_from(first_uid), self.gid.counted_from(first_gid));
        Self { uid, gid, pool: None, ..*self }
    }
}

/// The rows of one map, and who may write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapRows {
    pub(crate) rows: Vec<IdRow>,
    /// Whether newuidmap(1) or newgidmap(1) writes them, because the caller may not.
    pub(crate) through_helper: bool,
}

impl MapRows {
    /// The content of the map file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for IdRow { inside, outside, count } in &self.rows {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{inside} {outside} {count}");
        }
        text
    }

    /// The same rows, with ids outside that count from `first`.
    fn counted_from(&self, first: u32) -> Self {
        let rows = self.rows.iter().map(|row| IdRow { outside: first + row.outside, ..*row });
        Self { rows: rows.collect(), ..*self }
    }

    fn inside_of(&self, outside: u32) -> Option<u32> {
        inside_of(&self.rows, outside)
    }

    fn maps(&self, inside: u32) -> bool {
        is_mapped(&self.rows, inside)
    }
}

/// Computes the maps of a `new` user namespace, and the ids of the child in it until it changes to the command's
/// user. Returns `None` if the user namespace is shared.
pub(crate) fn maps_of(
    spec: &Spec,
    new: NamespaceOptions,
    command: Option<&CommandSpec>,
    host: &Host,
) -> Result<Option<(IdMaps, Ids)>, SpecError> {
    if !new.contains(Kind::User) {
        for (option, map) in [("uid_map", &spec.uid_map), ("gid_map", &spec.gid_map)] {
            if *map != IdMap::Caller {
                return Err(SpecError::new(
                    option,
                    show(map),
                    Reason::shared_namespace("ids are only mapped in a new user namespace"),
                    Remedy::with("Leave it out, or {}", Kind::User.made_new()),
                ));
            }
        }
        return Ok(None);
    }
    let user = command.and_then(|command| command.user);
    let group = command.and_then(|command| command.group);
    let root = host.uid == 0 && !host.lacks_map_capabilities;
    let own_range = host.id_pool.is_some();
    let uid = MapRequest {
        option: "uid_map",
        wanted_option: "user",
        helper: "/etc/subuid",
        map: &spec.uid_map,
        own: host.uid,
        own_rows: &host.uid_rows,
        subordinate: &host.subordinate_uids,
        wanted: user,
        root,
        own_range,
    }
    .rows()?;
    let gid = MapRequest {
        option: "gid_map",
        wanted_option: "group",
        helper: "/etc/subgid",
        map: &spec.gid_map,
        own: host.gid,
        own_rows: &host.gid_rows,
        subordinate: &host.subordinate_gids,
        wanted: group,
        root,
        own_range,
    }
    .rows()?;
    let ids = Ids {
        uid: first_id("uid_map", "user", &uid, host.uid, user)?,
        gid: first_id("gid_map", "group", &gid, host.gid, group)?,
        change: false,
    };
    let pool = host.id_pool;
    let change = pool.is_some()
        || uid.inside_of(host.uid) != Some(ids.uid)
        || gid.inside_of(host.gid) != Some(ids.gid);
    let deny_setgroups = !root && !gid.through_helper;
    Ok(Some((IdMaps { deny_setgroups, uid, gid, pool }, Ids { change, ..ids })))
}

/// The id of the child while it makes the container: root inside if it is mapped, else the caller's own id, else the
/// command's. It must be mapped, because only a mapped id can create files.
fn first_id(
    option: &'static str,
    wanted_option: &'static str,
    rows: &MapRows,
    own: u32,
    wanted: Option<u32>,
) -> Result<u32, SpecError> {
    let root = rows.maps(0).then_some(0);
    root.or_else(|| rows.inside_of(own)).or(wanted).ok_or_else(|| {
        SpecError::new(
            option,
            show(&IdMap::Rows(rows.rows.clone())),
            "it maps neither root inside nor the caller",
            format!("Set {wanted_option} to one of the mapped ids"),
        )
    })
}

/// The request for one of the two maps, and the caller's ids for it.
struct MapRequest<'a> {
    option: &'static str,
    wanted_option: &'static str,
    helper: &'static str,
    map: &'a IdMap,
    own: u32,
    own_rows: &'a [IdRow],
    subordinate: &'a [(u32, u32)],
    wanted: Option<u32>,
    root: bool,
    /// Whether the launch takes a range of the pool.
    own_range: bool,
}

impl MapRequest<'_> {
    fn rows(&self) -> Result<MapRows, SpecError> {
        let rows = match self.map {
            IdMap::Caller if self.own_range => {
                vec![IdRow { inside: 0, outside: 0, count: RANGE }]
            }
            // The outside ids of the new namespace are the inside ids of the caller's own rows.
            IdMap::Caller if self.root && !self.own_rows.is_empty() => self
                .own_rows
                .iter()
                .map(|row| IdRow { inside: row.inside, outside: row.inside, count: row.count })
                .collect(),
            IdMap::Caller => {
                vec![IdRow { inside: self.wanted.unwrap_or(0), outside: self.own, count: 1 }]
            }
            IdMap::Auto => self.with_subordinate()?,
            IdMap::Rows(rows) => {
                self.check(rows)?;
                rows.clone()
            }
        };
        let own_row = matches!(rows[..], [IdRow { outside, count: 1, .. }] if outside == self.own);
        let rows = MapRows { rows, through_helper: !self.root && !own_row };
        if let Some(wanted) = self.wanted.filter(|&wanted| !rows.maps(wanted)) {
            return Err(SpecError::new(
                self.wanted_option,
                wanted.to_string(),
                format!("{} does not map that id", self.option),
                format!("Add a row (inside, outside, count) with it to {}", self.option),
            ));
        }
        Ok(rows)
    }

    fn with_subordinate(&self) -> Result<Vec<IdRow>, SpecError> {
        let mut rows = vec![IdRow { inside: 0, outside: self.own, count: 1 }];
        let mut inside: u32 = 1;
        for &(outside, count) in self.subordinate {
            rows.push(IdRow { inside, outside, count });
            inside = inside.saturating_add(count);
        }
        if self.subordinate.is_empty() {
            return Err(SpecError::new(
                self.option,
                Value::Word("auto"),
                format!("{} has no row for the caller (id {})", self.helper, self.own),
                "Add one as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
            ));
        }
        Ok(rows)
    }

    fn check(&self, rows: &[IdRow]) -> Result<(), SpecError> {
        let wrong = |reason: String, remedy: &'static str| {
            Err(SpecError::new(self.option, show(self.map), reason, remedy))
        };
        if rows.is_empty() {
            return wrong("it has no row".into(), "Give at least one row (inside, outside, count)");
        }
        if rows.len() > MAX_ROWS {
            return wrong(
                format!("it has {} rows", rows.len()),
                "Give at most 340 rows, the limit of the kernel",
            );
        }
        for row in rows {
            let text = row_text(row);
            if row.count == 0 {
                return wrong(format!("the row {text} maps no id"), "Give a count of at least 1");
            }
            if row.inside.checked_add(row.count).is_none()
                || row.outside.checked_add(row.count).is_none()
            {
                return wrong(
                    format!("the row {text} goes past the last id"),
                    "Give rows that end at 4294967294 or below",
                );
            }
        }
        for (index, row) in rows.iter().enumerate() {
            for other in &rows[..index] {
                let overlap = |a: u32, b: u32| a < b + other.count && b < a + row.count;
                if overlap(row.inside, other.inside) || overlap(row.outside, other.outside) {
                    let reason =
                        format!("the rows {} and {} overlap", row_text(other), row_text(row));
                    return wrong(reason, "Map each id once");
                }
            }
        }
        Ok(())
    }
}

fn row_text(row: &IdRow) -> String {
    format!("({}, {}, {})", row.inside, row.outside, row.count)
}

fn show(map: &IdMap) -> Value {
    match map {
        IdMap::Caller => Value::Word("caller"),
        IdMap::Auto => Value::Word("auto"),
        IdMap::Rows(rows) => {
            let rows: Vec<String> = rows.iter().map(row_text).collect();
            format!("[{}]", rows.join(", ")).into()
        }
    }
}

/// Whether a group has an id inside.
pub(super) fn has_group(spec: &Spec, new: NamespaceOptions, host: &Host, group: u32) -> bool {
    if !new.contains(Kind::User) {
        return host.uid == 0 && is_mapped(&host.gid_rows, group);
    }
    match &spec.gid_map {
        IdMap::Caller => host.uid == 0 && is_mapped(&host.gid_rows, group),
        IdMap::Rows(rows) => is_mapped(rows, group),
        IdMap::Auto => host.subordinate_gids.first().is_some_and(|(_, count)| *count > group),
    }
}

/// Changes to the ids with which the child makes the container: root inside, or another mapped id.
pub(super) fn become_mapped(sequence: &mut Sequence, ids: Ids, host: &Host, shares_memory: bool) {
    let (uid, gid) = (ids.uid, ids.gid);
    if host.id_pool.is_some() {
        sequence
            .call(Step::Groups, number::SETGROUPS, [Arg::Int(0), Arg::Null])
            .note("no group of the caller goes inside");
    }
    sequence.call(Step::Root, number::SETRESGID, [gid.into(), gid.into(), gid.into()]);
    sequence.call(Step::Root, number::SETRESUID, [uid.into(), uid.into(), uid.into()]);
    restore_dumpable(sequence, host, shares_memory);
}

/// Makes memory that is shared with the caller dumpable again after a change of ids.
pub(super) fn restore_dumpable(sequence: &mut Sequence, host: &Host, shares_memory: bool) {
    if shares_memory && host.dumpable {
        let args = [named!(PR_SET_DUMPABLE), 1.into(), 0.into(), 0.into(), 0.into()];
        sequence
            .call(Step::User, number::PRCTL, args)
            .note("the change of ids cleared it in the caller's memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Host {
        Host { uid: 1000, gid: 1000, ..Host::default() }
    }

    fn rows(uid_map: IdMap, host: &Host) -> Result<MapRows, SpecError> {
        let spec = Spec { uid_map, ..Spec::default() };
        maps_of(&spec, spec.namespaces, None, host)
            .map(|maps| maps.expect("a new user namespace").0.uid)
    }

    #[test]
    fn a_plain_caller_becomes_root_inside() {
        let (maps, ids) =
            maps_of(&Spec::default(), NamespaceOptions::all(), None, &plain()).unwrap().unwrap();
        assert_eq!(maps.uid.text(), "0 1000 1\n");
        assert_eq!(maps.gid.text(), "0 1000 1\n");
        assert!(maps.deny_setgroups && !maps.uid.through_helper);
        assert_eq!(ids, Ids { uid: 0, gid: 0, change: false });
    }

    #[test]
    fn a_root_caller_keeps_every_id_that_it_has() {
        let own = vec![
            IdRow { inside: 0, outside: 1000, count: 1 },
            IdRow { inside: 1, outside: 9, count: 5 },
        ];
        let host = Host { uid_rows: own.clone(), gid_rows: own, ..Host::default() };
        assert_eq!(rows(IdMap::Caller, &host).unwrap().text(), "0 0 1\n1 1 5\n");
    }

    #[test]
    fn subordinate_ids_follow_the_caller() {
        let host = Host { subordinate_uids: vec![(100_000, 65_536)], ..plain() };
        let spec = Spec { uid_map: IdMap::Auto, ..Spec::default() };
        let (maps, _) = maps_of(&spec, spec.namespaces, None, &host).unwrap().unwrap();
        assert_eq!(maps.uid.text(), "0 1000 1\n1 100000 65536\n");
        assert!(maps.uid.through_helper && !maps.gid.through_helper);
    }

    #[test]
    fn rows_that_overlap_on_either_side_are_refused() {
        let row = |inside, outside, count| IdRow { inside, outside, count };
        for bad in [
            vec![row(0, 1000, 10), row(5, 5000, 1)],
            vec![row(0, 1000, 10), row(20, 1009, 1)],
            vec![row(0, 1000, 0)],
            vec![row(u32::MAX, 0, 2)],
            vec![],
        ] {
            assert_eq!(rows(IdMap::Rows(bad), &plain()).unwrap_err().option, "uid_map");
        }
        assert!(rows(IdMap::Rows(vec![row(0, 1000, 10), row(10, 5000, 1)]), &plain()).is_ok());
    }
}
