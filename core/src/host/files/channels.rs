//! Sockets and FIFOs in a directory that a container shows: code inside reaches the host's processes through them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::shown::path_of;
use crate::error::{Notice, Remedy, Setting, quoted};
use crate::spec::{MountKind, Spec};

/// The most entries of a directory that are looked at: the launch waits for this.
const MAX_ENTRIES: usize = 4096;

/// The most directories whose entries are remembered.
const MAX_KNOWN: usize = 256;

/// Returns a warning for each directory with a socket or FIFO at its top, if the profile lists what it shows: the
/// directories that are bound, and those that are shown with a function.
#[must_use]
pub fn mount_notices(spec: &Spec) -> Vec<Notice> {
    if spec.confine.profile.confinement().view.is_none() {
        return Vec::new();
    }
    let profile = || Setting::Profile(spec.confine.profile.name());
    let asked = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source } if mount.option == "mounts" => Some(path_of(source)),
        _ => None,
    });
    let mut notices = Vec::new();
    let mut named = Vec::new();
    for (what, path) in asked.filter_map(channel_in) {
        let reason = format!(
            "mounts shows {what} {} to the code that {{}} confines; a read-only mount refuses no connection",
            quoted(&path)
        );
        let hint = "Mount only those files and directories that the code needs";
        notices.push(Notice { reason: Remedy::with(reason, profile()), hint: hint.into() });
        named.push(path);
    }
    for (what, path) in spec.shown.iter().filter_map(|shown| channel_in(&shown.path)) {
        // Several paths may lead to one directory.
        if named.contains(&path) {
            continue;
        }
        let reason = format!(
            "{{}} shows {what} {} to the code, with the files that it is made of; a read-only mount refuses no \
             connection",
            quoted(&path)
        );
        let hint = "Move it to a directory that is not shown";
        notices.push(Notice { reason: Remedy::with(reason, profile()), hint: hint.into() });
        named.push(path);
    }
    notices
}

/// The kind and the name of an entry that is a socket or a FIFO.
type Channel = (&'static str, PathBuf);

/// The first socket or FIFO at the top of a directory. Remembered until the directory changes.
fn channel_in(directory: &Path) -> Option<Channel> {
    /// The device, the inode and the time of the last change of a directory.
    type Version = [i64; 4];
    static KNOWN: Mutex<BTreeMap<Version, Option<Channel>>> = Mutex::new(BTreeMap::new());
    /// A second change within a tick of the kernel's clock leaves the time as it is.
    const SETTLED: Duration = Duration::from_secs(1);
    let found = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
    let version = [found.dev() as i64, found.ino() as i64, found.mtime(), found.mtime_nsec()];
    // Never wait for the lock: a forked child may have inherited it from a thread that held it.
    let mut known = KNOWN.try_lock().ok();
    let remembered = known.as_deref().and_then(|known| known.get(&version)).cloned();
    let channel = remembered.unwrap_or_else(|| {
        let channel = first_channel(directory);
        let is_settled =
            found.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > SETTLED));
        if let (Some(known), true) = (known.as_deref_mut(), is_settled) {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(version, channel.clone());
        }
        channel
    });
    channel.map(|(what, name)| (what, directory.join(name)))
}

/// The first socket or FIFO among the entries of a directory.
fn first_channel(directory: &Path) -> Option<Channel> {
    let entries = fs::read_dir(directory).ok()?.take(MAX_ENTRIES).flatten();
    let channels = entries.filter_map(|entry| {
        let kind = entry.file_type().ok()?;
        let what = match () {
            () if kind.is_socket() => "the socket",
            () if kind.is_fifo() => "the FIFO",
            () => return None,
        };
        Some((what, PathBuf::from(entry.file_name())))
    });
    channels.min()
}
