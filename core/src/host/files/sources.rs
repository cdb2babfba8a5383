//! Resolves the sources of mounts: directories and files outside.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mountinfo::{self, MountPoint};
use super::view::Backing;
use super::{OuterLayer, Owner, c_string};
use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest;
use crate::spec::{Mount, MountKind};

fn path_of(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// Resolves a directory outside to a path without links.
pub(super) fn directory(option: &'static str, path: &CStr) -> Result<PathBuf, SpecError> {
    let wrong = |reason: String, remedy: String| {
        let reason = Reason::new(ReasonKind::Outside, reason);
        SpecError::of_text(option, path.to_string_lossy(), reason, remedy)
    };
    let outside = path_of(path);
    let found = fs::canonicalize(outside)
        .map_err(|error| wrong(reason(&error), remedy(outside, &error)))?;
    if found.is_dir() {
        Ok(found)
    } else {
        Err(wrong("it is not a directory".to_owned(), "Give a directory".to_owned()))
    }
}

/// Adds a directory that keeps a layer to `layers`, and returns the upper directory in it.
pub(super) fn layer(
    option: &'static str,
    layer: &Path,
    owner: Owner,
    layers: &mut Vec<OuterLayer>,
) -> Result<PathBuf, SpecError> {
    const REMEDY: &str =
        "Give a directory that contains only the directories upper and work, or nothing";
    for name in ["upper", "work"] {
        let path = layer.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_dir()) {
            return Err(SpecError::of_text(
                option,
                path.to_string_lossy(),
                Reason::new(ReasonKind::Outside, "it is not a directory"),
                REMEDY,
            ));
        }
    }
    let work = layer.join("work");
    if let Some(name) = foreign_entry(&work) {
        let name = name.to_string_lossy();
        return Err(SpecError::of_text(
            option,
            work.to_string_lossy(),
            Reason::new(
                ReasonKind::Outside,
                format!("it contains {name:?}, so it is not the work directory of an overlay"),
            ),
            REMEDY,
        ));
    }
    layers.push(OuterLayer { path: c_string(layer.as_os_str()), owner });
    Ok(layer.join("upper"))
}

/// Returns an entry of a work directory that neither the kernel nor an earlier container has made.
///
/// A container makes one numbered directory for each overlay of the root; the kernel makes `work` and `index`.
fn foreign_entry(work: &Path) -> Option<OsString> {
    let mut names = fs::read_dir(work).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    let is_known = |name: &OsString| {
        name == "work" || name == "index" || name.as_bytes().iter().all(u8::is_ascii_digit)
    };
    names.find(|name| !is_known(name))
}

/// Resolves a mount: whether it shows a directory, its backing, and its kind with paths without links.
pub(super) fn resolve(
    mount: &Mount,
    table: &[MountPoint],
) -> Result<(bool, Backing, MountKind), SpecError> {
    let own = |directory, backing| Ok((directory, backing, mount.kind.clone()));
    let shows = |path: &CStr| format!("{:?}", path.to_string_lossy());
    match &mount.kind {
        MountKind::Bind { source } => {
            let outside = path_of(source);
            let found = fs::canonicalize(outside)
                .and_then(|path| Ok((fs::metadata(&path)?.is_dir(), path)))
                .map_err(|error| {
                    let reason = format!("the source {}: {}", shows(source), reason(&error));
                    let remedy = remedy(outside, &error);
                    let reason = Reason::new(ReasonKind::Outside, reason);
                    SpecError::new(mount.option, mount.shown(), reason, remedy)
                })?;
            let (directory, path) = found;
            let kind = MountKind::Bind { source: c_string(path.as_os_str()) };
            let backing = if directory { Backing::Host(path) } else { Backing::File };
            Ok((directory, backing, kind))
        }
        MountKind::Overlay { lower, upper } => {
            let resolved = |path: &CString| {
                let found = directory(mount.option, path)?;
                if let Some(below) = mountinfo::below(table, &found).next() {
                    return Err(SpecError::of_text(
                        mount.option,
                        path.to_string_lossy(),
                        format!(
                            "{} is mounted below it, which an overlay cannot show",
                            below.path.display()
                        ),
                        "Give a directory with nothing mounted below it",
                    ));
                }
                Ok(found)
            };
            let lower = lower.iter().map(resolved).collect::<Result<Vec<_>, SpecError>>()?;
            let upper = upper.as_ref().map(resolved).transpose()?;
            let kind = MountKind::Overlay {
                lower: lower.iter().map(|path| c_string(path.as_os_str())).collect(),
                upper: upper.map(|path| c_string(path.as_os_str())),
            };
            let first = lower.into_iter().next().unwrap_or_default();
            Ok((true, Backing::Overlaid(first), kind))
        }
        MountKind::Tmpfs { .. } => own(true, Backing::Own),
        MountKind::Content { .. } => own(false, Backing::File),
        MountKind::Proc | MountKind::Sysfs | MountKind::Devpts | MountKind::Mqueue => {
            own(true, Backing::Kernel)
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "the caller may not access it".to_owned(),
        _ => error.to_string(),
    }
}

/// Suggests the nearest existing name if the last component does not exist.
fn remedy(path: &Path, error: &io::Error) -> String {
    let near = || {
        let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
        let names: Vec<String> = fs::read_dir(parent)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        let near = nearest(name, names.iter().map(String::as_str))?;
        Some(format!("Did you mean {:?}?", parent.join(near).display().to_string()))
    };
    match error.kind() {
        io::ErrorKind::NotFound => {
            near().unwrap_or_else(|| "Give a path that exists outside".to_owned())
        }
        _ => "Give a path that the caller can reach".to_owned(),
    }
}
