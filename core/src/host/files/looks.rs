//! What a profile's list meets on the host.
//!
//! An entry is the same for as long as the times of its directory are, and so is the content of a file as long as its
//! own are. So what was made from them need not be made again: to compare the times takes a tenth of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::links::SEARCHABLE_BY_OTHERS;
use crate::host::settings::read_regular;

/// No file system counts its times in longer steps.
const STEP_OF_TIMES: Duration = Duration::from_secs(2);

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    /// A symbolic link, and its target.
    Link(PathBuf),
    File,
}

impl Entry {
    /// The entry that a path names; `None` if there is none, if the caller may not look, and for anything else: a socket,
    /// a FIFO or a device would lead out of the container.
    fn of(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        Some(if found.is_symlink() {
            Self::Link(fs::read_link(path).ok()?)
        } else if found.is_dir() {
            Self::Directory
        } else if found.is_file() {
            Self::File
        } else {
            return None;
        })
    }
}

/// The identity of a file or directory, its mode and its last changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    inode: (u64, u64),
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Times {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            mode: found.mode(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether a change after `now` changes the times.
    fn have_passed(&self, now: SystemTime) -> bool {
        let seconds = self.modified.0.max(self.changed.0);
        let last = UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        now.duration_since(last).is_ok_and(|since| since >= STEP_OF_TIMES)
    }
}

/// What was looked up, each once.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Of the directories of all entries and names, and of the files that were read.
    times: BTreeMap<PathBuf, Option<Times>>,
    entries: BTreeMap<PathBuf, Option<Entry>>,
    names: BTreeMap<PathBuf, Vec<OsString>>,
    /// The paths without links that paths lead to.
    resolved: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl Looks {
    /// Whether the host has not changed since.
    pub(super) fn hold(&self) -> bool {
        self.times.iter().all(|(path, known)| Times::of(path) == *known)
            && self.resolved.iter().all(|(path, known)| fs::canonicalize(path).ok() == *known)
    }

    /// Whether [`Self::hold`] notices every later change. It may miss one right after another.
    pub(super) fn can_be_kept(&self) -> bool {
        let now = SystemTime::now();
        self.times.values().flatten().all(|times| times.have_passed(now))
    }

    /// Takes the times of a file or directory. They come before the look at it, so a change in between shows.
    fn note(&mut self, path: &Path) -> Option<Times> {
        match self.times.get(path) {
            Some(known) => *known,
            None => *self.times.entry(path.to_owned()).or_insert_with(|| Times::of(path)),
        }
    }

    pub(super) fn entry(&mut self, path: &Path) -> Option<&Entry> {
        if !self.entries.contains_key(path) {
            self.note(path.parent().unwrap_or(path));
            self.entries.insert(path.to_owned(), Entry::of(path));
        }
        self.entries.get(path)?.as_ref()
    }

    /// The content of the regular file that a path leads to, if every user can read it and it is of a usual size.
    pub(super) fn content(&mut self, path: &Path) -> Option<Arc<[u8]>> {
        let has_links = path.ancestors().any(|way| matches!(self.entry(way), Some(Entry::Link(_))));
        let path = if has_links {
            let resolve = || fs::canonicalize(path).ok();
            self.resolved.entry(path.to_owned()).or_insert_with(resolve).clone()?
        } else {
            path.to_owned()
        };
        self.entry(&path)?;
        self.note(&path);
        let searchable = |directory: &Path| {
            self.note(directory).is_some_and(|times| times.mode & SEARCHABLE_BY_OTHERS != 0)
        };
        path.ancestors()
            .skip(1)
            .all(searchable)
            .then(|| read_regular(&path, libc::O_NOFOLLOW))?
            .map(Arc::from)
    }

    /// The paths of the host that a pattern matches. `*` stands for any part of a name, once in it.
    pub(super) fn expand(&mut self, pattern: &str) -> Vec<PathBuf> {
        if !pattern.contains('*') {
            return vec![PathBuf::from(pattern)];
        }
        let mut found = vec![PathBuf::from("/")];
        for name in pattern.split('/').filter(|name| !name.is_empty()) {
            if let Some((before, after)) = name.split_once('*') {
                let (before, after) = (before.as_bytes(), after.as_bytes());
                let matches = |name: &&OsString| {
                    let rest = name.as_bytes().strip_prefix(before);
                    rest.is_some_and(|rest| rest.ends_with(after))
                };
                let mut below = Vec::new();
                for directory in found {
                    let names = self.names(&directory).iter().filter(matches);
                    below.extend(names.map(|name| directory.join(name)));
                }
                found = below;
            } else {
                for path in &mut found {
                    path.push(name);
                }
            }
        }
        found
    }

    fn names(&mut self, directory: &Path) -> &[OsString] {
        self.note(directory);
        let list = || {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).collect()
        };
        self.names.entry(directory.to_owned()).or_insert_with(list)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory that exists for one test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("minidocker-looks-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("directory")).unwrap();
            fs::write(path.join("file"), "text").unwrap();
            symlink("file", path.join("link")).unwrap();
            Self(path)
        }

        fn looks(&self) -> Looks {
            let mut looks = Looks::default();
            for name in ["directory", "file", "link", "missing"] {
                looks.entry(&self.0.join(name));
            }
            assert_eq!(looks.content(&self.0.join("link")).as_deref(), Some(&b"text"[..]));
            looks.names(&self.0);
            // Other programs change the directory for temporary files.
            looks.times.retain(|path, _| path.starts_with(&self.0));
            looks
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_change_of_what_was_looked_at_shows() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("replaced", |top| {
                fs::remove_file(top.join("file")).unwrap();
                fs::create_dir(top.join("file")).unwrap();
            }),
            ("longer", |top| fs::write(top.join("file"), "longer").unwrap()),
            ("closed", |top| {
                fs::set_permissions(top.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("other-target", |top| {
                fs::remove_file(top.join("link")).unwrap();
                symlink("directory", top.join("link")).unwrap();
            }),
            ("appeared", |top| drop(File::create(top.join("missing")).unwrap())),
            ("removed", |top| fs::remove_dir(top.join("directory")).unwrap()),
            ("new-name", |top| drop(File::create(top.join("new")).unwrap())),
        ];
        for (name, change) in changes {
            let scratch = Scratch::new(name);
            let looks = scratch.looks();
            assert!(looks.hold(), "before {name}");
            change(&scratch.0);
            assert!(!looks.hold(), "{name}");
        }
    }

    #[test]
    fn what_just_changed_is_not_kept() {
        let scratch = Scratch::new("young");
        let mut looks = scratch.looks();
        assert!(!looks.can_be_kept());
        for times in looks.times.values_mut().flatten() {
            times.modified.0 -= 60;
            times.changed.0 -= 60;
        }
        assert!(looks.can_be_kept());
    }

    #[test]
    fn a_file_that_only_some_may_reach_has_no_content() {
        let scratch = Scratch::new("closed-way");
        let directory = scratch.0.join("directory");
        fs::write(directory.join("file"), "text").unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(Looks::default().content(&directory.join("file")), None);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        assert!(Looks::default().content(&directory.join("file")).is_some());
    }
}
