//! Sockets and FIFOs in a directory that the caller mounts: code inside reaches the host's processes through them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::{Notice, Remedy, Setting, quoted};
use crate::spec::{MountKind, Spec};

/// The most entries of a directory that are looked at: the launch waits for this.
const MAX_ENTRIES: usize = 4096;

/// Returns a warning for each bound directory with a socket or FIFO at its top, if the profile lists what it shows.
#[must_use]
pub fn mount_notices(spec: &Spec) -> Vec<Notice> {
    if spec.confine.profile.confinement().view.is_none() {
        return Vec::new();
    }
    let profile = spec.confine.profile.name();
    let mounts = spec.mounts.iter().filter(|mount| mount.option == "mounts");
    let notice = |source: &Path| {
        let (what, path) = first_channel(source)?;
        let reason = format!(
            "mounts shows {what} {} to the code that {{}} confines; a read-only mount refuses no connection",
            quoted(&path)
        );
        let hint = "Mount only those files and directories that the code needs";
        Some(Notice { reason: Remedy::with(reason, Setting::Profile(profile)), hint: hint.into() })
    };
    let sources = mounts.filter_map(|mount| match &mount.kind {
        MountKind::Bind { source } => Some(Path::new(OsStr::from_bytes(source.to_bytes()))),
        _ => None,
    });
    sources.filter_map(notice).collect()
}

/// The first socket or FIFO at the top of a directory.
fn first_channel(directory: &Path) -> Option<(&'static str, PathBuf)> {
    let entries = fs::read_dir(directory).ok()?.take(MAX_ENTRIES).flatten();
    let channels = entries.filter_map(|entry| {
        let kind = entry.file_type().ok()?;
        let what = match () {
            () if kind.is_socket() => "the socket",
            () if kind.is_fifo() => "the FIFO",
            () => return None,
        };
        Some((what, entry.path()))
    });
    channels.min()
}
