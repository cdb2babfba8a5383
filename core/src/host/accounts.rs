//! The rows of passwd(5) and group(5) in a container that does not see the host's.

use crate::spec::{CommandSpec, IdMap, Spec};

/// Ids below this one belong to the system.
const FIRST_USER: u32 = 1000;

const NOBODY: u32 = 65534;

/// The most rows that are added for mapped ids.
const MOST_MAPPED: u32 = 16;

/// Ids that need a row: many programs fail for a user without a name.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedIds {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl NamedIds {
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// The ids that a specification names, and those of maps with few of them.
pub(super) fn of_spec(spec: &Spec) -> NamedIds {
    let of = |map: &IdMap| match map {
        IdMap::Rows(rows) => {
            let few = rows.iter().filter(|row| row.count <= MOST_MAPPED);
            few.flat_map(|row| (0..row.count).map(|number| row.inside + number)).collect()
        }
        _ => Vec::new(),
    };
    let mut ids = NamedIds { users: of(&spec.uid_map), groups: of(&spec.gid_map) };
    ids.users.extend(&spec.named_users);
    // A made-up row of a user names the group with the same number.
    ids.groups.extend(spec.named_users.iter().chain(&spec.named_groups));
    ids
}

/// The ids of a command. A made-up row of a user names the group with the same number.
pub(super) fn of_command(command: &CommandSpec) -> NamedIds {
    let users: Vec<u32> = command.user.into_iter().collect();
    let more = command.groups.iter().flatten().copied();
    NamedIds { groups: users.iter().copied().chain(command.group).chain(more).collect(), users }
}

/// `content` with the rows that it lacks of `further`. Both are results of [`passwd`] or of [`group`].
pub(super) fn with_rows(content: &[u8], further: &[u8]) -> Vec<u8> {
    let mut content = content.to_owned();
    for row in further.split_inclusive(|&byte| byte == b'\n') {
        if !content.split_inclusive(|&byte| byte == b'\n').any(|known| known == row) {
            content.extend_from_slice(row);
        }
    }
    content
}

/// Makes the content of a file from the host's and the ids that it names.
pub(super) type MakeUp = fn(&[u8], &NamedIds) -> Vec<u8>;

/// The content of /etc/passwd: the accounts of the system and those of `ids`, without comments and hashes.
pub(super) fn passwd(host: &[u8], ids: &NamedIds) -> Vec<u8> {
    let row = |fields: &[&[u8]]| match fields {
        [name, _, user, group, _, home, shell] => {
            Some([*name, b"x", user, group, b"", home, shell].join(&b':'))
        }
        _ => None,
    };
    let missing = |id: u32| format!("user{id}:x:{id}:{id}::/tmp:/bin/sh");
    rows(
        host,
        &ids.users,
        row,
        ("root:x:0:0::/root:/bin/sh", "nobody:x:65534:65534::/:/bin/false"),
        missing,
    )
}

/// The content of /etc/group: the groups of the system and those of `ids`, without members.
pub(super) fn group(host: &[u8], ids: &NamedIds) -> Vec<u8> {
    let row = |fields: &[&[u8]]| match fields {
        [name, _, group, _] => Some([*name, b"x", group, b""].join(&b':')),
        _ => None,
    };
    let missing = |id: u32| format!("group{id}:x:{id}:");
    rows(host, &ids.groups, row, ("root:x:0:", "nogroup:x:65534:"), missing)
}

/// The rows of the system and of `ids`, in the order of the file. `root` and `nobody` replace missing rows.
fn rows(
    host: &[u8],
    ids: &[u32],
    row: impl Fn(&[&[u8]]) -> Option<Vec<u8>>,
    (root, nobody): (&str, &str),
    missing: impl Fn(u32) -> String,
) -> Vec<u8> {
    let mut known = Vec::new();
    let mut rest = Vec::new();
    for line in host.split(|&byte| byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let id = fields.get(2).and_then(|id| std::str::from_utf8(id).ok()?.parse::<u32>().ok());
        let Some(id) = id else { continue };
        if (id < FIRST_USER || id == NOBODY || ids.contains(&id))
            && let Some(row) = row(&fields)
        {
            known.push(id);
            rest.push(row);
        }
    }
    let mut made: Vec<Vec<u8>> = Vec::new();
    if !known.contains(&0) {
        made.push(root.into());
    }
    made.extend(rest);
    if !known.contains(&NOBODY) {
        made.push(nobody.into());
    }
    let named = |id: u32| known.contains(&id) || id == 0 || id == NOBODY;
    made.extend(ids.iter().filter(|&&id| !named(id)).map(|&id| missing(id).into_bytes()));
    made.push(Vec::new());
    made.join(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_no_comment_no_hash_and_no_other_user() {
        let host = b"root:$6$hash:0:0:The Admin:/root:/bin/bash\n\
            alice:x:1000:1000:Alice,Room 3:/home/alice:/bin/zsh\n+@nis::::::\nbroken\n";
        let row = |fields: &[&[u8]]| match fields {
            [name, _, user, group, _, home, shell] => {
                Some([*name, b"x", user, group, b"", home, shell].join(&b':'))
            }
            _ => None,
        };
        let text =
            rows(host, &[1000, 7000], row, ("", "nobody:x:65534:65534::/:/bin/false"), |id| {
                format!("user{id}")
            });
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "root:x:0:0::/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/zsh\n\
             nobody:x:65534:65534::/:/bin/false\nuser7000\n"
        );
        let text = rows(host, &[], row, ("", ""), |_| String::new());
        assert!(!String::from_utf8(text).unwrap().contains("alice"));
    }

    #[test]
    fn rows_of_a_command_are_added_once() {
        let further = b"root:x:0:\nuser7:x:7:\n";
        let once = with_rows(b"root:x:0:\n", further);
        assert_eq!(once, further);
        assert_eq!(with_rows(&once, further), further);
    }
}
