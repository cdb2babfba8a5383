//! Reads files of settings that a container gets a copy of.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The largest file that is copied.
pub(super) const MAX_COPY: u64 = 4 << 20;

pub(super) const READABLE_BY_OTHERS: u32 = 0o004;

/// The content of a file, or of the file that a link leads to, as in [`read_regular`].
pub(super) fn settings(path: &str) -> Option<Vec<u8>> {
    read_regular(Path::new(path), 0)
}

/// The content of a regular file that every user may read. `None` for anything else and for a large file: a device may
/// be endless, and a FIFO may block. `flags` are further ones of open(2).
pub(super) fn read_regular(path: &Path, flags: i32) -> Option<Vec<u8>> {
    let (file, found) = open_regular(path, flags)?;
    if found.mode() & READABLE_BY_OTHERS == 0 || found.len() > MAX_COPY {
        return None;
    }
    let mut content = Vec::with_capacity(found.len() as usize + 1);
    file.take(MAX_COPY).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Opens a regular file for reading; `None` for anything else, which stays closed: to open a FIFO wakes its writer, and to
/// open a device may start it. `flags` are further ones of open(2).
pub(super) fn open_regular(path: &Path, flags: i32) -> Option<(File, Metadata)> {
    try_open_regular(path, flags).ok().flatten()
}

/// Like [`open_regular`], with the error of a file that cannot be opened.
pub(super) fn try_open_regular(path: &Path, flags: i32) -> io::Result<Option<(File, Metadata)>> {
    let open = |path: &Path, flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let place = open(path, libc::O_PATH | flags)?;
    if !place.metadata()?.is_file() {
        return Ok(None);
    }
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = match open(Path::new(&again), 0) {
        // There is no /proc.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            open(path, libc::O_NONBLOCK | libc::O_NOCTTY | flags)?
        }
        file => file?,
    };
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found)))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_regular_file_of_a_usual_size_that_every_user_may_read_is_read() {
        let directory = std::env::temp_dir().join(format!("minidocker-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (file, link) = (directory.join("file"), directory.join("link"));
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let read = |path: &Path| settings(path.to_str().unwrap());
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read(&link).as_deref(), Some(&b"text"[..]));
        assert_eq!(read_regular(&link, libc::O_NOFOLLOW), None);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&file), None);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_len(MAX_COPY + 1).unwrap();
        assert_eq!(read(&file), None);
        assert_eq!(read(&directory), None);
        assert_eq!(settings("/dev/zero"), None);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        use rustix::fs::inotify;
        let directory =
            std::env::temp_dir().join(format!("minidocker-fifo-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (file, fifo) = (directory.join("file"), directory.join("fifo"));
        fs::write(&file, "text").unwrap();
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        let is_opened = |path: &Path| {
            let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
            inotify::add_watch(&watch, path, inotify::WatchFlags::OPEN).unwrap();
            assert_eq!(open_regular(path, 0).is_some(), path == file);
            File::from(watch).read(&mut [0; 64]).is_ok()
        };
        assert!(is_opened(&file));
        assert!(!is_opened(&fifo));
        fs::remove_dir_all(&directory).unwrap();
    }
}
