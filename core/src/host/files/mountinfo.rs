//! The mounts of the caller's mount namespace, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::view::is_at_or_below;
use crate::sys::kernel_text::lines;

/// One mount of the caller's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountPoint {
    pub(super) path: PathBuf,
    pub(super) kind: String,
}

/// Every mount that the caller's root directory can reach.
pub(super) fn read() -> Vec<MountPoint> {
    fs::read("/proc/self/mountinfo").map_or_else(|_| Vec::new(), |text| parse(&text))
}

fn parse(text: &[u8]) -> Vec<MountPoint> {
    lines(text)
        .filter_map(|line| {
            let mut fields = line.split(|&byte| byte == b' ');
            let path = unescape(fields.nth(4)?);
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            let kind = String::from_utf8_lossy(kind).into_owned();
            Some(MountPoint { path: PathBuf::from(OsString::from_vec(path)), kind })
        })
        .collect()
}

/// Decodes the kernel's escapes: it writes blanks, newlines and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(value) = value {
            bytes.push(value);
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

/// The uppermost mount at exactly this path.
pub(super) fn at<'a>(mounts: &'a [MountPoint], path: &Path) -> Option<&'a MountPoint> {
    mounts
        .iter()
        .rev()
        .find(|mount| mount.path.as_os_str().as_bytes() == path.as_os_str().as_bytes())
}

/// Whether something is mounted below this path.
pub(super) fn any_below(mounts: &[MountPoint], path: &Path) -> bool {
    below(mounts, path).next().is_some()
}

/// The mounts below this path.
pub(super) fn below<'a>(
    mounts: &'a [MountPoint],
    path: &Path,
) -> impl Iterator<Item = &'a MountPoint> {
    let is_below = move |mount: &Path| is_at_or_below(mount, path) && mount != path;
    mounts.iter().filter(move |mount| is_below(&mount.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_in_a_mount_point_is_read_as_one() {
        let text = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw\n\
                     37 35 0:5 / /proc rw - proc proc rw\n";
        let mounts = parse(text);
        assert_eq!(mounts[0], MountPoint { path: "/mnt/a b".into(), kind: "ext4".into() });
        assert_eq!(at(&mounts, Path::new("/proc")).unwrap().kind, "proc");
        assert!(any_below(&mounts, Path::new("/mnt")));
        assert!(!any_below(&mounts, Path::new("/mnt/a b")));
        assert!(!any_below(&mounts, Path::new("/mn")));
    }
}
